"""Fewer points, so that a page of many curves stays small and quick; spikes stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

_LARGEST = 1e100
_LEAST = 1e-100

Item = TypeVar("Item")


def kept(values: Sequence[float], most: int) -> Sequence[int]:
    """Numbers of the points that stay: the first, the last, and of each bunch of neighbours the lowest and highest.

    Args:
        values: of a curve. One that is not finite is a gap, and counts as neither lowest nor highest.
        most: points that stay, about; a curve that has no more keeps all.
    """
    count = len(values)
    if count <= most:
        return range(count)
    found = {0, count - 1}
    bunches = max(1, most // 2)
    for bunch in range(bunches):
        within = range(bunch * count // bunches, (bunch + 1) * count // bunches)
        finite = [index for index in within if math.isfinite(values[index])] or [within[0]]
        found.add(min(finite, key=values.__getitem__))
        found.add(max(finite, key=values.__getitem__))
    return sorted(found)


def every(items: Sequence[Item], most: int) -> tuple[Sequence[Item], int]:
    """Items at even distances, no more than ``most``, and one in how many that is."""
    step = max(1, -(-len(items) // most))
    return items[::step], step


def numbers(values: Sequence[float], digits: int) -> list[float | None]:
    """Values as JSON has them, to so many digits; ``None`` for what cannot be drawn."""
    return [number(value, digits) for value in values]


def can_be_drawn(value: float) -> bool:
    """Whether a value is finite, and not so large that its distance from others would not be."""
    return abs(value) < _LARGEST  # not so of what is no number


def number(value: Any, digits: int) -> float | None:
    """One value as JSON has it; ``None`` for what cannot be drawn."""
    if value is None or not can_be_drawn(value):
        return None
    rounded = float(f"{value:.{digits}g}") if abs(value) > _LEAST else 0.0
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
