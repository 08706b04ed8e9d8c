"""What every searcher keeps: its points are of the space, it asks without a trace, and a study can go on.

A searcher joins with one line in `SEARCHERS`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest

import trainkit_searchers as searchers
from tests.plugins.searchers.simulated import Simulated, simulate
from trainkit import Dimension, Limit, Objective, Searcher, Space, Trial

# By name: makes one from a seed.
SEARCHERS: dict[str, Callable[[int], Any]] = {
    "bayesian": lambda seed: searchers.bayesian(seed, startup=5),
    "cmaes": lambda seed: searchers.cmaes(seed, population=5),
    "coarse_to_fine": lambda seed: searchers.coarse_to_fine(seed, stages=["1ep", "5ep"]),
    "coarse_to_fine random": lambda seed: searchers.coarse_to_fine(seed, inner="random", again=0),
    "genetic": lambda seed: searchers.genetic(seed, population=6),
    "grid": lambda seed: searchers.grid(seed, points=3, sample=True),
    "random": searchers.random,
    "sobol": searchers.sobol,
    "asha": lambda seed: searchers.asha(over=searchers.random(seed)),
    "hyperband": lambda seed: searchers.hyperband(over=searchers.random(seed)),
    "median_stopping": lambda seed: searchers.median_stopping(over=searchers.random(seed), after=0.3),
    "pbt": lambda seed: searchers.pbt(seed),
    "successive_halving": lambda seed: searchers.successive_halving(over=searchers.random(seed)),
    "threshold_stopping": lambda seed: searchers.threshold_stopping(over=searchers.random(seed), worst=2.0),
}
TRIALS = 30
EACH = pytest.mark.parametrize("name", SEARCHERS)

# One setting of each sort; momentum counts with sgd, and nesterov where the momentum's table is taken.
MIXED = Space(
    (
        Dimension("optimizer.lr", "float", 1e-4, 1.0, "log"),
        Dimension("optimizer.use", "choice", choices=("sgd", "adam", {"use": "lion"})),
        Dimension("optimizer.momentum", "float", 0.0, 0.95, step=0.05, when={"optimizer.use": (0,)}),
        Dimension("optimizer.beta2", "float", 0.9, 0.9999, "logit", when={"optimizer.use": (1, 2)}),
        Dimension("model.width", "int", 8, 512, "log"),
        Dimension("model.depth", "int", 1, 7, step=2),
        Dimension("run.warmup", "float", 0.5, 4.0, unit="ep"),
    )
)
LIMITED = Space(
    (
        Dimension("model.width", "int", 1, 64, "log"),
        Dimension("model.depth", "int", 1, 16),
        Dimension("dropout", "float", 0.0, 0.5),
    ),
    (Limit(("model.width", "model.depth"), "product", "at_most", 64), Limit(("dropout",), "sum", "below", 0.4)),
)
SMALL = Space(
    (
        Dimension("optimizer.use", "choice", choices=("sgd", "adam")),
        Dimension("optimizer.momentum", "float", 0.0, 0.9, step=0.3, when={"optimizer.use": (0,)}),
        Dimension("model.depth", "int", 1, 3),
    ),
    (Limit(("model.depth", "optimizer.momentum"), "sum", "below", 3.5),),
)


def figure(point: Any, share: float) -> float:
    """Some figure of a point of any of the spaces."""
    value = 0.1 / share
    for name, one in point.items():
        number = float(str(one).removesuffix("ep")) if not isinstance(one, dict) and str(one)[0].isdigit() else 0.3
        value += abs(math.log(number + 0.01) - len(name) / 10)
    return value


def study_of(name: str, seed: int = 3, **changes: Any) -> Simulated:
    return simulate(SEARCHERS[name](seed), figure, **{"trials": TRIALS, "space": MIXED, **changes})


def points(study: Simulated) -> list[Any]:
    return [trial.point for trial in study.trials]


class Worst:
    """Tells failures as the worst finite value so far, infinite where there is none, as the core does."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.worst = -math.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self.searcher, name)

    def tell(self, trial: Trial) -> None:
        if trial.status in ("nan", "oom"):
            trial.values = (self.worst if self.worst > -math.inf else math.inf,)
        else:
            self.worst = max([self.worst, *trial.values])
        self.searcher.tell(trial)


def failing(trial: Trial) -> str | None:
    """The first four fail, and later every third."""
    return ("oom", "nan", "killed")[trial.number % 3] if trial.number < 4 or trial.number % 3 == 1 else None


def test_every_searcher_of_the_plugin_keeps_the_contract():
    listed = {component.name for component in searchers.trainkit_components()}
    assert listed == {name.split()[0] for name in SEARCHERS}


@EACH
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("space", [MIXED, LIMITED], ids=["mixed", "limited"])
def test_points_hold_in_the_space_and_asking_leaves_no_trace(name, space, workers):
    study = study_of(name, space=space, workers=workers)  # asks twice each time
    assert len(study.trials) >= TRIALS // 3
    assert all(space.holds(trial.point) for trial in study.trials)
    assert all(trial.over for trial in study.trials)


@EACH
def test_the_seed_decides(name):
    one, same, other = study_of(name), study_of(name), study_of(name, seed=4)
    assert points(one) == points(same)
    assert points(one) != points(other)


@EACH
@pytest.mark.parametrize(("workers", "fails"), [(1, lambda trial: None), (3, failing)], ids=["well", "failing"])
def test_a_study_that_goes_on_asks_as_if_it_had_never_stopped(name, workers, fails):
    """Calls of a log are made again without asking, and from then on each order is asked for."""
    given = [{**MIXED.at([0.3] * len(MIXED)), "optimizer.lr": 7.0}, MIXED.at([0.6] * len(MIXED))]  # one lies outside
    searcher = Worst(SEARCHERS[name](3))
    study = simulate(searcher, figure, trials=TRIALS, space=MIXED, workers=workers, given=given, fails=fails)
    assert [trial.point for trial in study.trials[:2]] == given
    for half in (1, len(study.calls) // 2, len(study.calls) * 3 // 4):
        again = Worst(SEARCHERS[name](3))
        again.begin(MIXED, (Objective("val.loss"),), TRIALS)
        for call in study.calls[:half]:
            call.make(again)
        for call in study.calls[half:]:
            if call.order is not None:
                assert again.ask() == call.order
            call.make(again)


@EACH
def test_results_may_come_in_any_order_and_of_trials_never_taken(name):
    searcher = SEARCHERS[name](3)
    searcher.begin(MIXED, (Objective("val.loss"),), TRIALS)
    for number in range(4):  # of an earlier study
        point = MIXED.at([0.1 + 0.2 * number] * len(MIXED))
        searcher.tell(Trial(number, point, "done", (float(number),), [(1.0, float(number))], 1.0))
    taken = []
    for number in range(8):
        order = searcher.ask()
        if order is None:
            break
        trial = Trial(number, order.point, "running", changes=order.changes, final=order.final)
        searcher.took(order, trial)
        taken.append((trial, order.until))
    for trial, until in reversed(taken):
        trial.status = "done" if until == 1 else "paused"
        trial.trained, trial.values, trial.reports = until, (figure(trial.point, until),), [(until, 1.0)]
        searcher.tell(trial)
    order = searcher.ask()
    assert order is not None
    assert order.trial is not None or MIXED.holds(order.point)


@EACH
@pytest.mark.parametrize("status", ["pruned", "paused", "nan", "error"])
def test_trials_that_end_early_or_without_a_value_stop_nothing(name, status):
    study = study_of(name, fails=lambda trial: status if trial.number % 2 and trial.reports else None)
    assert len(study.trials) >= TRIALS // 2


@pytest.mark.parametrize("name", sorted(SEARCHERS.keys() - {"pbt"}))  # whose copies may try what was tried
@pytest.mark.parametrize("workers", [1, 2])
def test_a_small_space_is_tried_once_through_and_then_there_is_no_more(name, workers):
    study = simulate(searcher := SEARCHERS[name](3), figure, trials=3 * TRIALS, space=SMALL, workers=workers)
    stages = getattr(searcher, "durations", [""])
    tried = [(repr(sorted(trial.point.items())), str(trial.changes)) for trial in study.trials if trial.parent is None]
    assert len(set(tried)) == len(tried)
    if len(stages) == 1:
        assert len(tried) == 13  # 3 depths with adam, 12 with sgd, less the two that are forbidden
    assert "tried" in searcher.exhausted()


@EACH
def test_a_space_that_no_point_meets_ends_with_a_reason(name):
    space = Space((*LIMITED.dimensions, Dimension("x", "float", 1.0, 2.0)), (Limit(("x",), "sum", "below", 1.0),))
    searcher = SEARCHERS[name](3)
    searcher.begin(space, (Objective("val.loss"),), TRIALS)
    assert searcher.ask() is None
    assert searcher.exhausted()


@EACH
def test_what_was_told_is_not_changed(name):
    searcher = SEARCHERS[name](3)
    searcher.begin(MIXED, (Objective("val.loss"),), TRIALS)
    order = searcher.ask()
    trial = Trial(0, order.point, "running")
    before = copy.deepcopy(order)
    searcher.took(order, trial)
    trial.status, trial.values, trial.reports, trial.trained = "done", (1.0,), [(1.0, 1.0)], 1.0
    told = copy.deepcopy(trial)
    searcher.tell(trial)
    searcher.ask()
    assert (order, trial) == (before, told)
