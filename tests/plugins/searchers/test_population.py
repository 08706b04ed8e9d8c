"""Population based training: who is copied by whom, what a copy changes, and that schedules are found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
import pytest

from trainkit import Dimension, Limit, Objective, Order, Space, Trial
from trainkit.testing.simulated import RATES, bowl, planned, replays, simulate
from trainkit_searchers import pbt, random
from trainkit_searchers.exploring import explored, stays

NUMBERS = Space(
    (
        Dimension("optimizer.lr", "float", 1e-4, 1.0, "log"),
        Dimension("model.width", "int", 8, 64),
        Dimension("optimizer.nesterov", "choice", choices=(True, False)),
        Dimension("loss.kind", "choice", choices=("a", "b")),
    )
)


def followed(study: Any) -> dict[int, int]:
    """The parent of each copy."""
    return {trial.number: trial.parent for trial in study.trials if trial.parent is not None}


@pytest.mark.parametrize("workers", [1, 4, 40])
def test_the_worst_fifth_is_replaced_by_copies_of_the_best_fifth(workers: int) -> None:
    study = simulate(pbt(0, population=10, generations=4), bowl, trials=16, workers=workers, evaluations=8)
    rungs = [0.25, 0.5, 0.75]
    alive = set(range(10))
    copies = sorted(followed(study))
    assert copies == list(range(10, 16))
    for place, share in enumerate(rungs):
        at = {t.number: dict(t.reports).get(share) for t in study.trials}
        ranked = sorted((value, number) for number, value in at.items() if value is not None and number in alive)
        best, worst = {n for _, n in ranked[:2]}, {n for _, n in ranked[-2:]}
        new = copies[2 * place : 2 * place + 2]
        assert {followed(study)[number] for number in new} <= best
        alive = (alive - worst) | set(new)
        for number in worst:
            assert study.trials[number].status == "pruned"
            assert study.trials[number].trained == share
        for number in new:
            assert study.trials[number].reports[0][0] == share + 1 / 8
    assert {t.number for t in study.trials if t.status == "done"} == alive


def test_any_number_of_workers_gives_the_same_trials_and_a_log_leads_to_the_same_orders() -> None:
    alone = simulate(pbt(3), bowl, trials=40, evaluations=10)
    for workers in (2, 9, 50):
        many = simulate(pbt(3), bowl, trials=40, evaluations=10, workers=workers, seed=workers)
        assert many.trials == alone.trials
    replays(lambda: pbt(3), alone, trials=40)


@pytest.mark.parametrize("trials", [6, 10, 32, 33, 100])
def test_the_plan_is_what_happens_and_all_trials_fit(trials: int) -> None:
    searcher: Any = pbt(1)
    study = simulate(searcher, bowl, trials=trials, evaluations=10)
    assert study.trained == pytest.approx(planned(searcher))
    assert trials - 4 <= len(study.trials) <= trials
    assert searcher.exhausted() == f"all 5 generations of {searcher.plan()[0].trials} trials are trained"


def test_copies_are_begun_before_those_that_they_copy_go_on() -> None:
    study = simulate(pbt(0), bowl, trials=32, evaluations=10)
    for number, parent in followed(study).items():
        begun = next(place for place, (n, _) in enumerate(study.orders) if n == number)
        until = study.orders[begun][1].until
        assert not any(n == parent and order.until >= until for n, order in study.orders[:begun])


def test_failed_trials_are_replaced_first() -> None:
    study = simulate(
        pbt(0, population=10, generations=2),
        bowl,
        trials=12,
        evaluations=8,
        fails=lambda trial: "nan" if trial.number in (4, 5) and trial.trained > 0.2 else None,
    )
    assert study.statuses() == {"done": 10, "nan": 2}
    assert set(followed(study).values()).isdisjoint({4, 5})


def test_more_failures_than_are_replaced_leave_a_smaller_population() -> None:
    study = simulate(
        pbt(0, population=10, generations=3),
        bowl,
        trials=14,
        evaluations=9,
        fails=lambda trial: "oom" if 2 <= trial.number < 7 else None,
    )
    assert study.statuses() == {"done": 7, "oom": 5, "pruned": 1}  # two of five are replaced, then one of seven
    assert len(study.trials) == 13


def test_where_all_fail_the_search_ends_and_says_so() -> None:
    searcher: Any = pbt(0)
    study = simulate(searcher, bowl, trials=20, fails=lambda trial: "nan")
    assert set(study.statuses()) == {"nan"}
    assert searcher.exhausted() == "all trials of the population failed"


def test_generations_that_evaluations_pass_are_left_out() -> None:
    study = simulate(pbt(0, population=10, generations=5), bowl, trials=18, evaluations=2)
    assert {order.until for _, order in study.orders} == {0.2, 0.6}  # at 0.5 and 1.0 all have come to rest
    assert study.statuses() == {"done": 10, "pruned": 2}


def test_a_copy_moves_numbers_and_keeps_what_cannot_change() -> None:
    parent = {"optimizer.lr": 0.1, "model.width": 30, "optimizer.nesterov": True, "loss.kind": "a"}
    moves: Counter[Any] = Counter()
    for number in range(2000):
        point = explored(NUMBERS, parent, numpy.random.default_rng(number), 0.2, 0.25)
        assert point["model.width"] == 30
        assert point["optimizer.nesterov"] is True
        rate = round(point["optimizer.lr"], 9)
        moves["down" if rate == 0.08 else "up" if rate == 0.12 else "drawn"] += 1
        moves[point["loss.kind"]] += 1
    assert moves["down"] == pytest.approx(750, abs=75)  # three standard deviations
    assert moves["up"] == pytest.approx(750, abs=75)
    assert moves["drawn"] == pytest.approx(500, abs=60)
    assert moves["b"] == pytest.approx(250, abs=45)


def test_small_whole_numbers_move_by_one_and_odds_by_their_share() -> None:
    space = Space((Dimension("callback.x.n", "int", 1, 9), Dimension("optimizer.p", "float", 0.01, 0.99, "logit")))
    seen = [
        explored(space, {"callback.x.n": 2, "optimizer.p": 0.9}, numpy.random.default_rng(n), 0.2, 0) for n in range(40)
    ]
    assert {point["callback.x.n"] for point in seen} == {1, 3}
    assert {round(point["optimizer.p"], 9) for point in seen} == {round(9 * f / (1 + 9 * f), 9) for f in (0.8, 1.2)}


def test_moved_numbers_stay_in_their_range_and_meet_the_constraints() -> None:
    space = Space(
        (Dimension("optimizer.a", "float", 0.0, 1.0), Dimension("optimizer.b", "float", 0.0, 1.0)),
        (Limit(("optimizer.a", "optimizer.b"), "sum", "at_most", 1.0),),
    )
    for number in range(200):
        point = explored(space, {"optimizer.a": 0.9, "optimizer.b": 0.1}, numpy.random.default_rng(number), 0.2, 0.3)
        assert space.holds(point)


def test_conditions_follow_what_a_copy_has() -> None:
    space = Space(
        (
            Dimension("loss.kind", "choice", choices=("a", "b")),
            Dimension("loss.margin", "float", 0.1, 1.0, when={"loss.kind": (1,)}),
        )
    )
    points = [explored(space, {"loss.kind": "a"}, numpy.random.default_rng(n), 0.2, 0.5) for n in range(60)]
    assert all(space.holds(point) for point in points)
    assert {point["loss.kind"] for point in points} == {"a", "b"}


def test_a_parent_outside_the_space_has_copies_inside_it_where_they_can_be() -> None:
    parent = {"optimizer.lr": 5.0, "model.width": 100, "loss.kind": "c"}
    point = explored(NUMBERS, parent, numpy.random.default_rng(0), 0.2, 0.0)
    assert point["optimizer.lr"] <= 1.0
    assert point["model.width"] == 100
    assert point["loss.kind"] in ("a", "b")


@pytest.mark.parametrize(
    ("name", "choices", "kept"),
    [
        ("optimizer.lr", (), False),
        ("optimizer#1.lr", (), False),
        ("optimizer.betas.0", (0.9, 0.99), False),
        ("optimizer", ({"use": "sgd"}, {"use": "adam"}), True),
        ("optimizer.use", ("sgd", "adam"), True),
        ("optimizer.nesterov", (True, False), True),
        ("schedule.use", ("cosine", "linear"), False),
        ("loss.label_smoothing", (), False),
        ("callback.0.decay", (), False),
        ("data.augment.0.p", (), False),
        ("data.batch_size", (), True),
        ("model.dropout", (), True),
        ("run.duration", (), True),
        ("seed", (), True),
    ],
)
def test_what_cannot_change_in_a_run_that_goes_on(name: str, choices: tuple[Any, ...], kept: bool) -> None:
    assert stays(Dimension(name, "choice" if choices else "float", choices=choices)) is kept


def test_a_space_of_which_nothing_can_change_is_refused() -> None:
    space = Space((Dimension("model.width", "int", 8, 64), Dimension("seed", "int", 0, 9)))
    with pytest.raises(ValueError, match=r"none of these can change then: model.width, seed\n"):
        pbt(0).begin(space, (Objective("val.loss"),), 32)


def test_a_population_that_the_trials_do_not_allow_is_refused_with_what_would_fit() -> None:
    with pytest.raises(ValueError, match=r"begins 36 trials .* trials = 32\nwrite trials = 36, .* at most 19"):
        pbt(0, population=20).begin(RATES, (Objective("val.loss"),), 32)
    with pytest.raises(ValueError, match=r"begins at least 6 trials, and trials = 5\n"):
        pbt(0).begin(RATES, (Objective("val.loss"),), 5)


def test_trial_zero_may_lie_outside_the_space() -> None:
    given = [{"optimizer.lr": 3.0}]
    study = simulate(pbt(0), lambda point, share: 1.0 if "optimizer.momentum" in point else 0.0, trials=32, given=given)
    copies = [trial for trial in study.trials if trial.parent == 0]
    assert copies
    assert all(RATES.holds(trial.point) for trial in copies)


def test_results_of_an_earlier_study_take_no_place() -> None:
    searcher = pbt(0, population=5, generations=2)
    searcher.begin(RATES, (Objective("val.loss"),), 6)
    old = Trial(-1, {"optimizer.lr": 0.3}, "done", (0.01,), [(1.0, 0.01)], 1.0)
    searcher.took(Order(old.point), old)
    searcher.tell(old)
    assert len(simulate(searcher, bowl, trials=6, begun=True, evaluations=4).trials) == 6


def descent(error: float | None, point: Any) -> float:
    """Noisy descent: a large rate falls fast to a high floor, a small one slowly to a low one."""
    before = 1.0 if error is None else error
    return before * (1 - point["optimizer.lr"]) ** 2 + 0.1 * point["optimizer.lr"] ** 2


def test_rates_that_change_on_the_way_beat_the_best_of_as_many_that_do_not() -> None:
    """Both train ten whole runs. 15 wins of 20 have a chance of 2 % where both are as good."""
    space, wins = Space((Dimension("optimizer.lr", "float", 1e-3, 1.0, "log"),)), 0
    for seed in range(20):
        both = [
            simulate(
                searcher,
                lambda error, share: error,  # type: ignore[arg-type, return-value]
                trials=trials,
                space=space,
                state=descent,
                evaluations=60,
                pure=False,
            )
            for searcher, trials in ((pbt(seed, generations=10, population=10), 28), (random(seed + 100), 10))
        ]
        assert both[0].trained == pytest.approx(both[1].trained)
        wins += both[0].best < both[1].best
    assert wins >= 15
