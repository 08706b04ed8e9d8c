"""Successive halving and hyperband: who goes on, when, and what it costs."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from trainkit import Objective, Order, Point, Trial
from trainkit.testing.simulated import RATES, Listed, bowl, planned, rate, replays, simulate
from trainkit_searchers import hyperband, random, successive_halving
from trainkit_searchers.brackets import fitting_sizes

VALUES = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5]


def went(study: Any) -> list[tuple[int, float]]:
    """Trials that went on, and until when."""
    return [(number, round(order.until, 6)) for number, order in study.orders if order.trial is not None]


def test_the_best_third_of_each_rung_goes_on_from_its_checkpoint() -> None:
    study = simulate(successive_halving(over=Listed(VALUES)), rate, trials=9)
    assert [round(order.until, 6) for _, order in study.orders[:9]] == [round(1 / 9, 6)] * 9
    assert went(study) == [(1, 0.333333), (3, 0.333333), (5, 0.333333), (1, 1.0)]
    assert study.statuses() == {"done": 1, "pruned": 8}
    assert study.orders[9][1] == Order(trial=1, until=1 / 3, note="rung 2 of 3")


def test_of_equal_trials_the_first_go_on() -> None:
    study = simulate(successive_halving(over=Listed([0.5] * 9)), rate, trials=9, workers=4, seed=3)
    assert [number for number, _ in went(study)] == [0, 1, 2, 0]


def test_ranks_are_those_at_the_rung_and_not_of_earlier_or_later_values() -> None:
    curves = {
        0.1: (0.9, 0.1),
        0.2: (0.1, 0.9),
        0.3: (0.5, 0.5),
        0.4: (0.6, 0.6),
    }  # before half of it, and after
    study = simulate(
        successive_halving(over=Listed(list(curves)), factor=2, rungs=3, first=0.25),
        lambda point, share: curves[point["optimizer.lr"]][share >= 0.5],
        trials=4,
        evaluations=4,
    )
    assert went(study) == [(1, 0.5), (2, 0.5), (2, 1.0)]


def test_failed_trials_rank_last_and_never_go_on() -> None:
    failed = {1: "nan", 3: "oom", 5: "error", 7: "killed", 8: "timeout", 6: "nan", 4: "nan"}
    study = simulate(
        successive_halving(over=Listed(VALUES)), rate, trials=9, fails=lambda trial: failed.get(trial.number)
    )
    assert went(study) == [(2, 0.333333), (0, 0.333333), (2, 1.0)]


def test_failures_told_as_the_worst_value_do_not_go_on_either() -> None:
    searcher = successive_halving(over=Listed(VALUES[:4]), factor=2, rungs=2)
    searcher.begin(RATES, (Objective("val.loss"),), 4)
    for number in range(4):
        order = searcher.ask()
        assert order is not None
        searcher.took(order, Trial(number, order.point, "running"))
        searcher.tell(Trial(number, order.point, "nan" if number < 3 else "paused", (0.1,), trained=0.5))
    order = searcher.ask()
    assert order is not None
    assert order.trial == 3
    searcher.took(order, Trial(3, {}, "running"))
    assert searcher.ask() is None


def test_where_all_fail_nothing_goes_on() -> None:
    study = simulate(successive_halving(over=Listed(VALUES)), rate, trials=9, fails=lambda trial: "nan")
    assert study.statuses() == {"nan": 9}
    assert went(study) == []


def test_values_that_are_not_numbers_rank_behind_all_that_are() -> None:
    study = simulate(
        successive_halving(over=Listed([0.5, 0.4, 0.3, 0.2]), factor=2, rungs=2),
        lambda point, share: float("nan") if rate(point, share) < 0.35 else rate(point, share),
        trials=4,
    )
    assert [number for number, _ in went(study)] == [1, 0]


def test_a_rung_that_is_not_full_waits_and_results_may_come_in_any_order() -> None:
    searcher = successive_halving(over=Listed(VALUES[:4]), factor=2, rungs=2)
    searcher.begin(RATES, (Objective("val.loss"),), 4)
    for number in range(4):
        order = searcher.ask()
        assert order is not None
        searcher.took(order, Trial(number, order.point, "running"))
    for number in (3, 0, 2):
        searcher.tell(Trial(number, {}, "paused", (VALUES[number],), trained=0.5))
        assert searcher.ask() is None
    searcher.tell(Trial(1, {}, "paused", (VALUES[1],), trained=0.5))
    order = searcher.ask()
    assert order is not None
    assert order.trial == 1


def test_trials_that_ended_early_keep_their_place_without_training() -> None:
    study = simulate(
        successive_halving(over=Listed(VALUES)),
        rate,
        trials=9,
        fails=lambda trial: "done" if trial.number in (1, 3) and trial.trained > 0 else None,
        evaluations=27,
    )
    assert study.trials[1].status == study.trials[3].status == "done"
    assert went(study) == [(5, 0.333333)]  # it is the third of three, of which one would be trained to the end


def test_where_evaluations_are_far_apart_rungs_that_are_passed_cost_nothing() -> None:
    study = simulate(successive_halving(over=random(0)), bowl, trials=27, evaluations=3)
    assert study.trained == pytest.approx(27 / 3 + 3 * 2 / 3)
    assert [until for _, until in went(study)] == [1.0] * 3


def test_what_the_other_searcher_cannot_propose_makes_smaller_rungs() -> None:
    inner = Listed([*VALUES, 0.95, 0.94, 0.93])
    searcher = successive_halving(over=inner)
    study = simulate(searcher, rate, trials=27, workers=3)
    assert len(study.trials) == 12
    assert [until for _, until in went(study)] == [0.333333] * 4 + [1.0]
    assert searcher.exhausted() == "the list has ended"  # type: ignore[attr-defined]


def test_the_other_searcher_is_told_whenever_a_trial_rests_and_took_only_its_own_orders() -> None:
    inner = Listed(VALUES)
    simulate(successive_halving(over=inner), rate, trials=9)
    assert inner.took_orders == [Order({"optimizer.lr": value}, note="listed") for value in VALUES]
    assert [number for number, _, _ in inner.told] == [*range(9), 1, 3, 5, 1]
    assert [status for _, status, _ in inner.told] == ["paused"] * 12 + ["done"]


@pytest.mark.parametrize("make", [successive_halving, hyperband])
@pytest.mark.parametrize("trials", [17, 27, 32, 50, 81])
@pytest.mark.parametrize("workers", [1, 5])
def test_the_plan_is_what_happens(make: Any, trials: int, workers: int) -> None:
    searcher = make(over=random(1))
    study = simulate(searcher, bowl, trials=trials, workers=workers, evaluations=27)
    assert study.trained == pytest.approx(planned(searcher))
    assert len(study.trials) == trials
    assert sum(rung.trials for rung in searcher.plan() if rung.since == 0) == trials
    assert study.statuses()["done"] == sum(rung.trials for rung in searcher.plan() if rung.until == 1)


@pytest.mark.parametrize("make", [successive_halving, hyperband])
def test_any_number_of_workers_gives_the_same_trials(make: Any) -> None:
    alone = simulate(make(over=random(2)), bowl, trials=40)
    for workers, seed in ((2, 0), (7, 1), (40, 2)):
        assert simulate(make(over=random(2)), bowl, trials=40, workers=workers, seed=seed).trials == alone.trials


@pytest.mark.parametrize("make", [successive_halving, hyperband])
def test_a_log_that_is_told_again_leads_to_the_same_orders(make: Any) -> None:
    def new() -> Any:
        return make(over=random(3), factor=2, rungs=4)

    study = simulate(new(), bowl, trials=30, fails=lambda trial: "nan" if trial.number % 7 == 3 else None)
    replays(new, study, trials=30)


def test_a_study_that_gets_more_trials_ranks_them_with_the_old_ones() -> None:
    values = [Random(place).random() for place in range(27)]
    study = simulate(successive_halving(over=Listed(values)), rate, trials=9)
    before = {number for number, until in went(study)}
    study = simulate(successive_halving(over=Listed(values)), rate, trials=27, study=study)
    best = sorted(range(27), key=lambda number: values[number])
    assert {number for number, until in went(study) if until < 1} == {*best[:9], *before}
    assert set(best[:3]) <= {trial.number for trial in study.trials if trial.status == "done"}


def test_hyperband_brackets_are_those_of_the_paper() -> None:
    assert fitting_sizes(3, 5, 143) == [81, 34, 15, 8, 5]  # ceil(5 * 3^s / (s + 1)), s = 4 ... 0
    searcher: Any = hyperband(over=random(0), rungs=5)
    searcher.begin(RATES, (Objective("val.loss"),), 143)
    rungs = [(rung.trials, round(rung.until * 81)) for rung in searcher.plan()]
    assert rungs[:5] == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    assert rungs[5:9] == [(34, 3), (11, 9), (3, 27), (1, 81)]
    assert rungs[9:] == [(15, 9), (5, 27), (1, 81), (8, 27), (2, 81), (5, 81)]
    assert {rung.name.partition(",")[0] for rung in searcher.plan()} == {f"bracket {n}" for n in range(1, 6)}


def test_hyperband_brackets_grow_with_the_trials_and_take_all() -> None:
    for trials in range(17, 200):
        sizes = fitting_sizes(3, 3, trials)
        assert sum(sizes) == trials
        assert sizes == sorted(sizes, reverse=True)
    assert fitting_sizes(3, 3, 34) == [19, 9, 6]  # ceil(6 * 3^s / (s + 1)), and one left over


def test_one_worker_makes_one_bracket_after_the_other() -> None:
    study = simulate(hyperband(over=random(0)), bowl, trials=17)
    names = [order.note.partition(",")[0] for _, order in study.orders]
    assert names == sorted(names)


def test_too_few_trials_are_refused_with_the_number_that_is_enough() -> None:
    for searcher, needed in ((successive_halving(over=random(0)), 9), (hyperband(over=random(0)), 17)):
        with pytest.raises(ValueError, match=f"needs at least {needed} trials.*trials = {needed - 1}\n"):
            searcher.begin(RATES, (Objective("val.loss"),), needed - 1)
        searcher.begin(RATES, (Objective("val.loss"),), needed)


def test_rungs_at_the_end_of_the_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"put a rung at 1.2 of a run\n.*write first below 0.333333"):
        successive_halving(over=random(0), first=0.4)


def test_searchers_that_decide_on_lengths_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="successive_halving decides how far trials are trained, and so does"):
        successive_halving(over=hyperband(over=random(0))).begin(RATES, (Objective("val.loss"),), 30)


def test_results_of_an_earlier_study_are_handed_on_and_take_no_place() -> None:
    inner = Listed(VALUES)
    searcher = successive_halving(over=inner)
    searcher.begin(RATES, (Objective("val.loss"),), 9)
    old = Trial(-1, {"optimizer.lr": 0.3}, "done", (0.01,), [(1.0, 0.01)], 1.0)
    searcher.took(Order(old.point), old)
    searcher.tell(old)
    assert inner.told == [(-1, "done", (0.01,))]
    assert len(inner.took_orders) == 1
    study = simulate(searcher, rate, trials=9, begun=True)
    assert study.statuses() == {"done": 1, "pruned": 7}  # the list's first point was the earlier study's
    assert {number for number, _ in went(study)} <= set(range(8))


def noisy(point: Point, share: float) -> float:
    """The bowl, seen through noise that fades: ranks at 1/27, 1/9 and 1/3 agree with the last to 0.80, 0.87, 0.98.

    About as they do where small networks learn the digits: 0.81 after a tenth of a run, 0.93 after three.
    """
    return bowl(point, share) + math.exp(-6 * share) * Random(str(point)).gauss(0, 1)


def test_halving_beats_random_search_at_the_same_cost() -> None:
    """81 trials over four rungs cost nine whole runs. 15 wins of 20 have a chance of 2 % where both are as good."""
    wins = 0
    for seed in range(20):
        halved = simulate(successive_halving(over=random(seed), rungs=4), noisy, trials=81, pure=False)
        alone = simulate(random(seed + 100), noisy, trials=9, pure=False)
        assert halved.trained == pytest.approx(alone.trained)
        wins += halved.best < alone.best
    assert wins >= 15
