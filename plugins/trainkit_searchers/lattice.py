"""Grid search: every combination of some values for each setting, in order, or an even sample of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from trainkit import Dimension, Objective, Order, Point, Rung, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.points import Key, Product, generator, key_of, values_of

# Where constraints forbid points, those that are left are counted if the whole product is no larger.
COUNTED = 100_000


class Grid:
    """The points of a grid in their order, each once.

    Args:
        points: how many values a number without a step gets.
    """

    def __init__(self, points: int) -> None:
        self.points = points
        self.next = 0
        self.given: set[Key] = set()
        self._found: tuple[int, int] | None = None  # the number to begin at, and that of the next point to try

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        self.space = space
        self.trials = trials
        self.product = product_of(space, self.points)
        self.size = _count(self.product)
        if self.size > trials:
            values = " x ".join(str(len(self.product.values[dimension.name])) for dimension in space.dimensions)
            each = f" ({values})" if len(space.dimensions) > 1 else ""
            raise ValueError(
                f"the grid has {self.size:,} points{each} and the search has {trials:,} trials\n"
                f"write trials = {self.size + 1} in [search], one more than points, for the recipe as written; "
                "or fewer points, larger steps or fewer choices; or sample = true to try an even sample of the grid"
            )

    def plan(self) -> list[Rung]:
        """All points, and the recipe as written."""
        return [Rung(min(self.trials, self.size + 1))]

    def ask(self) -> Order | None:
        """The next point that meets the constraints and was not given by the user."""
        number = self._next()
        return None if number >= self.product.count else Order(self.product[number])

    def took(self, order: Order, trial: Trial) -> None:
        """Go on to the next point, unless another point took its place."""
        if order.trial is not None or not self.space.holds(trial.point):
            return
        number, key = self._next(), key_of(self.space, trial.point)
        if number < self.product.count and key_of(self.space, self.product[number]) == key:
            self.next = number + 1
        else:
            self.given.add(key)
        self._found = None

    def tell(self, trial: Trial) -> None:
        """Results change nothing."""

    def exhausted(self) -> str:
        """Why there is no more."""
        return f"all {self.size:,} points of the grid are tried"

    def _next(self) -> int:
        if self._found is None or self._found[0] != self.next:
            numbers = range(self.next, self.product.count)
            found = next((number for number in numbers if self._is_left(self.product[number])), self.product.count)
            self._found = self.next, found
        return self._found[1]

    def _is_left(self, point: Point) -> bool:
        return self.space.allows(point) and (not self.given or key_of(self.space, point) not in self.given)


class SampledGrid(Proposing):
    """Points of a grid in random order, each at most once.

    Args:
        seed: the recipe's seed.
        points: how many values a number without a step gets.
    """

    attempts = 1000

    def __init__(self, seed: int, points: int) -> None:
        super().__init__(seed)
        self.points = points

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.product = product_of(space, self.points)

    def took(self, order: Order, trial: Trial) -> None:
        """Remember the point."""
        super().took(order, trial)
        if order.trial is None and self.space.holds(trial.point):
            self.tried.add(self.key(trial.point))

    def is_new(self, point: Point) -> bool:
        """Whether it was not tried."""
        return self.key(point) not in self.tried

    def exhausted(self) -> str:
        """Why there is no more."""
        return f"all {_count(self.product):,} points of the grid are tried"

    def _search(self) -> tuple[Point | None, int]:
        count = self.product.count
        source = generator(self.seed, self.taken)
        first = int(source.integers(count))
        drawn = (int(source.integers(count)) for _ in range(self.attempts))
        # After many draws nearly all are tried: the rest in order, from a drawn one on.
        rest = ((first + step) % count for step in range(count))
        for number in itertools.chain(drawn, rest):
            point = self.product[number]
            if self.space.allows(point) and self.is_new(point):
                return point, 0
        return None, 0


def product_of(space: Space, points: int) -> Product:
    """The grid of a space."""
    return Product(space, {dimension.name: _values(dimension, points) for dimension in space.dimensions})


def _values(dimension: Dimension, points: int) -> list[Any]:
    stepped = dimension.kind == "choice" or dimension.step is not None
    if stepped or dimension.count <= points:
        return values_of(dimension)
    shares = [0.5] if points == 1 else [place / (points - 1) for place in range(points)]
    values = [dimension.value(_number(dimension, share)) for share in shares]
    return list(dict.fromkeys(values))  # whole numbers on a logarithmic scale can fall together


def _number(dimension: Dimension, share: float) -> float:
    low, high = dimension.low, dimension.high
    if dimension.scale == "linear":
        return low + share * (high - low)
    if dimension.scale == "log":
        return float(low * (high / low) ** share)
    return dimension.number(dimension.at(share))


def _count(product: Product) -> int:
    """How many points meet the constraints, where that is soon counted."""
    if not product.space.limits or product.count > COUNTED:
        return product.count
    return sum(product.space.allows(point) for point in product)
