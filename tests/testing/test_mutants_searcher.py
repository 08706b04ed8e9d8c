"""Each contract of searchers catches a planted defect: in random search, and in one that learns from the best trial."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Objective, Order, Point, Rung, Space, Trial
from trainkit.testing import SearcherContract


class Drawn:
    """Random search, as short as contracts let it be."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken = 0
        self.tried: set[str] = set()
        self.drawn: Order | None = None

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        self.space, self.trials = space, trials
        self.small = math.prod(dimension.count for dimension in space.dimensions) < 1000

    def source(self) -> numpy.random.Generator:
        return numpy.random.default_rng([self.seed, self.taken])

    def draw(self) -> Point | None:
        source = self.source()
        for _ in range(500):
            point = self.space.at(source.random(len(self.space)).tolist())
            if self.space.allows(point) and str(point) not in self.tried:
                return point
        return None

    def ask(self) -> Order | None:
        point = self.draw()
        return None if point is None else Order(point)

    def took(self, order: Order, trial: Trial) -> None:
        if trial.number >= 0:
            self.taken += 1
        if self.small:
            self.tried.add(str(dict(trial.point)))

    def tell(self, trial: Trial) -> None:
        pass

    def plan(self) -> list[Rung]:
        return [Rung(self.trials)]

    def stop(self, trial: Trial) -> str:
        share, value = trial.reports[-1]
        return "it is bad" if share > 0.5 and value > 1.5 else ""

    def exhausted(self) -> str:
        return "no other point was drawn"


class Learning(Drawn):
    """What it draws follows from which trial is the best, by the sum of its objectives."""

    best = (math.inf, 0)

    def tell(self, trial: Trial) -> None:
        if trial.values:
            self.best = min(self.best, (sum(trial.values), trial.number))

    def source(self) -> numpy.random.Generator:
        return numpy.random.default_rng([self.seed, self.taken, max(0, self.best[1])])


class RefusesCurtly(Drawn):
    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        if any(dimension.kind == "choice" for dimension in space.dimensions):
            raise ValueError("it takes no choices")
        super().begin(space, objectives, trials)


class ForgetsLimits(Drawn):
    def draw(self) -> Point | None:
        return self.space.at(self.source().random(len(self.space)).tolist())


class CountsQuestions(Drawn):
    def ask(self) -> Order | None:
        self.seed += 1
        return super().ask()


class DrawsAnew(Drawn):
    def __init__(self, seed: int) -> None:
        super().__init__(int(numpy.random.default_rng().integers(2**30)))


class HasOneSeed(Drawn):
    def __init__(self, seed: int) -> None:
        super().__init__(0)


class DrawsFromAll(Drawn):
    def took(self, order: Order, trial: Trial) -> None:
        random.random()
        super().took(order, trial)


class NeverEnds(Drawn):
    def ask(self) -> Order | None:
        point = self.draw()
        return None if point is None else Order(point, until=0.5)


class PlansTooLittle(Drawn):
    def plan(self) -> list[Rung]:
        return [Rung(1)]


class FollowsTheGiven(Drawn):
    given: Point | None = None

    def took(self, order: Order, trial: Trial) -> None:
        if trial.point != order.point:
            self.given = self.given or trial.point
        super().took(order, trial)

    def draw(self) -> Point | None:
        return self.given or super().draw()


class SeedsByNumber(Drawn):
    def took(self, order: Order, trial: Trial) -> None:
        numpy.random.default_rng([self.seed, trial.number])
        super().took(order, trial)


class WaitsInOrder(Drawn):
    told = 0
    missed = False

    def tell(self, trial: Trial) -> None:
        self.missed = self.missed or trial.number != self.told
        self.told += 1

    def ask(self) -> Order | None:
        return None if self.missed else super().ask()


class WaitsForTheDead(Drawn):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.running: set[int] = set()

    def took(self, order: Order, trial: Trial) -> None:
        self.running.add(trial.number)
        super().took(order, trial)

    def tell(self, trial: Trial) -> None:
        if trial.status in ("done", "pruned", "paused"):
            self.running.discard(trial.number)

    def ask(self) -> Order | None:
        return super().ask() if len(self.running) < 4 else None


class GoesOnWithItsGenerator(Drawn):
    """What it gives twice is the same, but its generator moves on when it is asked, which no log has."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.moving = numpy.random.default_rng(seed)

    def source(self) -> numpy.random.Generator:
        return self.moving

    def ask(self) -> Order | None:
        self.drawn = self.drawn or super().ask()
        return self.drawn

    def took(self, order: Order, trial: Trial) -> None:
        self.drawn = None
        super().took(order, trial)


class SaysNothing(Drawn):
    def exhausted(self) -> str:
        return ""


class ForgetsPoints(Drawn):
    def took(self, order: Order, trial: Trial) -> None:
        super().took(order, trial)
        self.tried.clear()


class TakesTheNextBest(Drawn):
    def draw(self) -> Point | None:
        point = super().draw()
        return self.space.at([0.5] * len(self.space)) if point is None and not self.small else point


class ClearsReports(Drawn):
    def tell(self, trial: Trial) -> None:
        trial.reports.clear()


class StopsWithoutWords(Drawn):
    def stop(self, trial: Trial) -> Any:
        return bool(super().stop(trial))


def component(made: type[Drawn], **capabilities: bool) -> Component:
    """One that makes searchers of a class."""

    def factory(seed: int, /) -> Any:
        """Search."""
        return made(seed)

    return Component("searcher", factory, made.__name__, capabilities=capabilities)


HEALTHY = component(Drawn)


def mutant(test: str, made: type[Drawn], because: str) -> Mutant:
    """A defect of random search."""
    return Mutant(SearcherContract, test, component(made), HEALTHY, because)


MUTANTS = [
    mutant("refuses_spaces_with_a_cure", RefusesCurtly, 'refuses with "it takes no choices" and no cure'),
    mutant("keeps_within_the_space", ForgetsLimits, "is no point of the space 'limited'"),
    mutant("asking_leaves_no_trace", CountsQuestions, "asked twice, it orders .* and then "),
    mutant("same_seed_same_study", DrawsAnew, "two searches with one seed differ"),
    mutant("another_seed_another_study", HasOneSeed, "the seed decides nothing"),
    mutant("draws_from_no_global_generator", DrawsFromAll, "the global generator of Python;"),
    mutant("trains_a_trial_to_its_end", NeverEnds, "no trial is trained to its end"),
    mutant("trains_no_more_than_it_plans", PlansTooLittle, "it plans 1.00 runs' worth of training, and trained"),
    mutant("takes_points_that_are_not_its_own", FollowsTheGiven, "its own are outside too"),
    mutant("takes_results_of_an_earlier_study", SeedsByNumber, "expected non-negative integer"),
    mutant("takes_results_in_any_order", WaitsInOrder, "the last first, it waits"),
    mutant("trials_that_fail_stop_nothing", WaitsForTheDead, "when every second trial is nan it begins"),
    mutant("goes_on_as_if_it_had_never_stopped", GoesOnWithItsGenerator, "continued after 1 calls"),
    mutant("says_why_there_is_no_more", SaysNothing, "it ended after 13 of 48 trials; give it exhausted"),
    mutant("tries_no_point_of_a_small_space_twice", ForgetsPoints, "twice; remember the points"),
    mutant("ends_where_there_is_no_point", TakesTheNextBest, "no point meets the constraints, and it orders"),
    mutant("changes_nothing_that_it_is_told", ClearsReports, "it changed a trial that it was told of"),
    mutant("prunes_with_a_reason", StopsWithoutWords, "stop gave (True|False); give text"),
    Mutant(
        SearcherContract,
        "weighs_several_objectives",
        component(Drawn, multi_objective=True),
        component(Learning, multi_objective=True),
        "the second objective decides nothing",
    ),
    Mutant(
        SearcherContract,
        "is_repeatable_as_it_declares",
        component(Learning, repeatable=True),
        component(Drawn, repeatable=True),
        "three workers make another study than one",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(SearcherContract, MUTANTS)
