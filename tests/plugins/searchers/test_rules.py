"""The median rule and the threshold: whom they prune, on whose account, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from trainkit import Objective, Order, Trial
from trainkit.testing.simulated import RATES, Listed, bowl, rate, replays, simulate
from trainkit_searchers import asha, median_stopping, random, threshold_stopping


def told(searcher: Any, *curves: list[float], status: Any = "done", mode: Any = "min") -> Any:
    """The searcher, having been told trials with these values after each quarter of their run."""
    searcher.begin(RATES, (Objective("val.accuracy" if mode == "max" else "val.loss", mode),), 20)
    for number, values in enumerate(curves):
        reports = [((place + 1) / 4, value) for place, value in enumerate(values)]
        searcher.took(Order({"optimizer.lr": 0.1}), Trial(number, {"optimizer.lr": 0.1}, "running"))
        searcher.tell(Trial(number, {"optimizer.lr": 0.1}, status, (values[-1],), reports, reports[-1][0]))
    return searcher


def trial(*values: float) -> Trial:
    return Trial(9, {}, "running", reports=[((place + 1) / 4, value) for place, value in enumerate(values)])


def test_the_best_value_so_far_is_compared_with_the_median_of_running_means() -> None:
    searcher = told(median_stopping(over=Listed([]), at_least=3), [4.0, 2.0], [6.0, 2.0, 1.0], [9.0, 1.0])
    # means after the first half: 3, 4 and 5; after a quarter the values themselves: 4, 6 and 9
    assert searcher.stop(trial(4.5, 4.1)) == (
        "its best, 4.1, is worse than 4, the median of 3 others at 50% of the run"
    )
    assert searcher.stop(trial(3.9, 8.0)) == ""  # the best so far counts, not the newest
    assert searcher.stop(trial(4.0, 4.0)) == ""  # as good is not worse
    assert searcher.stop(trial(6.5))
    assert not searcher.stop(trial(6.0))


def test_only_trials_that_came_as_far_count() -> None:
    searcher = told(median_stopping(over=Listed([]), at_least=3), [1.0, 1.0], [1.0, 1.0], [1.0])
    assert searcher.stop(trial(5.0))
    assert searcher.stop(trial(5.0, 5.0)) == ""


def test_nothing_is_pruned_before_its_time_or_without_enough_others() -> None:
    curves = [[1.0, 1.0, 1.0, 1.0]] * 3
    assert told(median_stopping(over=Listed([]), at_least=4), *curves).stop(trial(5.0, 5.0)) == ""
    late = told(median_stopping(over=Listed([]), at_least=3, after=0.5), *curves)
    assert late.stop(trial(5.0)) == ""
    assert late.stop(trial(5.0, 5.0))
    assert late.stop(Trial(9, {}, "running")) == ""


def test_failed_trials_are_no_measure_and_pruned_ones_are() -> None:
    for status, stops in (("nan", False), ("error", False), ("pruned", True), ("paused", True)):
        searcher = told(median_stopping(over=Listed([]), at_least=3), *[[1.0, 1.0]] * 3, status=status)
        assert bool(searcher.stop(trial(5.0, 5.0))) == stops


def test_values_that_are_not_numbers_are_the_worst() -> None:
    nan = float("nan")
    searcher = told(median_stopping(over=Listed([]), at_least=3), [1.0], [nan], [2.0])
    assert searcher.stop(trial(2.5))
    assert searcher.stop(trial(nan))
    assert not searcher.stop(trial(2.0))


def test_figures_that_are_better_when_higher_are_told_as_measured() -> None:
    searcher = told(median_stopping(over=Listed([]), at_least=1), [-0.9], mode="max")
    assert searcher.stop(trial(-0.5)) == "its best, 0.5, is worse than 0.9, the median of 1 others at 25% of the run"
    assert searcher.stop(trial(-0.95)) == ""
    limit = told(threshold_stopping(over=Listed([]), worst=0.6), mode="max")
    assert limit.stop(trial(-0.5)) == "0.5 is worse than 0.6 at 25% of the run"
    assert limit.stop(trial(-0.6)) == ""


def test_the_threshold_looks_at_the_newest_value() -> None:
    searcher = told(threshold_stopping(over=Listed([]), worst=2.0, after=0.5))
    assert searcher.stop(trial(9.0)) == ""
    assert searcher.stop(trial(1.0, 2.1)) == "2.1 is worse than 2 at 50% of the run"
    assert searcher.stop(trial(9.0, 2.0)) == ""
    assert searcher.stop(trial(1.0, float("nan")))


def test_pruned_trials_end_where_they_are_and_cost_no_more() -> None:
    study = simulate(threshold_stopping(over=Listed([0.1, 0.9, 0.2, 0.8]), worst=0.5, after=0.5), rate, trials=4)
    assert study.statuses() == {"done": 2, "pruned": 2}
    assert study.trained == pytest.approx(2 + 2 * 14 / 27)
    assert set(study.pruned_by_stop) == {1, 3}


def test_a_threshold_gives_the_same_study_for_any_number_of_workers() -> None:
    alone = simulate(threshold_stopping(over=random(1), worst=1.0, after=0.3), bowl, trials=20)
    many = simulate(threshold_stopping(over=random(1), worst=1.0, after=0.3), bowl, trials=20, workers=6, seed=4)
    assert alone.trials == many.trials


@pytest.mark.parametrize("seed", range(3))
def test_the_median_rule_saves_training_and_keeps_the_best(seed: int) -> None:
    study = simulate(median_stopping(over=random(seed)), bowl, trials=40)
    whole = simulate(random(seed), bowl, trials=40)
    assert study.trained < 0.75 * whole.trained
    assert study.best == whole.best


def test_rules_and_rungs_go_together_either_way() -> None:
    def over_rungs() -> Any:
        return median_stopping(over=asha(over=random(1)), after=0.1)

    def under_rungs() -> Any:
        return asha(over=median_stopping(over=random(1), after=0.1))

    for make in (over_rungs, under_rungs):
        study = simulate(make(), bowl, trials=30)
        assert study.pruned_by_stop
        assert study.statuses()["done"] >= 1
        assert all(number not in {t for t, order in study.orders if order.until == 1} for number in study.cut)
        replays(make, study, trials=30)


def test_several_rules_are_asked_one_after_the_other() -> None:
    searcher = told(threshold_stopping(over=threshold_stopping(over=Listed([]), worst=5.0), worst=2.0, after=0.5))
    assert searcher.stop(trial(6.0)) == "6 is worse than 5 at 25% of the run"
    assert searcher.stop(trial(3.0, 3.0)) == "3 is worse than 2 at 50% of the run"


def test_a_searcher_without_a_rule_makes_no_worker_wait() -> None:
    assert not hasattr(asha(over=random(0)), "stop")
    assert hasattr(asha(over=median_stopping(over=random(0))), "stop")
