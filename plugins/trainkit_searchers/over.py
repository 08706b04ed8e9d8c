"""What searchers share that decide how far trials are trained, and leave it to another one which points are tried."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from trainkit import Objective, Order, Rung, Space, Trial

CLOSE = 1e-9  # shares of a run are compared up to rounding
_FAILED = ("nan", "oom", "timeout", "killed", "error")


class Standing(NamedTuple):
    """Where a trial stands at a rung; the best comes first, and of equals the one with the lower number.

    Args:
        group: 0 for one that can go on or has ended well, 1 for one that was pruned, 2 for one that failed.
        value: its first objective, lower is better; never NaN.
        number: the trial's.
        done: whether its run has ended.
        trained: share of its run that is trained.
    """

    group: int
    value: float
    number: int
    done: bool
    trained: float

    def passes(self, share: float) -> bool:
        """Whether it has no way to go to a rung: evaluations may be so far apart that it has passed it already."""
        return self.done or self.trained >= share - CLOSE


def value_of(trial: Trial) -> float:
    """A trial's newest value, infinite where nothing is known or the figure is not a number."""
    value = trial.values[0] if trial.values else trial.reports[-1][1] if trial.reports else math.inf
    return math.inf if math.isnan(value) else value


def standing_of(trial: Trial) -> Standing:
    """Where a trial that has come to rest stands among others."""
    group = 2 if trial.status in _FAILED else 1 if trial.status == "pruned" else 0
    return Standing(group, value_of(trial), trial.number, trial.status == "done", trial.trained)


class Level:
    """The trials that have come to rest at one rung."""

    def __init__(self) -> None:
        self.standings: dict[int, Standing] = {}
        self.ranked: list[Standing] = []

    def put(self, standing: Standing) -> None:
        """Take in a trial, or where it stands by now."""
        if (old := self.standings.get(standing.number)) is not None:
            del self.ranked[bisect_left(self.ranked, old)]
        self.standings[standing.number] = standing
        insort(self.ranked, standing)

    def top(self, count: int) -> list[Standing]:
        """The best so many of all, less those that were pruned or failed."""
        return [standing for standing in self.ranked[:count] if standing.group == 0]


def shares_of(factor: int, rungs: int, first: float | None) -> list[float]:
    """The shares of a run at which the rungs lie, each ``factor`` times the one before; the last is the run's end.

    Raises:
        ValueError: if the last but one would lie at the end or beyond it.
    """
    begin = float(factor) ** (1 - rungs) if first is None else first
    shares = [begin * factor**place for place in range(rungs - 1)]
    if shares[-1] >= 1 - CLOSE:
        raise ValueError(
            f"first = {first:g}, factor = {factor} and rungs = {rungs} put a rung at {shares[-1]:g} of a run\n"
            f"the last but one must lie before the end: write first below {float(factor) ** (2 - rungs):g}, or fewer "
            "rungs"
        )
    return [*shares, 1.0]


def nearest(shares: Sequence[float], until: float) -> int:
    """The rung that an order trains to."""
    return min(range(len(shares)), key=lambda place: abs(shares[place] - until))


class Over:
    """A searcher over another one, which proposes the points and is told all that is measured.

    Args:
        over: the searcher that proposes.
    """

    stop: Callable[[Trial], str]  # there only where the other one has it: workers wait for its answer

    def __init__(self, over: Any) -> None:
        self.over = over
        self.own: set[int] = set()  # trials of this study, not of an earlier one whose results are told first
        self.running: set[int] = set()
        if hasattr(over, "stop"):
            self.stop = over.stop

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        self.trials = trials
        self.objectives = tuple(objectives)
        self.over.begin(space, objectives, trials)

    def took(self, order: Order, trial: Trial) -> None:
        """Keep in mind what is being trained; the other searcher is told of orders that it gave."""
        if not trial.over:
            self.own.add(trial.number)
            self.running.add(trial.number)

    def tell(self, trial: Trial) -> None:
        """Hand a result on."""
        self.running.discard(trial.number)
        self.over.tell(trial)

    def plan(self) -> list[Rung]:
        """The other searcher's plan."""
        plan = getattr(self.over, "plan", None)
        return [Rung(self.trials)] if plan is None else list(plan())

    def exhausted(self) -> str:
        """Why the other searcher proposes no more."""
        exhausted = getattr(self.over, "exhausted", None)
        return "" if exhausted is None else str(exhausted())

    def need_whole_runs(self, name: str) -> None:
        """Refuse a searcher that decides itself how far trials are trained.

        Raises:
            ValueError: with the searchers that can be taken.
        """
        if any(rung.until < 1 or rung.since > 0 or rung.duration for rung in Over.plan(self)):
            raise ValueError(
                f"{name} decides how far trials are trained, and so does the searcher in over\n"
                "let over propose whole runs: random, sobol, grid, bayesian, genetic, cmaes"
            )


class Rungs(Over):
    """A searcher over another one that trains each proposed trial to a first rung, and some of them on.

    Args:
        over: the searcher that proposes.
        factor: of the trials at a rung, one in so many goes on.
        rungs: how many there are.
        first: share of a run at which the first lies.
    """

    name = ""

    def __init__(self, over: Any, factor: int, rungs: int, first: float | None) -> None:
        super().__init__(over)
        self.factor = factor
        self.shares = shares_of(factor, rungs, first)
        self.begun = 0

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        if len(objectives) > 1:
            raise ValueError(
                f"{self.name} ranks trials by one figure, and {len(objectives)} are given\nwrite one objective"
            )
        super().begin(space, objectives, trials)
        self.need_whole_runs(self.name)

    def proposed(self, until: float, note: str) -> Order | None:
        """The other searcher's next trial, to be trained to a rung."""
        if self.begun >= self.trials:
            return None
        order: Order | None = self.over.ask()
        if order is None:
            return None
        if order.trial is not None:
            raise TypeError(f"the searcher in over lets trials go on, which {self.name} does itself")
        return replace(order, until=until, note=f"{order.note}; {note}" if order.note else note)

    def give(self, order: Order, trial: Trial, note: str) -> None:
        """Tell the other searcher that its order, as `proposed` made it, was taken."""
        own = order.note.removesuffix(note).removesuffix("; ")
        self.over.took(replace(order, until=1.0, note=own), trial)

    def took(self, order: Order, trial: Trial) -> None:
        """Count the trial, at the rung that it is trained to."""
        super().took(order, trial)
        if trial.over:  # of an earlier study
            self.over.took(order, trial)

    def exhausted(self) -> str:
        """Why there is no more."""
        if self.begun < self.trials and (why := super().exhausted()):
            return why
        return f"{self.begun} trials were begun, and those that were to go on did"
