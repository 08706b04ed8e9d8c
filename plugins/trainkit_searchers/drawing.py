"""What searchers share that propose a point for each trial; and the plainest of them, random search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainkit import Objective, Order, Point, Space, Trial
from trainkit_searchers.points import DRAWS, Key, all_points, draw, generator, key_of


class Proposing:
    """Proposes a point for each trial that meets the constraints and, where the space is small, was not tried before.

    A proposal that does not is made again; after some attempts a point is drawn, and in a small space at last one of
    those that are left.

    Args:
        seed: the recipe's seed.
    """

    attempts = 20
    changes: Mapping[str, Any] = {}
    note = ""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken = 0
        self.tried: set[Key] = set()

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        self.space = space
        self.objectives = len(objectives)
        self.trials = trials
        self.all = all_points(space)

    def ask(self) -> Order | None:
        """A point for the next trial."""
        point = self._point()
        return None if point is None else Order(point, changes=self.changes, note=self.note)

    def took(self, order: Order, trial: Trial) -> None:
        """Count the trial, and remember what was tried."""
        if order.trial is not None:
            return
        self.taken += 1
        if self.all is not None and self.space.holds(trial.point):
            self.tried.add(key_of(self.space, trial.point))

    def tell(self, trial: Trial) -> None:
        """Results change nothing."""

    def exhausted(self) -> str:
        """Why there is no more."""
        if self.all is not None:
            return f"all {len(self.tried)} points of the space are tried"
        return f"none of {DRAWS} drawn points meets the constraints"

    def propose(self, attempt: int) -> Point | None:
        """A point for trial number `taken`; ``None`` for one that is drawn.

        Args:
            attempt: how many proposals were not accepted.
        """
        return None

    def _point(self) -> Point | None:
        for attempt in range(self.attempts):
            point = self.propose(attempt)
            if point is None:
                break
            if self.space.allows(point) and self.is_new(point):
                return point
        source = generator(self.seed, self.taken)
        found = draw(self.space, source, self.is_new)
        if found is None and self.all is not None:
            left = [point for point in self.all if self.space.allows(point) and self.is_new(point)]
            return left[int(source.integers(len(left)))] if left else None
        return found

    def is_new(self, point: Point) -> bool:
        """Whether it was not tried, as far as that is remembered."""
        return self.all is None or key_of(self.space, point) not in self.tried


class Random(Proposing):
    """Draws each trial's point evenly from the space, on each dimension's own scale."""
