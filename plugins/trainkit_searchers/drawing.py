"""What searchers share that propose a point for each trial; and the plainest of them, random search."""

from __future__ import annotations

from collections.abc import Sequence

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

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.taken = 0
        self.tried: set[Key] = set()
        # What was asked for, until something changes: a point, and how many proposals it took, 0 for a drawn one.
        self._found: tuple[Point | None, int] | None = None

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        self.space = space
        self.objectives = len(objectives)
        self.trials = trials
        self.all = all_points(space)

    def ask(self) -> Order | None:
        """A point for the next trial."""
        point = self.next_point()
        return None if point is None else Order(point)

    def next_point(self) -> Point | None:
        """The point of trial number `taken`; ``None`` where there is no more."""
        if self._found is None:
            self._found = self._search()
        return self._found[0]

    @property
    def proposals(self) -> int:
        """How many proposals were made for the next point: 0 for one that was drawn."""
        self.next_point()
        return 0 if self._found is None else self._found[1]

    def is_own(self, trial: Trial) -> bool:
        """Whether a trial that is being taken has the point that was proposed for it."""
        own = self.next_point()
        return own is not None and self.space.holds(trial.point) and self.key(own) == self.key(trial.point)

    def key(self, point: Point) -> Key:
        """What tells points apart."""
        return key_of(self.space, point)

    def took(self, order: Order, trial: Trial) -> None:
        """Count the trial, and remember what was tried."""
        if order.trial is not None:
            return
        self.taken += 1
        self._found = None
        if self.all is not None and self.space.holds(trial.point):
            self.tried.add(key_of(self.space, trial.point))

    def tell(self, trial: Trial) -> None:
        """Results change nothing; searchers that learn call it last."""
        self._found = None

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

    def _search(self) -> tuple[Point | None, int]:
        for attempt in range(self.attempts):
            proposed = self.propose(attempt)
            if proposed is None:
                break
            if self.space.allows(proposed) and self.is_new(proposed):
                return proposed, attempt + 1
        source = generator(self.seed, self.taken)
        found = draw(self.space, source, self.is_new)
        if found is None and self.all is not None:
            left = [point for point in self.all if self.space.allows(point) and self.is_new(point)]
            found = left[int(source.integers(len(left)))] if left else None
        return found, 0

    def is_new(self, point: Point) -> bool:
        """Whether it was not tried, as far as that is remembered."""
        return self.all is None or key_of(self.space, point) not in self.tried


class Random(Proposing):
    """Draws each trial's point evenly from the space, on each dimension's own scale."""
