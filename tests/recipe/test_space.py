"""Dimensions and spaces: every value lies in the range, shares and numbers lead back to the values they came from."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.space import Dimension, Limit, Space

SHARES = st.floats(0, 1)
ENDS = {
    "linear": st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    "log": st.tuples(st.floats(1e-9, 1e3), st.floats(1.001, 1e6)).map(lambda pair: (pair[0], pair[0] * pair[1])),
    "logit": st.tuples(st.floats(0.001, 0.5), st.floats(0.501, 0.999)),
}


@st.composite
def floats(draw: Any) -> Dimension:
    scale = draw(st.sampled_from(list(ENDS)))
    low, high = draw(ENDS[scale])
    return Dimension("a", "float", low=low, high=high, scale=scale, unit=draw(st.sampled_from(["", ""])))


@st.composite
def stepped(draw: Any) -> Dimension:
    """Whole numbers, and numbers with a step that need not fit the range."""
    if draw(st.booleans()):
        scale = draw(st.sampled_from(["linear", "log"]))
        low = draw(st.integers(1 if scale == "log" else -500, 500))
        high = low + draw(st.integers(1, 400))
        step = draw(st.sampled_from([None, 1.0, float(draw(st.integers(1, high - low)))]))
        unit = draw(st.sampled_from(["", "ep"])) if low >= 0 else ""
        return Dimension("a", "int", low=float(low), high=float(high), scale=scale, step=step, unit=unit)
    places = draw(st.integers(1, 200))
    step = draw(st.sampled_from([0.1, 0.25, 0.3, 1.5, 0.001]))
    low = draw(st.sampled_from([-1.0, -0.3, 0.0, 0.1, 2.0]))
    high = low + step * (places + draw(st.sampled_from([0.0, 0.5])))
    return Dimension("a", "float", low=low, high=high, step=step)


def values(dimension: Dimension) -> list[Any]:
    step = dimension.step or 1.0
    return [dimension.value(dimension.low + place * step) for place in range(int(dimension.count))]


@settings(deadline=None, max_examples=150)
@given(floats() | stepped(), SHARES)
def test_what_is_drawn_lies_in_the_range(dimension: Dimension, share: float) -> None:
    assert dimension.holds(dimension.at(share))


@settings(deadline=None, max_examples=150)
@given(floats(), SHARES)
def test_a_share_leads_back_to_its_value(dimension: Dimension, share: float) -> None:
    value = dimension.at(share)
    again = dimension.at(dimension.share(value))
    assert dimension.number(again) == pytest.approx(dimension.number(value), rel=1e-6, abs=1e-6 * dimension.high)


@settings(deadline=None, max_examples=60)
@given(stepped())
def test_every_step_is_one_value_that_its_share_and_number_lead_back_to(dimension: Dimension) -> None:
    made = values(dimension)
    assert len(set(made)) == dimension.count
    for value in made:
        assert dimension.value(dimension.number(value)) == value
        assert dimension.at(dimension.share(value)) == value
        assert dimension.holds(value)


@settings(deadline=None, max_examples=60)
@given(stepped())
def test_steps_of_a_linear_range_have_equal_shares(dimension: Dimension) -> None:
    if dimension.scale == "linear":
        count = int(dimension.count)
        assert [dimension.at((place + 0.5) / count) for place in range(count)] == values(dimension)


@pytest.mark.parametrize(
    "dimension",
    [
        Dimension("a", "float", 0.0, 10.9, step=1.0),  # whose last step lies below its end
        Dimension("a", "int", 1, 40, "log"),
        Dimension("a", "float", 0.5, 8.2, "log", step=0.5),
        Dimension("a", "float", 0.05, 0.95, "logit", step=0.1),
        Dimension("a", "choice", choices=("x", "y", "z")),
    ],
)
def test_the_cells_of_all_values_fill_the_range_and_lead_back_to_them(dimension: Dimension) -> None:
    if dimension.kind == "choice":
        values = list(dimension.choices)
    else:
        values = [dimension.value(dimension.low + n * (dimension.spacing or 1)) for n in range(int(dimension.count))]
    edge = 0.0
    for value in values:
        begin, end = dimension.cell(value)
        assert begin == pytest.approx(edge, abs=1e-12)
        assert {dimension.at(begin + share * (end - begin)) for share in (1e-6, 0.5, 1 - 1e-6)} == {value}
        edge = end
    assert edge == pytest.approx(1.0, abs=1e-12)
    assert Dimension("b", "float", 0.0, 4.0).cell(1.0) == (0.25, 0.25)


def test_steps_are_written_as_one_would_write_them() -> None:
    dimension = Dimension("a", "float", low=0.0, high=1.0, step=0.1)
    assert values(dimension) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_large_whole_numbers_are_all_there() -> None:
    low = 10**15
    dimension = Dimension("seed", "int", low, low + 4)
    assert [dimension.at(n / 5 + 0.1) for n in range(5)] == [low + n for n in range(5)]


def test_a_range_below_zero_keeps_its_upper_end() -> None:
    dimension = Dimension("a", "float", low=-3.0, high=-1.0, step=1.0)
    assert [dimension.value(number) for number in (-9.0, -2.2, -1.0, 0.0)] == [-3.0, -2.0, -1.0, -1.0]


def test_both_ends_of_whole_numbers_on_a_log_scale_are_drawn() -> None:
    dimension = Dimension("a", "int", low=1.0, high=64.0, scale="log")
    drawn = [dimension.at((n + 0.5) / 1000) for n in range(1000)]
    assert drawn.count(1) > 200
    assert drawn.count(64) >= 3
    assert drawn == sorted(drawn)


def test_each_choice_has_the_same_share() -> None:
    dimension = Dimension("a", "choice", choices=("x", True, 1, 1.0))
    drawn = [dimension.at(n / 400) for n in range(400)]
    assert [drawn.count("x"), sum(value is True for value in drawn)] == [100, 100]
    assert [dimension.number(value) for value in dimension.choices] == [0, 1, 2, 3]
    assert [dimension.at(dimension.share(value)) for value in ("x", 1.0)] == ["x", 1.0]
    assert dimension.at(1.0) == 1.0


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        (Dimension("a", "int", low=1, high=9), 2.0),
        (Dimension("a", "int", low=1, high=9), True),
        (Dimension("a", "int", low=1, high=9), "3"),
        (Dimension("a", "int", low=1, high=9), 10),
        (Dimension("a", "float", low=0, high=1), math.nan),
        (Dimension("a", "float", low=0, high=1), math.inf),
        (Dimension("a", "float", low=0, high=1), "0.5"),
        (Dimension("a", "float", low=0, high=1), None),
        (Dimension("a", "int", low=1, high=9, unit="ep"), "3ba"),
        (Dimension("a", "int", low=1, high=9, unit="ep"), 3),
        (Dimension("a", "int", low=1, high=9, unit="ep"), "2.5ep"),
        (Dimension("a", "choice", choices=(1, 2)), True),
        (Dimension("a", "choice", choices=(1, 2)), 1.0),
    ],
)
def test_what_is_not_one_of_the_values_is_not_held(dimension: Dimension, value: Any) -> None:
    assert not dimension.holds(value)


def test_a_value_outside_has_the_share_of_the_nearest_end() -> None:
    dimension = Dimension("a", "float", low=0.1, high=1.0, scale="log")
    assert [dimension.share(value) for value in (-1.0, 0.01, 0.1, 1.0, 7.0)] == [0.0, 0.0, 0.0, 1.0, 1.0]


NESTED = Space(
    (
        Dimension("optimizer", "choice", choices=({"use": "sgd"}, {"use": "adam"})),
        Dimension("optimizer#0.lr", "float", low=0.1, high=1.0, scale="log", when={"optimizer": (0,)}),
        Dimension("optimizer#1.rest", "choice", choices=("a", "b"), when={"optimizer": (1,)}),
        Dimension("deep", "int", low=1, high=9, when={"optimizer#1.rest": (1,)}),
        Dimension("run.duration", "int", low=2, high=20, step=2, unit="ep"),
    )
)


@settings(deadline=None, max_examples=100)
@given(st.lists(SHARES, min_size=5, max_size=5))
def test_a_drawn_point_has_just_the_values_that_count(shares: list[float]) -> None:
    point = NESTED.at(shares)
    assert NESTED.holds(point)
    assert ("optimizer#0.lr" in point) is (point["optimizer"]["use"] == "sgd")
    assert ("deep" in point) is (point.get("optimizer#1.rest") == "b")
    assert not NESTED.holds({**point, "more": 1})
    assert not NESTED.holds({name: value for name, value in point.items() if name != "run.duration"})


def test_a_point_with_a_value_that_is_no_choice_is_not_held() -> None:
    point = {"optimizer": {"use": "lion"}, "run.duration": "2ep"}
    assert not NESTED.holds(point)
    assert [dimension.name for dimension in NESTED.counting(point)] == ["optimizer", "run.duration"]


def test_limits_look_at_numbers_fixed_values_and_units() -> None:
    two = (
        Dimension("batch", "choice", choices=(32, 64)),
        Dimension("time", "int", low=1, high=9, unit="ep"),
    )
    space = Space(two, (Limit(("batch", "time"), "product", "at_most", "most", 2.0),), {"most": 64.0})
    assert space.holds({"batch": 32, "time": "4ep"})
    assert not space.holds({"batch": 64, "time": "3ep"})


@pytest.mark.parametrize(
    ("relation", "met"), [("at_most", [1, 2]), ("below", [1]), ("at_least", [2, 3]), ("above", [3])]
)
def test_relations(relation: Any, met: list[int]) -> None:
    limit = Limit(("a",), "sum", relation, 2.0)
    assert [value for value in (1, 2, 3) if limit.holds({"a": value})] == met
