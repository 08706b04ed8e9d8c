"""A searcher and an executor that tests look through: trials that are a formula, and no run folders."""

from __future__ import annotations

import math
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

from trainkit.recipe import to_toml
from trainkit.search.driver import Driver
from trainkit.search.ledger import Ledger, read_ledger, study_of
from trainkit.search.log import NAME, StudyLog, read_events, space_as_json
from trainkit.search.plan import Plan
from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Order, Rung, Study, Trial
from trainkit.work import Job, Measured, Outcome, Site

RATE = Dimension("optimizer.lr", "float", 1e-4, 1.0, "log")
SPACE = Space((RATE, Dimension("optimizer.momentum", "float", 0.0, 0.9)))


class Random:
    """Draws points; a third of the trials is trained first, and the better half of those goes on where rungs are on.

    Args:
        seed: of the points.
        rungs: whether trials pause at a third and go on where they are among the best.
        judge: whether trials that are worse than the worst finished one at the same share are pruned.
    """

    def __init__(self, seed: int = 0, rungs: bool = False, judge: bool = False) -> None:
        self.seed, self.rungs = seed, rungs
        self.trials: dict[int, Trial] = {}
        self.calls: list[tuple[Any, ...]] = []
        if judge:
            self.stop = self._stop

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        self.space, self.limit = space, trials

    def ask(self) -> Order | None:
        paused = sorted(
            (t for t in self.trials.values() if t.status == "paused" and t.number >= 0), key=lambda t: t.values
        )
        own = [t for t in self.trials.values() if t.number >= 0]
        if self.rungs and len(paused) >= 4:
            return Order(trial=paused[0].number, note="second rung")
        if len(own) >= self.limit:
            return None
        shares = numpy.random.default_rng([self.seed, len(own)]).random(len(self.space))
        # What was told so far is part of the point, so that any other order of calls gives other points.
        told = sum(1 for t in own if t.over) / 1e6
        return Order(
            {**self.space.at(shares), "optimizer.momentum": float(round(shares[1] * 0.8, 6) + told)},
            until=1 / 3 if self.rungs else 1.0,
        )

    def took(self, order: Order, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.calls.append(("took", trial.number, dict(trial.point), order.until))

    def tell(self, trial: Trial) -> None:
        self.calls.append(("tell", trial.number, trial.status, trial.values, list(trial.reports)))

    def plan(self) -> list[Rung]:
        return [Rung(self.limit)]

    def _stop(self, trial: Trial) -> str:
        done = [t for t in self.trials.values() if t.status == "done"]
        worst = max((t.values[0] for t in done), default=math.inf)
        return "worse than all" if trial.reports[-1][1] > 2 * worst else ""


def loss(point: dict[str, Any], trained: float) -> float:
    """The figure of a trial whose recipe has these settings, after a share of its run."""
    lr, momentum = point["optimizer"]["lr"], point["optimizer"]["momentum"]
    return abs(math.log10(lr) + 2.0) + (1 - trained) * (0.5 + momentum) + 0.01 * point.get("seed", 0)


class Formula:
    """Trials that are over at once; four evaluations each.

    Args:
        fails: gives an outcome for a job instead, or ``None``.
        slots: jobs at once; they come to rest in the order that `pick` gives.
        pick: which of the running jobs ends next.
        seconds: how long each evaluation takes.
    """

    def __init__(
        self,
        fails: Callable[[Job], Outcome | None] = lambda job: None,
        slots: int = 1,
        pick: Callable[[list[Job]], int] = lambda jobs: 0,
        seconds: float = 0.0,
    ) -> None:
        self.fails, self.slots, self.pick, self.seconds = fails, slots, pick, seconds
        self.jobs: list[Job] = []
        self.made: list[tuple[int, int, float]] = []
        self.stopped = self.closed = False

    def open(self, site: Site) -> None:
        self.site = site

    def submit(self, job: Job) -> None:
        assert len(self.jobs) < self.slots
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[Job, Outcome]]:
        if self.stopped:
            jobs, self.jobs = self.jobs, []
            return [(job, Outcome("interrupted", seconds=0.5)) for job in jobs]
        job = self.jobs.pop(self.pick(self.jobs))
        return [(job, self._train(job))]

    def _train(self, job: Job) -> Outcome:
        if (failed := self.fails(job)) is not None:
            return failed
        self.made.append((job.trial, job.part, job.until))
        recipe = tomllib.loads(job.recipe)
        for quarter in (0.25, 0.5, 0.75, 1.0):
            time.sleep(self.seconds)
            figures = {"val.loss": loss(recipe, quarter), "val.accuracy": 1 - loss(recipe, quarter) / 10}
            reason = self.site.measured(job, Measured(quarter, figures))
            if self.stopped:
                return Outcome("interrupted", seconds=0.5)
            metrics = {**figures, "parameters": 10.0, "seconds": 1.0}
            if reason:
                return Outcome("pruned", metrics, quarter, int(quarter * 8), quarter * 2, 1.0, reason)
            if quarter >= job.until and quarter < 1.0:
                return Outcome("paused", metrics, quarter, int(quarter * 8), quarter * 2, 1.0)
        return Outcome("done", metrics, 1.0, 8, 2.0, 1.0)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


def write(trial: Trial, part: int) -> str:
    """The recipe of a trial: its point, and a seed for each of its runs."""
    tables: dict[str, Any] = {"seed": part, "optimizer": {}}
    for name, value in trial.point.items():
        tables["optimizer"][name.partition(".")[2]] = value
    return to_toml(tables)


def plan(trials: int = 10, **more: Any) -> Plan:
    """A plan whose trial 0 is a recipe with a rate of 0.1."""
    given = more.pop("given", [{"optimizer.lr": 0.1, "optimizer.momentum": 0.5}])
    return Plan(trials, given, write, ("val.loss",), **more)


def search(
    folder: Path,
    what: Plan,
    searcher: Random | None = None,
    executor: Formula | None = None,
    stopping: Callable[[], str] = lambda: "",
) -> tuple[Study, str]:
    """Begin a study, or go on with the one in the folder; the study and why it stopped before its end."""
    searcher, executor = searcher or Random(), executor or Formula()
    folder.mkdir(exist_ok=True)
    events = list(read_events(folder / NAME)) if (folder / NAME).exists() else []
    log = StudyLog(folder / NAME)
    head = {
        "event": "study",
        "format": 1,
        "searcher": "random",
        "seed": 0,
        "trials": what.trials,
        "objectives": [["val.loss", "min"]],
        "parts": what.parts,
        "batch": what.batch,
        "space": space_as_json(SPACE),
    }
    if not events:
        log.add(head)
        log.sync()
    searcher.begin(SPACE, [Objective("val.loss")], what.trials)
    ledger = Ledger(study_of(folder, events[0] if events else head), searcher, bool(what.batch))
    for event in events or [head]:
        ledger.put(event)
    ledger.study.trials = what.trials
    driver = Driver(what, ledger, log, executor, stopping)
    executor.open(Site(folder, measured=driver.measured))
    try:
        return ledger.study, driver.run()
    finally:
        log.close()


def story(study: Study) -> list[tuple[Any, ...]]:
    """What a study came to, without times."""
    return [
        (
            r.trial.number,
            dict(r.trial.point),
            r.trial.status,
            r.trial.values,
            r.trial.reports,
            r.figures,
            r.spread,
            r.metrics,
            r.trial.trained,
        )
        for r in study.records
    ]


__all__ = ["Formula", "Random", "loss", "plan", "read_ledger", "search", "story"]

if __name__ == "__main__":  # a process that a test kills
    search(
        Path(sys.argv[1]),
        plan(24, batch=int(sys.argv[2])),
        Random(rungs=True, judge=sys.argv[2] == "0"),
        Formula(slots=max(1, int(sys.argv[2])), seconds=0.002),
    )
