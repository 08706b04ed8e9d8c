"""Successive halving, and several brackets of it: a rung is ranked when the last of its trials has come to rest."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from trainkit import Objective, Order, Rung, Space, Trial
from trainkit_searchers.over import Level, Rungs, Standing, nearest, standing_of


class Bracket:
    """Trials that begin together and are halved at each rung.

    Args:
        size: how many begin.
        factor: one in so many goes on at each rung.
        shares: where the rungs lie.
        name: such as ``bracket 1``; empty if there is but one.
    """

    def __init__(self, size: int, factor: int, shares: Sequence[float], name: str) -> None:
        self.size = size
        self.factor = factor
        self.shares = shares
        self.name = name
        self.closed = False  # no more begin, as the other searcher has proposed all that it could
        self.sent: list[set[int]] = [set() for _ in shares]  # trials that were told to train to each rung
        self.levels = [Level() for _ in shares]

    def note(self, place: int) -> str:
        """What the log says of a trial on its way to a rung."""
        where = f"rung {place + 1} of {len(self.shares)}"
        return f"{self.name}, {where}" if self.name else where

    def count(self, place: int) -> int:
        """How many trials are to be trained to a rung."""
        begun = len(self.sent[0]) if self.closed else self.size
        return begun if place == 0 else max(1, begun // self.factor**place)

    @property
    def open(self) -> bool:
        """Whether more trials are to begin."""
        return not self.closed and len(self.sent[0]) < self.size

    def going_on(self, closing: bool = False) -> Order | None:
        """The next trial that goes on; ``None`` while a rung is not complete, and at the end.

        Args:
            closing: as if the bracket were closed.
        """
        if self.open and not closing:
            return None
        before, self.closed = self.closed, self.closed or closing
        try:
            return self._going_on()
        finally:
            self.closed = before

    def _going_on(self) -> Order | None:
        passing: list[Standing] = []  # those that are at a rung without having been told to train to it
        for place, level in enumerate(self.levels[:-1]):
            if len(level.standings) < len(self.sent[place]):
                return None
            ranked = [s for s in level.ranked if s.group == 0]
            if passing:
                ranked = sorted({s.number: s for s in [*passing, *ranked]}.values())
            passing = []
            for standing in ranked[: self.count(place + 1)]:
                if standing.number in self.sent[place + 1]:
                    continue
                if standing.passes(self.shares[place + 1]):
                    passing.append(standing)
                elif not self._was_sent_beyond(standing.number, place + 1):
                    return Order(trial=standing.number, until=self.shares[place + 1], note=self.note(place + 1))
        return None

    def _was_sent_beyond(self, number: int, place: int) -> bool:
        return any(number in sent for sent in self.sent[place:])

    def plan(self) -> list[Rung]:
        """Its rungs."""
        since = [0.0, *self.shares[:-1]]
        return [
            Rung(self.count(place), share, since[place], name=self.note(place).partition(" of ")[0])
            for place, share in enumerate(self.shares)
        ]


class Brackets(Rungs):
    """Brackets one after the other; while one waits for its trials, free workers begin those of the next.

    New trials are begun in one order whatever the results are, and a rung is decided when all of it is known: with a
    searcher over which the same holds, a study is the same for any number of workers.

    Args:
        over: the searcher that proposes.
        factor: one in so many trials goes on.
        rungs: of the longest bracket.
        first: share of a run at which its first lies.
        several: whether there is a bracket for each rung to begin at, as in Hyperband, or one.
    """

    def __init__(self, over: Any, factor: int, rungs: int, first: float | None, several: bool) -> None:
        super().__init__(over, factor, rungs, first)
        self.several = several
        self.name = "hyperband" if several else "successive_halving"
        self.home: dict[int, Bracket] = {}

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        rungs = len(self.shares)
        least = sum(_sizes(self.factor, rungs, Fraction(rungs))) if self.several else self.factor ** (rungs - 1)
        if trials < least:
            raise ValueError(
                f"{self.name} with factor = {self.factor} and rungs = {rungs} needs at least {least} trials so that "
                f"one reaches the end, and trials = {trials}\nwrite more trials, fewer rungs or a smaller factor"
            )
        super().begin(space, objectives, trials)
        if not self.several:
            self.brackets = [Bracket(trials, self.factor, self.shares, "")]
            return
        sizes = fitting_sizes(self.factor, rungs, trials)
        self.brackets = [
            Bracket(size, self.factor, self.shares[place:], f"bracket {place + 1}") for place, size in enumerate(sizes)
        ]

    def plan(self) -> list[Rung]:
        """The rungs of each bracket."""
        return [rung for bracket in self.brackets for rung in bracket.plan()]

    def ask(self) -> Order | None:
        """A trial that goes on, else a new one; at the end of all proposals rungs count as complete."""
        for bracket in self.brackets:
            if (order := bracket.going_on()) is not None:
                return order
        begins = next((bracket for bracket in self.brackets if bracket.open), None)
        if begins is None:
            return None
        if (order := self.proposed(begins.shares[0], begins.note(0))) is not None:
            return order
        if not self._ending():
            return None
        orders = (bracket.going_on(closing=True) for bracket in self.brackets if bracket.sent[0])
        return next((order for order in orders if order is not None), None)

    def _ending(self) -> bool:
        """Whether nothing is running that could lead to more proposals."""
        return not self.running and (self.begun >= self.trials or self.over.ask() is None)

    def took(self, order: Order, trial: Trial) -> None:
        """Enter the trial at the rung that it is trained to."""
        ending = order.trial is not None and self.home[order.trial].open and self._ending()
        super().took(order, trial)
        if trial.over:
            return
        if order.trial is None:
            bracket = min(self.brackets, key=lambda bracket: abs(bracket.shares[0] - order.until))
            self.home[trial.number] = bracket
            bracket.sent[0].add(trial.number)
            self.begun += 1
            self.give(order, trial, bracket.note(0))
            return
        bracket = self.home[trial.number]
        bracket.sent[nearest(bracket.shares, order.until)].add(trial.number)
        if ending:
            for each in self.brackets:
                each.closed = each.closed or each.open

    def tell(self, trial: Trial) -> None:
        """Rank the trial at the rung that it was trained to."""
        if (bracket := self.home.get(trial.number)) is not None:
            place = max(place for place, sent in enumerate(bracket.sent) if trial.number in sent)
            bracket.levels[place].put(standing_of(trial))
        super().tell(trial)


def _sizes(factor: int, rungs: int, budget: Fraction) -> list[int]:
    """Trials that begin in each bracket, the longest first: ``ceil(budget * factor^s / (s + 1))``."""
    return [-(-(budget * factor**s) // (s + 1)) for s in reversed(range(rungs))]


def fitting_sizes(factor: int, rungs: int, trials: int) -> list[int]:
    """The brackets' sizes for the largest budget that takes at most so many trials; the first takes what is left over.

    The budget is that of one bracket in runs, ``B / R`` of Li et al. 2018, section 3.1.
    """
    steps = {Fraction(k * (s + 1), factor**s) for s in range(rungs) for k in range(1, trials + 1)}
    budgets = sorted(step for step in steps if step >= rungs)
    place = bisect.bisect_right(budgets, trials, key=lambda budget: sum(_sizes(factor, rungs, budget)))
    sizes = _sizes(factor, rungs, budgets[place - 1])
    sizes[0] += trials - sum(sizes)
    return sizes
