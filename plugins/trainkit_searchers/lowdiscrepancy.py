"""Sobol' points: they fill a space more evenly than drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainkit import Objective, Order, Point, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.points import DRAWS, generator

BLOCK = 256


class Scrambled:
    """Points of a scrambled Sobol' sequence, by their number; the scramble follows from the seed.

    Args:
        dimensions: of a point.
        seed: of the scramble.
    """

    def __init__(self, dimensions: int, seed: int) -> None:
        self.dimensions = dimensions
        self.seed = seed
        self._first = -1
        self._block: list[list[float]] = []

    def __getitem__(self, number: int) -> list[float]:
        first = number - number % BLOCK
        if first != self._first:
            import torch

            engine: Any = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]
                self.dimensions, scramble=True, seed=self.seed
            )
            engine.fast_forward(first)
            self._block = engine.draw(BLOCK, dtype=torch.float64).tolist()
            self._first = first
        return self._block[number - first]


class Sobol(Proposing):
    """Points of one Sobol' sequence; a given point takes none of them away.

    Args:
        seed: the recipe's seed.
    """

    attempts = DRAWS

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.used = 0

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        self.sequence = Scrambled(len(space), int(generator(self.seed).integers(2**31)))

    def propose(self, attempt: int) -> Point | None:
        """The next point of the sequence that was not used."""
        return self.space.at(self.sequence[self.used + attempt])

    def took(self, order: Order, trial: Trial) -> None:
        """Go on to the next point, unless another one took its place."""
        if order.trial is None and self.is_own(trial):
            self.used += self.proposals
        super().took(order, trial)
