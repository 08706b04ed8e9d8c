"""A study as its log tells it: events in, trials out; a searcher that is given is told in the same order.

The driver puts each event through the ledger when it writes it, and a study that is continued puts all of them through
it once more. So a searcher that is new sees what the old one saw.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from trainkit.errors import MachineError
from trainkit.search.failures import FirstErrors
from trainkit.search.log import FORMAT, NAME, Event, order_of_json, read_events, space_of_json
from trainkit.trial import Objective, Order, Record, Searcher, Study, Trial, TrialStatus

# The events that bring a trial to rest.
RESTS: Mapping[str, TrialStatus] = {"pause": "paused", "prune": "pruned", "done": "done", "fail": "error"}


@dataclass
class Going:
    """What is known of a trial that is being trained.

    Args:
        until: share of the run to train until.
        ended: the results of its runs that have come to rest, by number.
        stop: why it is pruned, as soon as that is decided.
    """

    until: float
    ended: dict[int, Event] = field(default_factory=dict)
    stop: str = ""


class Ledger:
    """Keeps a study's trials.

    Args:
        study: the study; its records are those that the events so far have made.
        searcher: is told what happens, if there is one.
        batch: results are told when an event ``told`` says so, not as they come.
    """

    def __init__(self, study: Study, searcher: Searcher | None = None, batch: bool = False) -> None:
        self.study = study
        self.searcher = searcher
        self.batch = batch
        self.going: dict[int, Going] = {}
        self.window: list[int] = []  # trials that were taken and are not told yet
        self.given = 0  # trials whose points were the recipe's own and its [[search.start]]
        self.over = ""  # why the search is over
        self.cut: list[int] = []  # trials that were paused when the search was over
        self.seconds = 0.0
        self.drifted = False  # whether another environment than that of earlier trials was accepted
        # What was measured of each trial that is not over, by its runs: the share that was trained, and the figures.
        self.seen: dict[int, dict[int, list[tuple[float, tuple[float, ...]]]]] = {}
        self.since: dict[int, float] = {}  # share of the run that trials began with, where that was another one's
        self.retried: Counter[tuple[int, int]] = Counter()  # runs that were begun again, by trial and part
        self.errors = FirstErrors()
        self._inherited: dict[int, float] = {}  # epochs that trials began with
        self._as_worst: set[int] = set()  # failed trials that are told as the worst value
        self._worst: list[float] = [-math.inf] * len(study.objectives)

    def put(self, event: Event) -> None:
        """Take in an event."""
        act = getattr(self, f"_{event['event']}", None)
        if act is not None:
            act(event)
        elif event["event"] in RESTS:
            self._rest(event)

    def record(self, event: Event) -> Record:
        """The record of the trial that an event is of."""
        return self.study.records[event["trial"]]

    # ------------------------------------------------------------ events

    def _study(self, event: Event) -> None:
        """The study begins; the searcher is told of trials of earlier ones, whose numbers are below 0."""
        for number, earlier in enumerate(event.get("warm", ()), 1):
            trial = Trial(-number, earlier["point"], "done", tuple(earlier["values"]), trained=1.0)
            trial.reports.append((1.0, trial.values[0]))
            self._worsen(trial)
            if self.searcher is not None:
                self.searcher.took(Order(trial.point), trial)
                self.searcher.tell(trial)

    def _ask(self, event: Event) -> None:
        number = event["trial"]
        if number != len(self.study.records):
            raise MachineError(
                f"{self.study.folder / NAME}: trial {number} is asked for where trial {len(self.study.records)} would "
                "be next\n  the log is not as a study writes it; put it right, or begin anew with --fresh"
            )
        order = order_of_json(event["order"])
        point = event.get("point", order.point)
        trial = Trial(number, point, "running", parent=order.parent, changes=dict(order.changes))
        trial.final = order.final
        if order.parent is not None:  # what its run says of itself counts from the other's beginning
            other = self.study.records[order.parent]
            self._inherited[number] = self._inherited.get(order.parent, 0.0) + other.epochs
            self.since[number] = other.trial.trained
        self.study.records.append(Record(trial, note=order.note))
        self.given += "point" in event
        self._took(order, trial)

    def _go(self, event: Event) -> None:
        order, record = order_of_json(event["order"]), self.record(event)
        record.trial.status = "running"
        record.note = order.note or record.note
        self._took(order, record.trial)

    def _took(self, order: Order, trial: Trial) -> None:
        self.going[trial.number] = Going(order.until)
        self.window.append(trial.number)
        if self.searcher is not None:
            self.searcher.took(order, trial)

    def _report(self, event: Event) -> None:
        number, part = event["trial"], event.get("part", 0)
        figures = tuple(math.nan if value is None else value for value in event["figures"])
        shares = self.seen.setdefault(number, {}).setdefault(part, [])
        place = bisect_left(shares, event["trained"], key=itemgetter(0))  # one that a kill had lost comes later
        shares.insert(place, (event["trained"], figures))
        trial = self.record(event).trial
        if part == 0:  # as they come; of trials with several runs the mean takes their place when all have come to rest
            insort(trial.reports, (event["trained"], self.told(figures)[0]), key=itemgetter(0))
            trial.trained = max(trial.trained, event["trained"])
        if event.get("stop") and number in self.going:
            self.going[number].stop = event["stop"]

    def _part(self, event: Event) -> None:
        self.going[event["trial"]].ended[event["part"]] = event

    def _retry(self, event: Event) -> None:
        record = self.record(event)
        record.tries += 1
        self.retried[event["trial"], event.get("part", 0)] += 1
        record.seconds += event.get("seconds", 0.0)

    def _interrupt(self, event: Event) -> None:
        self.record(event).seconds += event["seconds"]

    def _rest(self, event: Event) -> None:
        record, kind = self.record(event), event["event"]
        trial = record.trial
        trial.status = event["status"] if kind == "fail" else RESTS[kind]
        trial.trained = event.get("trained", trial.trained)
        self.errors.add(trial.number, trial.status, event.get("origin", ""))
        record.seconds += event.get("seconds", 0.0)
        record.epochs = max(0.0, event.get("epochs", 0.0) - self._inherited.get(trial.number, 0.0))
        record.message = event.get("message", record.message)
        record.metrics = event.get("metrics", record.metrics)
        record.parts = event.get("parts", record.parts)
        record.spread = tuple(event.get("spread", record.spread))
        if "value" in event:
            record.figures = tuple(event.get("figures", [event["value"]]))
            trial.values = self.told(record.figures)
        if self.study.parts > 1:
            trial.reports[:] = self._means(trial.number)
        if trial.values and kind != "fail" and (not trial.reports or trial.reports[-1][0] < trial.trained):
            trial.reports.append((trial.trained, trial.values[0]))
        if kind == "fail":
            record.figures, trial.values = (), ()
        if trial.over:
            self.seen.pop(trial.number, None)
        self.going.pop(trial.number, None)
        if event.get("told") == "worst":
            self._as_worst.add(trial.number)
        if not self.batch:
            self.window.remove(trial.number)
            self._tell(record)

    def _told(self, event: Event) -> None:
        rested = [number for number in sorted(self.window) if number not in self.going]
        self.window = [number for number in self.window if number in self.going]
        for number in rested:
            self._tell(self.study.records[number])

    def _tell(self, record: Record) -> None:
        trial = record.trial
        if trial.number in self._as_worst:
            trial.values = tuple(value if value > -math.inf else math.inf for value in self._worst)
        else:
            self._worsen(trial)
        if self.searcher is not None:
            self.searcher.tell(trial)

    def _worsen(self, trial: Trial) -> None:
        for place, value in enumerate(trial.values):
            if math.isfinite(value):
                self._worst[place] = max(self._worst[place], value)

    def _end(self, event: Event) -> None:
        self.over = event["reason"]
        for record in self.study.records:
            if record.trial.status == "paused":
                record.trial.status = "pruned"
                self.cut.append(record.trial.number)

    def _widen(self, event: Event) -> None:
        if "trials" in event:
            self.study.trials = event["trials"]
        if "space" in event:
            self.study.space = space_of_json(event["space"])
        for number in self.cut:
            self.study.records[number].trial.status = "paused"
        self.cut, self.over = [], ""

    def _changed(self, event: Event) -> None:
        if self.batch and not event["batch"]:
            self._told(event)
        self.batch = bool(event["batch"])
        self.drifted = self.drifted or event["drift"]
        self.study.searcher = event.get("searcher", self.study.searcher)

    def _winner(self, event: Event) -> None:
        if "trial" in event:  # another winner than before
            self.study.winner.clear()
        self.study.winner.update({key: value for key, value in event.items() if key not in ("event", "time")})

    def _session(self, event: Event) -> None:
        self.seconds += event["seconds"]

    # ------------------------------------------------------------ inside

    def told(self, figures: Iterable[float]) -> tuple[float, ...]:
        """Figures as searchers see them: lower is better."""
        return tuple(
            -value if objective.mode == "max" else value
            for value, objective in zip(figures, self.study.objectives, strict=True)
        )

    def _means(self, number: int) -> list[tuple[float, float]]:
        """What was measured of the first objective at each share, as the mean over all runs of a trial."""
        runs = self.seen.get(number, {})
        if len(runs) < self.study.parts:
            return []
        at: dict[float, list[float]] = {}
        for part in range(self.study.parts):
            for share, figures in runs[part]:
                at.setdefault(share, []).append(self.told(figures)[0])
        return [(share, sum(v) / len(v)) for share, v in sorted(at.items()) if len(v) == self.study.parts]


def study_of(folder: Path, head: Event) -> Study:
    """A study without trials, from the first event of its log.

    Raises:
        MachineError: if it is not such an event.
    """
    try:
        if head["event"] != "study" or head["format"] > FORMAT:
            raise ValueError(f"format {head.get('format')}" if head["event"] == "study" else head["event"])
        objectives = tuple(Objective(figure, mode) for figure, mode in head["objectives"])
        space = space_of_json(head["space"])
        return Study(
            folder, head["searcher"], space, objectives, head["trials"], head["seed"], [], head.get("parts", 1)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MachineError(
            f"{folder / NAME}:1: not how a study's log begins that this version can read ({error})"
        ) from error


def read_study(folder: Path) -> Study:
    """A study as its log has it; also while the search runs.

    Raises:
        MachineError: if there is no log, or it is not one.
    """
    return read_ledger(folder).study


def read_ledger(folder: Path) -> Ledger:
    """A study as its log has it, with what is not of interest to reports.

    Raises:
        MachineError: as `read_study`.
    """
    return replayed(folder)


def replayed(folder: Path, searcher: Searcher | None = None) -> Ledger:
    """Put all events of a log through a new ledger.

    Args:
        folder: the study folder.
        searcher: a new one, which is told of everything once more.

    Raises:
        MachineError: if there is no log, or it is not one.
    """
    events = read_events(folder / NAME)
    head = next(events, None)
    if head is None:
        raise MachineError(f"{folder / NAME}: the study was killed before it began; there is nothing to read")
    ledger = Ledger(study_of(folder, head), searcher, bool(head.get("batch")))
    for place, event in enumerate(itertools.chain([head], events), 1):
        try:
            ledger.put(event)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if searcher is not None:  # it may be the searcher's own
                raise
            raise MachineError(
                f"{folder / NAME}:{place}: not a line that a study writes: {type(error).__name__} {error}"
            ) from error
    return ledger
