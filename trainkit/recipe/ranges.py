"""Ranges of a search's space: ends, step and scale, read as the type of their setting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from trainkit.clock import Span
from trainkit.recipe.text import did_you_mean, shown_value, with_article
from trainkit.settings import describe_type, find_nested, is_duration, split_annotated
from trainkit.space import Dimension

SCALES = ("linear", "log", "logit")
# Whole numbers up to here are exact as the numbers that searchers see.
LARGEST = 2**53
EXAMPLE = "write { low = 0.001, high = 0.1 } or { choices = [1, 2] } or [1, 2]"
# Kind, unit and numbers.
_Read: TypeAlias = tuple[Literal["int", "float"], str, dict[str, float]]


def _wrong(message: str, cure: str) -> ValueError:
    return ValueError(f"{message}\n{cure}")


def read_range(raw: Mapping[str, Any], annotation: Any, draft: Dimension) -> Dimension:
    """The dimension of a range.

    Args:
        raw: what was written, its keys known.
        annotation: the type of the setting.
        draft: the dimension so far.

    Raises:
        ValueError: ``message\\ncure`` if it is no range of this setting.
    """
    for key in ("low", "high"):
        if key not in raw:
            raise _wrong(f"has no {key}", EXAMPLE)
    numbers: dict[str, Any] = {key: raw[key] for key in ("low", "high", "step") if key in raw}
    scale = raw.get("scale", "linear")
    if scale not in SCALES:
        cure = did_you_mean(str(scale), SCALES) + f"scales: {', '.join(SCALES)}"
        raise _wrong(f"no scale named {shown_value(scale)}", cure)
    kind, unit, values = _durations(numbers) if is_duration(annotation) else _numbers(numbers, annotation)
    low, high, step = values["low"], values["high"], values.get("step")
    said = f"low = {shown_value(raw['low'])}, high = {shown_value(raw['high'])}"
    if low >= high:
        cure = "write the value in the recipe itself, or a wider range" if low == high else "low comes first"
        raise _wrong(f"an empty range: {said}", cure)
    if not math.isfinite(high - low):
        raise _wrong(f"too wide a range: {said}", "bring the ends nearer to each other")
    if step is not None and (step <= 0 or step > high - low or (high - low) / step > LARGEST):
        message = f"step = {shown_value(raw['step'])} does not fit between {said}"
        raise _wrong(message, "a step is above 0, no longer than the range, and not beyond counting")
    if scale == "log" and low <= 0:
        raise _wrong(f'scale = "log" cannot begin at 0 or below: {said}', "raise low above 0")
    if scale == "logit" and not 0 < low < high < 1:
        raise _wrong(f'scale = "logit" lies between 0 and 1, both apart: {said}', "write both ends within")
    return dataclasses.replace(draft, kind=kind, low=low, high=high, scale=scale, step=step, choices=(), unit=unit)


def _numbers(numbers: Mapping[str, Any], annotation: Any) -> _Read:
    bare = split_annotated(annotation)[0]
    if bare not in (int, float, Any) or find_nested(annotation) is not None:
        cure = f"write choices; it takes {with_article(describe_type(annotation))}"
        raise _wrong("it is not a number, so that it can have no low and high", cure)
    for key, value in numbers.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
        fits = whole or (isinstance(value, float) and math.isfinite(value) and bare is not int)
        if not fits:
            what = "an integer" if bare is int else "a number"
            raise _wrong(f"{key} must be {what}, got {shown_value(value)}", f"the setting takes {what}")
    whole = bare is int or (bare is Any and all(isinstance(value, int) for value in numbers.values()))
    return ("int" if whole else "float"), "", {key: float(value) for key, value in numbers.items()}


def _durations(numbers: Mapping[str, Any]) -> _Read:
    spans: dict[str, Span] = {}
    for key, value in numbers.items():
        try:
            spans[key] = Span.parse(value)
        except (ValueError, TypeError, AttributeError):
            raise _wrong(f"{key} must be a duration, got {shown_value(value)}", 'such as "5ep"') from None
        if spans[key].amount > LARGEST:
            raise _wrong(f"{key} is too long a time, got {shown_value(value)}", 'such as "5ep"')
    units = {span.unit for span in spans.values()}
    if len(units) > 1:
        said = ", ".join(f'{key} = "{numbers[key]}"' for key in numbers)
        raise _wrong(f"durations of one range need one unit: {said}", "write all of them in the same")
    (unit,) = units
    whole = unit != "dur" and all(span.amount.denominator == 1 for span in spans.values())
    return ("int" if whole else "float"), unit, {key: float(span.amount) for key, span in spans.items()}
