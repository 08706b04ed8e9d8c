"""Asynchronous successive halving: a trial goes on as soon as it is among the best of its rung so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainkit import Objective, Order, Rung, Space, Trial
from trainkit_searchers.over import Level, Rungs, Standing, nearest, standing_of


class Promoting(Rungs):
    """Algorithm 2 of Li et al. 2020, over any searcher.

    Args:
        over: the searcher that proposes.
        factor: the best one in so many of a rung goes on.
        rungs: how many there are.
        first: share of a run at which the first lies.
    """

    name = "asha"

    def __init__(self, over: Any, factor: int, rungs: int, first: float | None) -> None:
        super().__init__(over, factor, rungs, first)
        self.levels = [Level() for _ in self.shares]
        self.heading: dict[int, int] = {}  # the rung that each trial is trained to, or rests at
        self.promoted: list[set[int]] = [set() for _ in self.shares]

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        least = self.factor ** (len(self.shares) - 1)
        if trials < least:
            raise ValueError(
                f"asha with factor = {self.factor} and rungs = {len(self.shares)} needs at least {least} trials so "
                f"that one reaches the end, and trials = {trials}\nwrite more trials, fewer rungs or a smaller factor"
            )
        super().begin(space, objectives, trials)

    def plan(self) -> list[Rung]:
        """The rungs, with the trials that are promoted where no promotion was premature."""
        since = [0.0, *self.shares[:-1]]
        return [
            Rung(self.trials // self.factor**place, share, since[place], name=f"rung {place + 1}", about=place > 0)
            for place, share in enumerate(self.shares)
        ]

    def ask(self) -> Order | None:
        """A promotion, from the highest rung that has one; else a new trial."""
        for place in reversed(range(len(self.shares) - 1)):
            for standing in self._top(place):
                if standing.number not in self.promoted[place]:
                    return self._promotion(standing, place)
        if (order := self.proposed(self.shares[0], self._note(0))) is not None:
            return order
        return None if self.running else self._last()

    def _last(self) -> Order | None:
        """At the end of a search in which no trial has reached its end, so many having failed: the best that can."""
        if any(standing.done for level in self.levels for standing in level.ranked):
            return None
        for place in reversed(range(len(self.shares) - 1)):
            for standing in self.levels[place].ranked:
                if standing.group == 0 and standing.number not in self.promoted[place]:
                    return self._promotion(standing, place)
        return None

    def _promotion(self, standing: Standing, place: int) -> Order:
        place += 1
        while place < len(self.shares) - 1 and standing.passes(self.shares[place]):
            place += 1
        return Order(trial=standing.number, until=self.shares[place], note=self._note(place))

    def _note(self, place: int) -> str:
        return f"rung {place + 1} of {len(self.shares)}"

    def _top(self, place: int) -> list[Standing]:
        level = self.levels[place]
        return level.top(len(level.ranked) // self.factor)

    def took(self, order: Order, trial: Trial) -> None:
        """Enter the trial at the rung that it is trained to."""
        super().took(order, trial)
        if trial.over:
            return
        if order.trial is None:
            self.heading[trial.number] = 0
            self.begun += 1
            self.give(order, trial, self._note(0))
            return
        place = self.heading[trial.number] = nearest(self.shares, order.until)
        for below in range(place):
            self.promoted[below].add(trial.number)

    def tell(self, trial: Trial) -> None:
        """Rank the trial at its rung; where it has passed the next one already, it is promoted without training."""
        if trial.number in self.heading:
            self.levels[self.heading[trial.number]].put(standing_of(trial))
            for place in range(len(self.shares) - 1):
                for standing in self._top(place):
                    if standing.number in self.promoted[place] or not standing.passes(self.shares[place + 1]):
                        continue
                    self.promoted[place].add(standing.number)
                    self.heading[standing.number] = place + 1
                    self.levels[place + 1].put(standing)
        super().tell(trial)
