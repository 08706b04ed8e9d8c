"""Asynchronous halving against its algorithm as the paper has it, and at the ends of a search."""

from __future__ import annotations

import random as draws
from typing import Any

import pytest

from trainkit import Objective, Order
from trainkit.testing.simulated import RATES, Listed, bowl, planned, rate, replays, simulate
from trainkit_searchers import asha, bayesian, cmaes, genetic, hyperband, random, sobol, successive_halving


def get_job(rungs: list[dict[int, float]], promoted: list[set[int]], factor: int) -> tuple[int, int] | None:
    """Algorithm 2 of Li et al. 2020: ``get_job``; which trial goes on to which rung, ``None`` for a new one."""
    for k in reversed(range(len(rungs) - 1)):
        ranked = sorted(rungs[k], key=lambda number: (rungs[k][number], number))
        candidates = ranked[: len(ranked) // factor]
        promotable = [number for number in candidates if number not in promoted[k]]
        if promotable:
            return promotable[0], k + 1
    return None


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("seed", range(4))
def test_orders_are_those_of_the_paper(workers: int, seed: int) -> None:
    source = draws.Random(seed)
    values = [source.random() for _ in range(40)]
    study = simulate(
        asha(over=Listed(values), factor=2, rungs=4),
        lambda point, share: rate(point, share) + 0.3 * draws.Random(f"{point}{share}").random(),
        trials=40,
        workers=workers,
        seed=seed,
        evaluations=8,
    )
    shares = [1 / 8, 1 / 4, 1 / 2, 1.0]
    rungs: list[dict[int, float]] = [{} for _ in shares]
    promoted: list[set[int]] = [set() for _ in shares]
    heading: dict[int, int] = {}
    new = 0
    for call in study.calls:
        number = call.trial.number
        if call.order is None:
            rungs[heading[number]][number] = call.trial.values[0]
            continue
        expected = get_job(rungs, promoted, 2)
        if expected is None:
            assert call.order.trial is None
            heading[number], new = 0, new + 1
        else:
            assert (call.order.trial, call.order.until) == (expected[0], shares[expected[1]])
            promoted[expected[1] - 1].add(number)
            heading[number] = expected[1]
    assert new == 40
    assert get_job(rungs, promoted, 2) is None


def test_one_worker_promotes_as_soon_as_three_trials_are_known() -> None:
    study = simulate(asha(over=Listed([0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6])), rate, trials=9)
    assert [number for number, _ in study.orders] == [0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 6, 7, 8]
    assert study.statuses() == {"done": 1, "pruned": 8}


def test_at_least_one_trial_reaches_its_end_even_where_most_fail() -> None:
    study = simulate(
        asha(over=Listed([0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6])),
        rate,
        trials=9,
        workers=2,
        fails=lambda trial: "oom" if trial.number not in (5, 6) else None,
    )
    assert study.statuses() == {"done": 1, "oom": 7, "pruned": 1}
    assert study.trials[6].status == "done"


def test_failed_trials_count_in_their_rung_and_are_never_promoted() -> None:
    study = simulate(
        asha(over=Listed([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])),
        rate,
        trials=9,
        fails=lambda trial: "nan" if trial.number < 2 else None,
    )
    went = [number for number, order in study.orders if order.trial is not None]
    assert went == [2, 3, 4, 2]
    assert study.trials[2].status == "done"


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_the_plan_is_about_what_happens(workers: int) -> None:
    """Promotions that the end of the search would not have made are of the order of the square root of a rung."""
    for seed in range(5):
        searcher: Any = asha(over=random(seed))
        study = simulate(searcher, bowl, trials=81, workers=workers, seed=seed)
        assert planned(searcher) == pytest.approx(81 / 9 + 27 * 2 / 9 + 9 * 6 / 9)
        assert planned(searcher) - 1e-9 <= study.trained < 1.6 * planned(searcher)
        assert len(study.trials) == 81


def test_a_log_that_is_told_again_leads_to_the_same_orders() -> None:
    def new() -> Any:
        return asha(over=random(3), factor=2, rungs=4)

    study = simulate(new(), bowl, trials=30, fails=lambda trial: "nan" if trial.number % 7 == 3 else None)
    replays(new, study, trials=30)


@pytest.mark.parametrize("make", [asha, successive_halving, hyperband])
@pytest.mark.parametrize("inner", [bayesian, cmaes, genetic, sobol])
def test_searchers_that_learn_from_results_propose_for_rungs(make: Any, inner: Any) -> None:
    def new() -> Any:
        return make(over=inner(1))

    alone = simulate(new(), bowl, trials=25)
    replays(new, alone, trials=25)
    assert len(alone.trials) == len(simulate(new(), bowl, trials=25, workers=3, seed=1).trials) == 25


def test_more_trials_go_on_where_the_study_ended() -> None:
    values = [draws.Random(place).random() for place in range(27)]
    study = simulate(asha(over=Listed(values)), rate, trials=9)
    study = simulate(asha(over=Listed(values)), rate, trials=27, study=study)
    assert len(study.trials) == 27
    best = min(range(27), key=lambda number: values[number])
    assert study.trials[best].status == "done"


def test_a_rung_that_is_passed_costs_nothing() -> None:
    study = simulate(asha(over=random(0)), bowl, trials=27, evaluations=3)
    assert all(order.until == 1.0 for _, order in study.orders if order.trial is not None)
    assert {round(trial.trained, 6) for trial in study.trials} == {0.333333, 1.0}
    assert study.statuses()["done"] <= 6


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="asha with factor = 3 and rungs = 3 needs at least 9 trials"):
        asha(over=random(0)).begin(RATES, (Objective("val.loss"),), 8)


def test_a_rung_ranks_by_one_figure() -> None:
    with pytest.raises(ValueError, match=r"asha ranks trials by one figure, and 2 are given\n"):
        asha(over=random(0)).begin(RATES, (Objective("val.loss"), Objective("parameters")), 9)


def test_the_plan_says_which_numbers_may_be_exceeded() -> None:
    searcher: Any = asha(over=random(0))
    searcher.begin(RATES, (Objective("val.loss"),), 27)
    assert [(rung.trials, rung.about) for rung in searcher.plan()] == [(27, False), (9, True), (3, True)]


def test_a_point_that_the_core_exchanged_is_the_others_to_know() -> None:
    inner = Listed([0.5] * 9)
    study = simulate(asha(over=inner), rate, trials=9, given=[{"optimizer.lr": 7.0}])
    assert study.trials[0].point == {"optimizer.lr": 7.0}
    assert inner.took_orders[0] == Order({"optimizer.lr": 0.5}, note="listed")
