"""Values that are plainly right pass without pydantic, and come out as the strict model gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import Between, Duration, Fraction, NonNegativeInt, Period, Positive, PositiveInt, Resume
from trainkit.manager import Plugins
from trainkit.settings import Nested, Setting
from trainkit.strict import Unsure, accepted, settings_model

TYPES: list[Any] = [
    bool,
    int,
    float,
    str,
    Path,
    Duration,
    Period,
    Positive,
    PositiveInt,
    NonNegativeInt,
    Fraction,
    Annotated[Fraction, Resume("fixed")],
    Annotated[float, Between(-1, 1, high_open=True)],
    Annotated[Any, Nested("optimizer")],
    Literal["a", "b", 1, True],
    Literal[False, "model"],
    float | None,
    Period | None,
    list[int],
    list[float] | None,
    list[list[Positive]],
    list[Duration],
    list[Annotated[Any, Nested("schedule")]],
    tuple[float, float],
    tuple[Fraction, ...],
    tuple[int, str] | None,
    dict[str, Any],
    dict[str, float],
    dict[str, Duration],
]
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**400, 0.0, -0.0, 1.0, 1e308]),
    st.integers(-3, 3),
    st.floats(),
    st.floats(-2, 2),
)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.sampled_from(["a", "b", "", "1ep", "0ba", "2.5ep", "5", "ep", "\0", "\ud800", "ü", "true", "1"]),
    st.text(max_size=3),
)
VALUES = st.recursive(
    PLAIN,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=2), st.just("\ud800")), inside, max_size=2),
        st.tuples(inside),
    ),
    max_leaves=4,
)
MODELS = [settings_model("it", [Setting("it", annotation)]) for annotation in TYPES]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@settings(deadline=None, max_examples=1500)
@given(st.integers(0, len(TYPES) - 1), VALUES)
def test_what_is_accepted_is_what_the_model_gives(number, value):
    try:
        quick = accepted(TYPES[number], value)
    except Unsure:
        return  # the model decides
    # Raises where the model refuses what was accepted.
    assert same(quick, MODELS[number].model_validate({"it": value}).field_it)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bool, True),
        (int, 3),
        (float, 3),
        (float, 0.5),
        (str, "ü"),
        (Path, "data/x.csv"),
        pytest.param(Duration, "5ep", id="Duration-5ep"),  # an object without a text of its own
        (Fraction, 1),
        (Literal["a", 1], 1),
        (float | None, 0.5),
        (list[float], [1, 2.5]),
        (tuple[float, float], [0.9, 0.999]),
        (dict[str, float], {"a": 1}),
        (Annotated[Any, Nested("optimizer")], {"use": "sgd"}),
    ],
    ids=str,
)
def test_what_recipes_hold_needs_no_pydantic(annotation, value):
    accepted(annotation, value)


def test_the_examples_of_all_components_need_no_pydantic():
    plugins = Plugins()
    plugins.load()
    for plugin in plugins.plugins:
        for component in plugin.components:
            for setting in component.settings:
                if setting.name in component.example:
                    accepted(setting.annotation, component.example[setting.name])
