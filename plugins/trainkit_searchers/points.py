"""Points of a space: all of them in order by their number, without listing them; which are the same; drawn ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.random import Generator

    from trainkit import Dimension, Point, Space

# A point that meets the constraints is looked for with so many draws.
DRAWS = 1000
# Points of a finite space that is small enough to remember which were tried.
SMALL = 10_000

Key = tuple[tuple[str, str], ...]


def generator(seed: int, *numbers: int) -> Generator:
    """Where the random choices of a trial come from: the recipe's seed, and the trial's number."""
    import numpy as np

    return np.random.default_rng([seed, *numbers])


def key_of(space: Space, point: Point) -> Key:
    """What tells points apart, whether their numbers are whole or not and up to rounding."""
    return tuple(sorted((name, _text(space[name], value)) for name, value in point.items()))


def _text(dimension: Dimension, value: Any) -> str:
    number = dimension.number(value)
    return f"{number:.10g}" if dimension.kind == "float" else f"{number:.0f}"


def draw(space: Space, source: Generator, accepts: Callable[[Point], bool] = lambda point: True) -> Point | None:
    """An even draw that meets the constraints and is accepted; ``None`` where none of many does."""
    for _ in range(DRAWS):
        point = space.at(source.random(len(space)).tolist())
        if space.allows(point) and accepts(point):
            return point
    return None


class Product:
    """Every combination of some values for each dimension, those that do not count left out, each once.

    The combinations have an order, in which the last dimension changes fastest, and are made from their number when
    asked for: a product of millions costs nothing.

    Args:
        space: what is varied.
        values: the values of each dimension, by name.
    """

    def __init__(self, space: Space, values: dict[str, list[Any]]) -> None:
        self.space = space
        self.values = values
        # Of the values chosen so far, how many combinations follow depends on those that conditions name, alone.
        self._named = {name for dimension in space.dimensions for name in dimension.when}
        self._counts: dict[tuple[int, Key], int] = {}
        self.count = self._count(0, {})

    def __getitem__(self, number: int) -> dict[str, Any]:
        if not 0 <= number < self.count:
            raise IndexError(number)
        point: dict[str, Any] = {}
        for place, dimension in enumerate(self.space.dimensions):
            if not self.space.counts(dimension, point):
                continue
            values = self.values[dimension.name]
            if dimension.name not in self._named:  # each value has as many combinations behind it
                after = self._count(place + 1, point)
                chosen, number = divmod(number, after)
                point[dimension.name] = values[chosen]
                continue
            for value in values:
                after = self._count(place + 1, {**point, dimension.name: value})
                if number < after:
                    point[dimension.name] = value
                    break
                number -= after
        return point

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[number] for number in range(self.count))

    def _count(self, place: int, point: dict[str, Any]) -> int:
        if place == len(self.space.dimensions):
            return 1
        chosen = {name: value for name, value in point.items() if name in self._named}
        key = place, key_of(self.space, chosen)
        if key not in self._counts:
            dimension = self.space.dimensions[place]
            values: Sequence[Any] = self.values[dimension.name]
            if not self.space.counts(dimension, point):
                count = self._count(place + 1, point)
            elif dimension.name not in self._named:
                count = len(values) * self._count(place + 1, point)
            else:
                count = sum(self._count(place + 1, {**point, dimension.name: value}) for value in values)
            self._counts[key] = count
        return self._counts[key]


def values_of(dimension: Dimension) -> list[Any]:
    """All values of a dimension that has finitely many."""
    if dimension.kind == "choice":
        return list(dimension.choices)
    step = dimension.spacing or 1.0
    return [dimension.value(dimension.low + place * step) for place in range(int(dimension.count))]


def all_points(space: Space) -> Product | None:
    """All points of a small finite space, those that constraints forbid among them; ``None`` of any other."""
    if math.prod(dimension.count for dimension in space.dimensions if not dimension.when) > SMALL:
        return None
    if any(dimension.count > SMALL for dimension in space.dimensions):
        return None
    product = Product(space, {dimension.name: values_of(dimension) for dimension in space.dimensions})
    return product if product.count <= SMALL else None
