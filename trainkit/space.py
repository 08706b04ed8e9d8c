"""What a search varies: settings with their ranges or choices, the conditions under which each counts, and limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Scale = Literal["linear", "log", "logit"]
# Values by the dotted setting, only those that count: {"optimizer.lr": 0.1}. Plain values, as a recipe writes them.
Point = Mapping[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One setting that a search varies.

    Args:
        name: the dotted setting, such as ``optimizer.lr``; of a number inside a choice of tables, the setting with the
            choice's number before it, such as ``optimizer#1.lr``.
        kind: ``float``, ``int`` or ``choice``.
        low: smallest value of a number.
        high: largest value of a number.
        scale: of numbers, the scale on which the range is even.
        step: distance between the values of a number that are tried; ``None``: any number (1 for whole numbers).
        choices: the values of a ``choice``, as a recipe writes them; tables where a choice is a whole table.
        when: it counts only where each of these dimensions has one of the values, by name; of choices, by number.
        unit: unit of a duration, such as ``ep``: the number is that of the units.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 1.0
    scale: Scale = "linear"
    step: float | None = None
    choices: tuple[Any, ...] = ()
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    unit: str = ""

    @property
    def count(self) -> float:
        """How many values there are: infinite for a number without a step."""
        if self.kind == "choice":
            return len(self.choices)
        step = self.spacing
        return math.inf if step is None else math.floor((self.high - self.low) / step * (1 + 1e-12)) + 1

    @property
    def spacing(self) -> float | None:
        """Distance between the values of a number: its step, 1 for whole numbers without; ``None``: any number."""
        return 1.0 if self.kind == "int" and self.step is None else self.step

    def number(self, value: Any) -> float:
        """A value as the number that searchers see: of a choice, its place; of a duration, its count of units."""
        if self.kind == "choice":
            for place, choice in enumerate(self.choices):
                if choice == value and type(choice) is type(value):
                    return place
            raise ValueError(f"{self.name}: {value!r} is none of the choices")
        if self.unit:
            if not isinstance(value, str) or not value.endswith(self.unit):
                raise ValueError(f"{self.name}: {value!r} is not in {self.unit}")
            return float(value.removesuffix(self.unit))
        if isinstance(value, str | bool):
            raise ValueError(f"{self.name}: {value!r} is not a number")
        return float(value)

    def value(self, number: float) -> Any:
        """The recipe's value for a number that searchers see; rounded to the step and held within the range."""
        if self.kind == "choice":
            return self.choices[int(number)]
        step = self.spacing
        if step is not None:
            number = self.low + self._place(number, step) * step
            if self.kind == "float":
                number = float(f"{number:.12g}")  # 0.3, not 0.30000000000000004
        number = min(max(number, self.low), self.high)
        if self.kind == "int":
            return f"{round(number)}{self.unit}" if self.unit else round(number)
        return f"{number:.12g}{self.unit}" if self.unit else float(number)

    def at(self, share: float) -> Any:
        """The recipe's value at a share of the range, 0 to 1, even on the dimension's scale."""
        if self.kind == "choice":
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        if self.spacing is not None and self.scale == "linear":  # each value the same share
            return self.value(self.low + min(math.floor(share * self.count), self.count - 1) * self.spacing)
        low, high = self._span
        return self.value(self._unwarped(low + share * (high - low)))

    def share(self, value: Any) -> float:
        """Where a value lies in the range, 0 to 1, on the dimension's scale; of a choice, the middle of its part."""
        number = self.number(value)
        if self.kind == "choice":
            return (number + 0.5) / len(self.choices)
        low, high = self._span
        number = min(max(number, self.low), self.high)  # a recipe's own value may lie outside
        return 0.5 if high == low else (self._warped(number) - low) / (high - low)

    def cell(self, value: Any) -> tuple[float, float]:
        """The shares of the range that `at` makes a value of: a single one, or a part where values are counted."""
        number, step = self.number(value), self.spacing
        if self.kind == "choice":
            return number / self.count, (number + 1) / self.count
        if step is None:
            return self.share(value), self.share(value)
        place = self._place(number, step)
        if self.scale == "linear":
            return place / self.count, (place + 1) / self.count
        low, high = self._span
        begin = low if place == 0 else self._warped(self.low + (place - 0.5) * step)
        end = high if place == self.count - 1 else self._warped(self.low + (place + 0.5) * step)
        return (begin - low) / (high - low), (end - low) / (high - low)

    def _place(self, number: float, step: float) -> int:
        """Which of the counted values is nearest to a number, from 0."""
        return min(max(round((number - self.low) / step), 0), int(self.count) - 1)

    def holds(self, value: Any) -> bool:
        """Whether a value is a choice, or lies in the range and is of its type; one between two steps does."""
        try:
            number = self.number(value)
        except (TypeError, ValueError, OverflowError):
            return False
        if self.kind == "choice":
            return True
        whole = number.is_integer() and not isinstance(value, float)
        return self.low <= number <= self.high and (whole or self.kind == "float")

    @property
    def _span(self) -> tuple[float, float]:
        """Both ends on the dimension's scale."""
        if self.kind == "int" and self.scale == "log":  # so that the ends get their whole share
            return math.log(self.low - 0.5), math.log(self.high + 0.5)
        return self._warped(self.low), self._warped(self.high)

    def _warped(self, number: float) -> float:
        if self.scale == "log":
            return math.log(number)
        return math.log(number / (1 - number)) if self.scale == "logit" else number

    def _unwarped(self, number: float) -> float:
        if self.scale == "log":
            return math.exp(number)
        return 1 / (1 + math.exp(-number)) if self.scale == "logit" else number


@dataclass(frozen=True)
class Limit:
    """A constraint between settings: the sum or product of some, against a number or another setting.

    Args:
        terms: the settings on the left.
        by: how they are put together.
        relation: how the left side stands to the right.
        right: a number, or a setting.
        factor: the right side is multiplied by it.
    """

    terms: tuple[str, ...]
    by: Literal["sum", "product"]
    relation: Literal["at_most", "at_least", "below", "above"]
    right: float | str
    factor: float = 1.0

    def holds(self, values: Mapping[str, float]) -> bool:
        """Whether it is met; one whose settings do not all count is."""
        names = (*self.terms, *([self.right] if isinstance(self.right, str) else []))
        if any(name not in values for name in names):
            return True
        terms = [values[name] for name in self.terms]
        left = sum(terms) if self.by == "sum" else math.prod(terms)
        right = self.factor * (values[self.right] if isinstance(self.right, str) else self.right)
        return {"at_most": left <= right, "at_least": left >= right, "below": left < right, "above": left > right}[
            self.relation
        ]


@dataclass(frozen=True)
class Space:
    """All that a search varies.

    Args:
        dimensions: in an order in which each comes after those that its ``when`` names.
        limits: constraints that a point must meet.
        fixed: values of the recipe that constraints name and the search does not vary.
    """

    dimensions: tuple[Dimension, ...]
    limits: tuple[Limit, ...] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Dimension:
        for dimension in self.dimensions:
            if dimension.name == name:
                return dimension
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self.dimensions)

    def counting(self, point: Point) -> Iterator[Dimension]:
        """The dimensions that count where those before have the point's values."""
        for dimension in self.dimensions:
            if self.counts(dimension, point):
                yield dimension

    def counts(self, dimension: Dimension, point: Point) -> bool:
        """Whether a dimension counts at a point."""
        for name, values in dimension.when.items():
            if name not in point:
                return False
            other = self[name]
            held = point[name]
            if other.kind == "choice":
                try:
                    held = int(other.number(held))
                except ValueError:  # a recipe's own value that is none of the choices
                    return False
            if held not in values:
                return False
        return True

    def at(self, shares: Sequence[float]) -> dict[str, Any]:
        """The point at one share, 0 to 1, for each dimension; what does not count there is left out."""
        point: dict[str, Any] = {}
        for dimension, share in zip(self.dimensions, shares, strict=True):
            if self.counts(dimension, point):
                point[dimension.name] = dimension.at(share)
        return point

    def holds(self, point: Point) -> bool:
        """Whether a point has just the values that count, each within its range, and meets the constraints."""
        counting = list(self.counting(point))
        if {dimension.name for dimension in counting} != set(point):
            return False
        return all(dimension.holds(point[dimension.name]) for dimension in counting) and self.allows(point)

    def allows(self, point: Point) -> bool:
        """Whether a point meets the constraints."""
        if not self.limits:
            return True
        values = dict(self.fixed)
        for name, value in point.items():
            dimension = self[name]
            if dimension.kind != "choice":
                values[name] = dimension.number(value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                values[name] = value
        return all(limit.holds(values) for limit in self.limits)
