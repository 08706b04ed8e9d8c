"""Units of time, exact: what ``"20ep"``, ``"300ba"``, ``"0.1dur"`` are in optimizer updates."""

from __future__ import annotations

import math
import re
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
class Clock:
    """Turns spans into updates for one run.

    Args:
        batches_per_epoch: loader batches in one epoch.
        samples_per_update: samples that a full update takes (batch size times accumulation).
        accumulate: loader batches per update.
        total_updates: ``T``, the updates planned for the whole run; 0 while it is being worked out.
        tokens_per_sample: tokens in one sample; ``None`` where the data has no tokens.
        planned_updates: ``T`` as schedules and ``dur`` see it, where a continued run keeps that of its beginning; 0 is
            ``total_updates``.
    """

    batches_per_epoch: int
    samples_per_update: int
    accumulate: int = 1
    total_updates: int = 0
    tokens_per_sample: int | None = None
    planned_updates: int = 0

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
