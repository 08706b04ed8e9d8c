"""What a search is made of for those who decide what is tried: trials, orders, results; and what a searcher is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from trainkit.space import Point, Space

# waiting and paused trials may go on; the others are over.
TrialStatus = Literal["waiting", "running", "paused", "done", "pruned", "nan", "oom", "timeout", "killed", "error"]
FAILURES: tuple[TrialStatus, ...] = ("nan", "oom", "timeout", "killed", "error")
OVER: tuple[TrialStatus, ...] = ("done", "pruned", *FAILURES)


@dataclass(frozen=True)
class Objective:
    """A figure that a search makes as good as it can.

    Args:
        figure: such as ``val.loss``; also ``parameters`` (how many numbers are trained) and ``seconds``.
        mode: whether lower or higher is better.
    """

    figure: str
    mode: Literal["min", "max"] = "min"


@dataclass
class Trial:
    """One trial as searchers see it.

    Args:
        number: from 0, in the order in which trials were begun; also what its random choices follow from.
        point: its values in the space.
        status: where it stands.
        values: one for each objective, **lower is better**: of a figure that is better when higher the core gives the
            negative. Empty while nothing is known. Of a failure that is told as the worst value, the worst finite one
            of each objective seen so far, infinite where none was.
        reports: what was measured on the way: the share of the run that was trained, 0 to 1, and the first objective,
            lower is better.
        trained: share of its run that is trained, 0 to 1.
        parent: the trial whose checkpoint it began from.
        changes: settings outside the space that its searcher gave it.
        final: whether it may be the search's best, as its order said.
    """

    number: int
    point: Point
    status: TrialStatus = "waiting"
    values: tuple[float, ...] = ()
    reports: list[tuple[float, float]] = field(default_factory=list)
    trained: float = 0.0
    parent: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    final: bool = True

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.status in OVER


@dataclass(frozen=True)
class Order:
    """What a searcher wants done next: a new trial, or a paused one that goes on.

    Args:
        point: values of a new trial; empty for one that goes on.
        trial: the paused trial that goes on; ``None`` for a new one.
        until: share of the run to train until, above 0 and at most 1; the trial pauses at the first evaluation there,
            unless that is its end.
        parent: a new trial begins with the newest checkpoint of this one, which is paused or over, and trains on.
        changes: settings of a new trial outside the space, such as ``{"run.duration": "1ep"}``.
        note: what the log says of it, such as ``stage 2 of 3``.
        final: whether a new trial may be the search's best. One whose run its searcher made shorter, to learn where to
            look, may not: its value cannot be compared with those of whole runs.
    """

    point: Point = field(default_factory=dict)
    trial: int | None = None
    until: float = 1.0
    parent: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    final: bool = True


@dataclass(frozen=True)
class Rung:
    """A level of a search's plan: so many trials are trained from one share of their run to another.

    Args:
        trials: how many, at the most.
        until: share of the run at which it ends.
        since: share of the run at which it begins: 0 for new trials.
        duration: length of those runs where it is not the recipe's.
        name: such as ``rung 1`` or ``stage 2``.
        about: whether it may be some trials more, which depends on the order in which results come.
    """

    trials: int
    until: float = 1.0
    since: float = 0.0
    duration: str = ""
    name: str = ""
    about: bool = False


@runtime_checkable
class Searcher(Protocol):
    """Decides what is tried next. It sees neither processes nor folders, and draws no number that was not seeded.

    `ask` changes nothing: what it gives follows from the seed and from the calls of `took` and `tell` so far. A study
    that is continued makes those calls again, from its log, and goes on as if nothing had happened.
    Random choices for trial ``n`` come from a generator seeded with ``(seed, n)``.

    Beside what is listed a searcher may have:

    ``plan() -> list[Rung]``: how many trials it will train for how long; by default all asked-for trials to their end.

    ``stop(trial) -> str``: called after each evaluation of a running trial with ``trial.reports`` up to date; a reason
    to prune it there, or ``""``. Only where it exists do workers wait for an answer.

    ``exhausted() -> str``: asked when `ask` gives nothing and nothing runs: why there is no more, such as
    ``all 12 points of the grid are tried``.
    """

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """Get ready; called once, before anything else.

        Args:
            space: what is varied.
            objectives: one, or several for a searcher that declares the capability ``multi_objective``.
            trials: how many trials may be begun at the most.

        Raises:
            ValueError: if it cannot search this space; ``message\\ncure`` becomes a problem of the recipe.
        """
        ...

    def ask(self) -> Order | None:
        """What to do next; ``None`` to wait for results, or, where nothing runs, for the end of the search.

        The core may exchange the point of a new trial for a given one (trial 0 is the recipe as written).
        """
        ...

    def took(self, order: Order, trial: Trial) -> None:
        """The order is being carried out.

        Args:
            order: as `ask` gave it; the point may be another one.
            trial: the new trial, or the one that goes on. Its point may lie outside the space where the recipe's own
                values do: ``space.holds(trial.point)`` says so. One of an earlier study, whose results are told before
                any other, is over already and has a number below 0.
        """
        ...

    def tell(self, trial: Trial) -> None:
        """A trial has come to rest: it is paused or over; ``trial.status``, ``values`` and ``reports`` say how."""
        ...


@dataclass
class Record:
    """A trial as a study's log has it: what searchers see of it, and what users want to know.

    Args:
        trial: what searchers see.
        figures: its value of each objective as it was measured, not negated; empty while nothing is known.
        spread: of trials with several runs, the standard deviation of each figure over them.
        metrics: the newest figures, means over its runs; those of ``test`` are not among them.
        parts: the figures of each of its runs.
        seconds: wall seconds of all its runs.
        epochs: epochs trained in all its runs.
        message: what went wrong, in words.
        note: what its searcher said of it.
        tries: how often it was begun again after it was killed.
    """

    trial: Trial
    figures: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    parts: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    epochs: float = 0.0
    message: str = ""
    note: str = ""
    tries: int = 0


@dataclass
class Study:
    """A whole search as its log has it.

    Args:
        folder: the study folder.
        searcher: the searcher's name.
        space: what is varied.
        objectives: what is made good.
        trials: how many trials may be begun.
        seed: the recipe's seed.
        records: all trials so far, by number.
        parts: runs a trial: folds times repeats.
        winner: what was measured of the winner on ``test``, and what its refit gave; empty before.
        findings: what was found out about the results at the end, as ``report.json`` has it; empty before.
    """

    folder: Path
    searcher: str
    space: Space
    objectives: tuple[Objective, ...]
    trials: int
    seed: int
    records: list[Record] = field(default_factory=list)
    parts: int = 1
    winner: dict[str, Any] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)

    def best(self) -> Record | None:
        """The finished trial with the lowest first value, of those that may be the best; of equals the one with the
        lowest second value and so on, so that it is on the front; of those, the first."""
        return min(self._candidates(), key=lambda record: record.trial.values, default=None)

    def ranked(self) -> list[Record]:
        """The finished trials that may be the best, the best first, as `best` goes."""
        return sorted(self._candidates(), key=lambda record: record.trial.values)

    def front(self) -> list[Record]:
        """The Pareto front, best first value first: of those that may be the best, the finished trials that no other
        one beats in every objective."""
        import numpy

        ranked = self.ranked()
        kept: list[Record] = []
        held = numpy.empty((len(ranked), len(self.objectives)))
        for record in ranked:  # whoever beats it comes before it, and is on the front or beaten by one that is
            own, front = numpy.array(record.trial.values), held[: len(kept)]
            if not ((front <= own).all(axis=1) & (front < own).any(axis=1)).any():
                held[len(kept)] = own
                kept.append(record)
        return kept

    def _candidates(self) -> list[Record]:
        trials = [(record, record.trial) for record in self.records]
        return [record for record, trial in trials if trial.final and trial.status == "done" and trial.values]
