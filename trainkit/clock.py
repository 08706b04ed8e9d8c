"""Units of time, exact: what ``"20ep"``, ``"300ba"``, ``"0.1dur"`` are in optimizer updates."""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction as ExactFraction

UNITS = {
    "ep": "epochs",
    "ba": "optimizer updates",
    "sp": "samples",
    "tok": "tokens",
    "dur": "fraction of the run",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)([a-zA-Z]+)", re.ASCII)
DURATION_EXAMPLES = (
    '"20ep" (epochs), "300ba" (updates), "50000sp" (samples), "2e9tok" (tokens), "0.1dur" (fraction of the run)'
)


@dataclass(frozen=True)
class Span:
    """A length of time as a recipe writes it: an exact amount and a unit.

    Args:
        amount: how many of the unit; never negative.
        unit: one of ``ep ba sp tok dur``.
    """

    amount: ExactFraction
    unit: str

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read ``"2.5ep"`` exactly.

        Raises:
            ValueError: if ``text`` is not a number followed by a unit, saying what is accepted.
        """
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError(f"write a number and a unit, such as {DURATION_EXAMPLES}")
        number, unit = match.groups()
        if unit not in UNITS:
            raise ValueError(f"unknown unit {unit!r}; write {DURATION_EXAMPLES}")
        return cls(ExactFraction(number), unit)

    def __str__(self) -> str:
        return f"{float(self.amount):g}{self.unit}"


@dataclass(frozen=True)
class Interval:
    """When something comes again and again: every so many updates, or at stated ones.

    Args:
        every: updates from one time to the next.
        marks: the updates, rising, where they do not lie equally far apart.
    """

    every: int
    marks: Sequence[int] | None = None

    def after(self, position: int) -> int:
        """The first time after ``position``."""
        if self.marks is None:
            return (position // self.every + 1) * self.every
        place = bisect_right(self.marks, position)
        return self.marks[place] if place < len(self.marks) else sys.maxsize

    def at(self, position: int) -> bool:
        """Whether ``position`` is such a time."""
        if self.marks is None:
            return position % self.every == 0
        place = bisect_left(self.marks, position)
        return place < len(self.marks) and self.marks[place] == position


@dataclass(frozen=True)
class Clock:
    """Turns spans into updates for one run.

    Where a schedule sets the batch size, epochs have different numbers of updates. ``ep``, ``sp`` and ``tok`` are then
    converted with the batch size of the recipe all the same, so that they do not depend on what is scheduled.

    Args:
        batches_per_epoch: loader batches in one epoch.
        samples_per_update: samples that a full update takes (batch size times accumulation).
        accumulate: loader batches per update.
        total_updates: ``T``, the updates planned for the whole run; 0 while it is being worked out.
        tokens_per_sample: tokens in one sample; ``None`` where the data has no tokens.
        planned_updates: ``T`` as schedules and ``dur`` see it, where a continued run keeps that of its beginning; 0 is
            ``total_updates``.
        epoch_starts: the update at which each epoch begins, and the end of the last one, where they do not all have
            ``updates_per_epoch``.
    """

    batches_per_epoch: int
    samples_per_update: int
    accumulate: int = 1
    total_updates: int = 0
    tokens_per_sample: int | None = None
    planned_updates: int = 0
    epoch_starts: Sequence[int] = ()

    @property
    def schedule_updates(self) -> int:
        """``T`` as schedules and ``dur`` see it."""
        return self.planned_updates or self.total_updates

    @property
    def updates_per_epoch(self) -> int:
        """Updates in one epoch; the last one may take fewer batches."""
        return -(-self.batches_per_epoch // self.accumulate)

    def updates(self, span: Span | str) -> int:
        """Convert to whole updates: exact arithmetic, then floor.

        Raises:
            ValueError: for ``tok`` where the data has no tokens.
        """
        if isinstance(span, str):
            span = Span.parse(span)
        match span.unit:
            case "ep":
                updates = span.amount * self.updates_per_epoch
            case "ba":
                updates = span.amount
            case "sp":
                updates = span.amount / self.samples_per_update
            case "tok":
                if self.tokens_per_sample is None:
                    raise ValueError("'tok' needs data that counts tokens; this data does not: use ep, ba, sp or dur")
                updates = span.amount / (self.samples_per_update * self.tokens_per_sample)
            case _:
                updates = span.amount * self.schedule_updates
        return math.floor(updates)

    def epochs_at(self, position: int) -> float:
        """Epochs gone by after so many updates."""
        starts = self.epoch_starts
        if not starts:
            return position / self.updates_per_epoch
        epoch = min(bisect_right(starts, position), len(starts) - 1) - 1
        return epoch + (position - starts[epoch]) / (starts[epoch + 1] - starts[epoch])

    def interval(self, span: Span | str) -> Interval:
        """What is done every ``span``; whole epochs are those of the data, however many updates they have."""
        if isinstance(span, str):
            span = Span.parse(span)
        every = max(1, self.updates(span))
        if self.epoch_starts and span.unit == "ep" and span.amount >= 1 and span.amount.denominator == 1:
            epochs = int(span.amount)
            return Interval(every, self.epoch_starts[epochs::epochs])
        return Interval(every)
