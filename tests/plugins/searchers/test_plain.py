"""Grid, random and Sobol' points, and the product of values that a grid and a small space are made of."""

from __future__ import annotations

import itertools
import math
import time

import pytest

import trainkit_searchers as searchers
from trainkit import Dimension, Limit, Objective, Order, Space, Trial
from trainkit.testing.simulated import simulate
from trainkit_searchers.points import Product, all_points

LOSS = (Objective("val.loss"),)
BRANCHES = Space(
    (
        Dimension("use", "choice", choices=("sgd", "adam", {"use": "lion"})),
        Dimension("momentum", "float", 0.0, 0.9, step=0.3, when={"use": (0,)}),
        Dimension("nesterov", "choice", choices=(True, False), when={"momentum": (0.3, 0.9)}),
        Dimension("depth", "int", 1, 3),
        Dimension("beta", "float", 0.5, 0.9, step=0.4, when={"use": (1, 2)}),
    )
)


def flat(point, share):
    return 1.0


def test_a_product_has_each_combination_once_with_the_last_dimension_changing_fastest():
    product = all_points(BRANCHES)
    expected = []
    for use in ("sgd", "adam", {"use": "lion"}):
        if use == "sgd":
            for momentum, depth in itertools.product((0.0, 0.3, 0.6, 0.9), (1, 2, 3)):
                kinds = (True, False) if momentum in (0.3, 0.9) else (None,)
                for nesterov in kinds:
                    extra = {} if nesterov is None else {"nesterov": nesterov}
                    expected.append({"use": use, "momentum": momentum, **extra, "depth": depth})
        else:
            expected += [{"use": use, "depth": d, "beta": b} for d, b in itertools.product((1, 2, 3), (0.5, 0.9))]
    found = list(product)
    assert product.count == len(expected) == len(found)
    assert sorted(map(repr, found)) == sorted(repr(point) for point in expected)
    assert [point["depth"] for point in found[:4]] == [1, 2, 3, 1]
    assert all(BRANCHES.holds(point) for point in found)
    with pytest.raises(IndexError):
        product[product.count]


def test_a_product_of_millions_is_counted_and_read_at_once():
    space = Space(tuple(Dimension(f"x{number}", "int", 0, 9) for number in range(12)))
    began = time.process_time()
    product = Product(space, {dimension.name: list(range(10)) for dimension in space.dimensions})
    assert product.count == 10**12
    assert list(product[123_456_789_012].values()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert time.process_time() - began < 0.5


# ---------------------------------------------------------------- grid


def test_a_grid_takes_steps_and_choices_whole_and_other_numbers_even_on_their_scale():
    space = Space(
        (
            Dimension("lr", "float", 1e-4, 1.0, "log"),
            Dimension("beta", "float", 0.1, 0.9, "logit"),
            Dimension("width", "int", 16, 256, "log"),
            Dimension("heads", "int", 1, 2),
            Dimension("epochs", "int", 2, 6, step=2, unit="ep"),
        )
    )
    searcher = searchers.grid(0, points=3)
    searcher.begin(space, LOSS, 200)
    values = searcher.product.values
    assert values["lr"] == pytest.approx([1e-4, 1e-2, 1.0], rel=1e-12)
    assert values["beta"] == pytest.approx([0.1, 0.5, 0.9], rel=1e-12)
    assert values["width"] == [16, 64, 256]
    assert values["heads"] == [1, 2]
    assert values["epochs"] == ["2ep", "4ep", "6ep"]
    assert searcher.plan()[0].trials == 3**3 * 2 * 3 + 1


def test_a_grid_is_tried_in_order_and_its_points_that_were_given_are_not_tried_twice():
    space = Space((Dimension("a", "int", 1, 3, step=1), Dimension("b", "choice", choices=("x", "y"))))
    grid = [{"a": a, "b": b} for a in (1, 2, 3) for b in "xy"]
    on = simulate(searchers.grid(0), flat, trials=20, space=space, given=[{"a": 2, "b": "y"}])
    assert [trial.point for trial in on.trials] == [grid[3], *grid[:3], *grid[4:]]
    off = simulate(searchers.grid(0), flat, trials=20, space=space, given=[{"a": 9, "b": "y"}], workers=3)
    assert [trial.point for trial in off.trials] == [{"a": 9, "b": "y"}, *grid]


def test_a_grid_with_more_points_than_trials_is_refused_with_their_number_and_the_cure():
    space = Space((Dimension("a", "float", 0.0, 1.0), Dimension("b", "choice", choices=("x", "y"))))
    with pytest.raises(
        ValueError, match=r"10 points \(5 x 2\) and the search has 9 trials\n.*trials = 11.*sample = true"
    ):
        searchers.grid(0).begin(space, LOSS, 9)
    searchers.grid(0).begin(space, LOSS, 10)


def test_a_grid_counts_just_the_points_that_the_constraints_allow():
    space = Space(
        (Dimension("a", "int", 1, 4), Dimension("b", "int", 1, 4)), (Limit(("a", "b"), "product", "at_most", 4),)
    )
    searcher = searchers.grid(0)
    study = simulate(searcher, flat, trials=8, space=space)
    assert [(t.point["a"], t.point["b"]) for t in study.trials] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)
    ]  # fmt: skip
    assert searcher.exhausted() == "all 8 points of the grid are tried"


def test_a_sample_of_a_grid_of_millions_takes_no_time_and_repeats_nothing():
    space = Space(tuple(Dimension(f"x{number}", "float", 0.0, 1.0) for number in range(9)))
    began = time.process_time()
    study = simulate(searchers.grid(1, points=5, sample=True), flat, trials=100, space=space, evaluations=1)
    assert time.process_time() - began < 2
    tried = {tuple(trial.point.values()) for trial in study.trials}
    assert len(tried) == 100
    assert {value for point in tried for value in point} == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_grid_of_a_million_points_is_walked_lazily():
    space = Space(tuple(Dimension(f"x{number}", "float", 0.0, 1.0) for number in range(6)))
    searcher = searchers.grid(0, points=10)
    began = time.process_time()
    searcher.begin(space, LOSS, 2_000_000)
    for number in range(1000):
        order = searcher.ask()
        searcher.took(order, Trial(number, order.point))
    assert time.process_time() - began < 1
    assert list(order.point.values()) == pytest.approx([0, 0, 0, 1, 1, 1])


# ---------------------------------------------------------------- random and Sobol'


def test_random_points_are_even_on_the_scale_of_each_setting():
    space = Space((Dimension("lr", "float", 1e-4, 1.0, "log"), Dimension("use", "choice", choices=("a", "b"))))
    searcher = searchers.random(5)
    study = simulate(searcher, flat, trials=400, space=space, evaluations=1)
    shares = sorted(space["lr"].share(trial.point["lr"]) for trial in study.trials)
    off = max(abs(share - (place + 0.5) / 400) for place, share in enumerate(shares))
    assert off < 1.63 / math.sqrt(400)  # Kolmogorov's and Smirnov's test at 1%
    assert 150 < sum(trial.point["use"] == "a" for trial in study.trials) < 250


def test_sobol_points_leave_no_gap_and_a_given_point_takes_none_of_them_away():
    space = Space((Dimension("x", "float", 0.0, 1.0), Dimension("y", "float", 0.0, 1.0)))
    study = simulate(
        searchers.sobol(2), flat, trials=65, space=space, evaluations=1, given=[{"x": 0.5, "y": 0.5}], workers=4
    )
    cells = [(int(8 * trial.point["x"]), int(8 * trial.point["y"])) for trial in study.trials[1:]]
    assert len(set(cells)) == 64  # of 64 points one in each cell of an 8 by 8 grid
    other = simulate(searchers.sobol(3), flat, trials=2, space=space, evaluations=1)
    assert other.trials[0].point != study.trials[1].point


@pytest.mark.parametrize("name", ["grid", "random", "sobol"])
def test_a_repeatable_searcher_gives_the_same_trials_with_any_number_of_workers(name):
    space = Space((Dimension("x", "float", 0.0, 1.0), Dimension("y", "int", 1, 4)))
    component = next(found for found in searchers.trainkit_components() if found.name == name)
    assert component.capabilities["repeatable"]
    one, five = (
        [trial.point for trial in simulate(component.factory(1), flat, trials=30, space=space, workers=workers).trials]
        for workers in (1, 5)
    )
    assert one == five
    assert len(one) == 20 if name == "grid" else 30


def test_orders_of_trials_that_go_on_change_nothing():
    space = Space((Dimension("x", "float", 0.0, 1.0),))
    for factory in (searchers.random, searchers.sobol, searchers.grid):
        searcher = factory(0)
        searcher.begin(space, LOSS, 9)
        order = searcher.ask()
        trial = Trial(0, order.point)
        searcher.took(order, trial)
        after = searcher.ask()
        searcher.took(Order(trial=0), trial)
        assert searcher.ask() == after != order
