"""The closed list of types a recipe value can have: what each takes, what each refuses, and how each reads."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import ValidationError

from trainkit import Between, Duration, Fraction, Nested, NonNegative, NonNegativeInt, Period, Positive, PositiveInt
from trainkit.settings import REQUIRED, Setting, describe_type, duration_limits, durations_inside, show_value
from trainkit.signature import read_given, read_help, read_settings
from trainkit.strict import settings_model

OPEN = Annotated[float, Between(0, 1, high_open=True)]


def checked(annotation: Any, value: Any) -> Any:
    """What becomes of a value of the recipe."""
    model = settings_model("table", [Setting("it", annotation)])
    return model.model_validate({"it": value}).field_it  # type: ignore[attr-defined]


def same(got: Any, expected: Any) -> bool:
    return type(got) is type(expected) and got == expected


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (bool, True, True),
        (int, 3, 3),
        (int, -(2**63), -(2**63)),
        (float, 0.5, 0.5),
        (float, 3, 3.0),  # an int passes for a float
        (str, "", ""),
        (Path, "a/b", "a/b"),
        (Duration, "5ep", "5ep"),
        (Duration, "0ba", "0ba"),
        (Literal["a", "b"], "a", "a"),
        (Literal[False, "step"], False, False),
        (Literal[0, 1], 0, 0),
        (list[int], [], []),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (tuple[float, float], [0, 1], (0.0, 1.0)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (dict[str, Any], {"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}),
        (int | None, 3, 3),
        (Optional[float], 3, 3.0),  # noqa: UP045 - both spellings are in use
        (list[tuple[int, int]], [[1, 2]], [(1, 2)]),
        (Fraction, 0, 0.0),
        (Fraction, 1.0, 1.0),
        (Positive, 1e-300, 1e-300),
        (PositiveInt, 1, 1),
        (NonNegativeInt, 0, 0),
        (Annotated[Any, Nested("optimizer")], {"use": "sgd"}, {"use": "sgd"}),
    ],
)
def test_a_value_of_its_type_passes(annotation, value, becomes):
    assert same(checked(annotation, value), becomes)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        # a bool is never a number, and no string is converted
        (int, True), (int, False), (float, True), (int, "3"), (float, "0.5"), (float, "1e-3"), (bool, 1), (bool, 0),
        (bool, "true"), (str, 3), (str, True), (int, 3.0), (int, 2.5), (float, math.nan), (float, math.inf),
        (float, -math.inf), (float, None), (str, None), (int, [1]), (str, ["a"]), (int, date(2026, 1, 1)),
        (str, date(2026, 1, 1)), (str, b"a"),
        # paths and durations are text of a form
        (Path, ""), (Path, "a\0b"), (Path, 3), (Duration, 5), (Duration, 0.5), (Duration, True), (Duration, "5"),
        (Duration, "five ep"), (Duration, ""), (Duration, ["5ep"]),
        # a literal is a word of the list, of the same type
        (Literal["a", "b"], "c"), (Literal["a", "b"], "A"), (Literal[False, "step"], 0),
        (Literal[False, "step"], "false"),
        (Literal[0, 1], False), (Literal[0, 1], 1.0), (Literal[True], 1), (Literal["1"], 1),
        # lists, tuples, tables: each item, and the length
        (list[int], [1, True]), (list[int], "12"), (list[int], 1), (list[int], {"a": 1}), (tuple[int, ...], [1, "2"]),
        (tuple[float, float], [0.5]), (tuple[float, float], [0.1, 0.2, 0.3]), (tuple[float, float], []),
        (tuple[float, float], 0.5), (dict[str, float], {"a": "1"}), (dict[str, float], [1.0]),
        (int | None, "3"), (int | None, True),
        # limits, also where they are open, also inside lists
        (Fraction, -1e-9), (Fraction, 1.0000001), (Fraction, 2), (OPEN, 1.0), (OPEN, 1), (Positive, 0), (Positive, 0.0),
        (Positive, -0.0), (NonNegative, -1), (PositiveInt, 0), (NonNegativeInt, -1), (PositiveInt, 1.0),
        (list[PositiveInt], [1, 0]), (tuple[OPEN, OPEN], [0.9, 1.0]), (Annotated[int, Between(2, 4)] | None, 5),
        (Annotated[Any, Nested("optimizer")], "sgd"), (Annotated[Any, Nested("optimizer")], ["sgd"]),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_is_refused(annotation, value):
    with pytest.raises(ValidationError):
        checked(annotation, value)


def test_unknown_and_missing_keys_are_refused():
    model = settings_model("table", [Setting("lr", float), Setting("momentum", float, 0.0)])
    assert model.model_validate({"lr": 1}).field_momentum == 0.0  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        model.model_validate({"lr": 1, "momentun": 0.9})
    with pytest.raises(ValidationError):
        model.model_validate({"momentum": 0.9})


@pytest.mark.parametrize("name", ["json", "copy", "model_config", "schema", "dict", "validate", "_private"])
def test_names_that_the_checking_library_keeps_to_itself_are_free(name):
    model = settings_model("table", [Setting(name, int)])
    assert getattr(model.model_validate({name: 3}), f"field_{name}") == 3
    with pytest.raises(ValidationError):
        model.model_validate({f"field_{name}": 3})


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (bool, "true or false"),
        (int, "integer"),
        (float, "number"),
        (str, "text"),
        (Path, "path"),
        (Duration, "duration"),
        (Period, "duration"),
        (Duration | None, "duration, or unset"),
        (Fraction, "number from 0 to 1"),
        (OPEN, "number at least 0 and below 1"),
        (Positive, "number above 0"),
        (NonNegative, "number at least 0"),
        (PositiveInt, "integer at least 1"),
        (Annotated[float, Between(None, 3)], "number at most 3"),
        (int | None, "integer, or unset"),
        (Literal["auto", 1, False], 'one of "auto", 1, false'),
        (list[int], "list of integer"),
        (tuple[PositiveInt, ...], "list of integer at least 1"),
        (tuple[float, float], "list of 2: number, number"),
        (dict[str, float], "table of number"),
        (dict[str, Any], "table"),
        (Annotated[Any, Nested("optimizer")], "optimizer table with its own 'use'"),
        (list[Annotated[Any, Nested("callback")]], "list of callback table with its own 'use'"),
    ],
)
def test_a_type_reads_in_a_users_words(annotation, text):
    assert describe_type(annotation) == text


@pytest.mark.parametrize(
    "annotation",
    [Any, object, bytes, complex, date, set[int], frozenset[int], list, tuple, dict, dict[int, str], int | str,
     int | str | None, type[int], list[Any], Annotated[bytes, Between(0)], "int", None],
)  # fmt: skip
def test_any_other_type_is_not_on_the_list(annotation):
    with pytest.raises(TypeError, match="is not a type that a setting can have"):
        describe_type(annotation)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unset"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.1, "0.1"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ("a", '"a"'),
        ('say "a"\\\n', '"say \\"a\\"\\\\\\n"'),
        ([1, "a"], '[1, "a"]'),
        ((0.9, 0.999), "[0.9, 0.999]"),
        ({"a": None}, "{a = unset}"),
    ],
)
def test_values_are_shown_as_toml_would_write_them(value, text):
    assert show_value(value) == text


def test_limits_hold_at_their_ends_unless_opened():
    assert Between(0, 1).holds(0)
    assert Between(0, 1).holds(1)
    assert not Between(0, 1, low_open=True).holds(0)
    assert not Between(0, 1, high_open=True).holds(1)
    assert Between(None, None).holds(-1e300)


def factory(given: int, /, *, lr: Positive, widths: tuple[PositiveInt, ...] = (128,), name: str | None = None) -> None:
    """Do something
    over two lines.

    More of it.

    Args:
        given: by the core.
        lr: learning rate,
            which goes on here.
        widths: units of each layer.

    Returns:
        widths: not an argument.
    """


def test_settings_are_the_keyword_only_parameters():
    lr, widths, name = read_settings(factory)
    assert (lr.name, lr.required, lr.default, lr.help) == ("lr", True, REQUIRED, "learning rate, which goes on here.")
    assert (widths.default, widths.help) == ((128,), "units of each layer.")
    assert (name.help, name.required) == ("", False)
    assert str(lr) == "lr: number above 0 (required)"
    assert str(widths) == "widths: list of integer at least 1 = [128]"
    assert str(name) == "name: text, or unset = unset"
    assert read_given(factory) == ("given",)


def test_help_is_the_first_paragraph_and_the_arguments():
    first, helps = read_help(factory.__doc__)
    assert first == "Do something over two lines."
    assert set(helps) == {"given", "lr", "widths"}
    assert read_help(None) == ("", {})
    assert read_help("Alone.") == ("Alone.", {})


def undecided(lr: float) -> None: ...
def many(*values: int) -> None: ...
def anything(**values: int) -> None: ...
def bare(*, lr) -> None: ...  # type: ignore[no-untyped-def]
def odd(*, when: date) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (undecided, "put 'lr' before '/' \\(given by the core\\) or after '\\*' \\(read from the recipe\\)"),
        (many, "put 'values' before '/'"),
        (anything, "put 'values' before '/'"),
        (bare, "setting 'lr' has no annotation"),
        (odd, "setting 'when': .*date.* is not a type that a setting can have"),
    ],
)
def test_a_signature_that_says_too_little_is_refused(function, message):
    with pytest.raises(TypeError, match=message):
        read_settings(function)


def test_durations_are_found_in_lists_and_tables_and_their_limits_in_optionals():
    assert durations_inside(list[Duration]) == durations_inside(dict[str, Duration]) == Duration
    assert durations_inside(dict[str, Period] | None) == Period
    assert durations_inside(list[Period] | None) == Period
    assert [durations_inside(other) for other in (Duration, list[str], list[int] | None, dict[str, str])] == [None] * 4
    assert duration_limits(Period) == duration_limits(Period | None) == [Between(1)]
    assert duration_limits(Duration) == duration_limits(Duration | None) == []
