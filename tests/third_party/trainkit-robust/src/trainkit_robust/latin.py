"""Latin hypercube search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainkit import Objective, Order, Point, Space, Trial

_DRAWS = 200  # places that are tried for one point


class LatinHypercube:
    """See `trainkit_robust.latin_hypercube`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken = 0

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """Deal out the parts: for each dimension every part once, in an order of its own."""
        self.space, self.trials = space, trials
        order = np.random.default_rng([self.seed])
        self.parts = np.stack([order.permutation(trials) for _ in range(len(space))], axis=1)

    def ask(self) -> Order | None:
        """The next point; nothing once each part was tried."""
        point = self._point(self.taken) if self.taken < self.trials else None
        return None if point is None else Order(point)

    def _point(self, number: int) -> Point | None:
        place = np.random.default_rng([self.seed, number])
        for within in range(_DRAWS):
            shares = (self.parts[number] + place.random(len(self.space))) / self.trials
            if within > _DRAWS // 2:  # the parts have no point that meets the constraints
                shares = place.random(len(self.space))
            point = self.space.at(shares.tolist())
            if self.space.allows(point):
                return point
        return None

    def took(self, order: Order, trial: Trial) -> None:
        """One more is tried."""
        self.taken += 1

    def tell(self, trial: Trial) -> None:
        """Results change nothing."""

    def exhausted(self) -> str:
        """Why there is no more."""
        if self.taken < self.trials:
            return f"none of {_DRAWS} draws meets the constraints of the space"
        return f"each of the {self.trials} parts of every range is tried"
