"""The curve of a range test: the values that are tried, smoothing, where it diverges, and what it suggests."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

# The share of the old mean in the new one, for a test of 100 updates: a mean that reaches further back lags behind the
# fall, and suggests values that are too high. Longer tests have as much of the whole in it.
KEEPS = 0.8
FOR_UPDATES = 100
# Of a curve, left out of what is suggested: few losses are in the mean yet. And the multiple of its least at which a
# loss has diverged. Source of both: fastai's learning rate finder (Learner.lr_find, LRFinder).
SKIPPED = 0.1
DIVERGED = 4.0
FALL = 0.01  # of the loss: what falls by less is noise


@dataclass(frozen=True)
class Sweep:
    """The values that a range test sets, one for each update.

    Args:
        low: the first.
        high: the last.
        linear: whether they rise by equal steps; otherwise by equal factors.
        updates: how many, at least 2.
    """

    low: float
    high: float
    linear: bool
    updates: int

    def at(self, update: int) -> float:
        """The value of an update, counted from 0."""
        share = update / (self.updates - 1)
        if self.linear:
            return self.low + (self.high - self.low) * share
        return float(self.low ** (1 - share) * self.high**share)


class Smoothed:
    """A running mean in which older losses count ever less, without the pull of its beginning at 0.

    Args:
        updates: of the whole test.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", section 3; arXiv 1412.6980.
    """

    def __init__(self, updates: int = FOR_UPDATES) -> None:
        self._keeps = float(KEEPS ** (FOR_UPDATES / updates))
        self._mean = 0.0
        self._count = 0

    def add(self, loss: float) -> float:
        """The mean with one more loss."""
        self._count += 1
        self._mean = self._keeps * self._mean + (1 - self._keeps) * loss
        return self._mean / (1 - self._keeps**self._count)


class Divergence:
    """Knows when a smoothed loss has diverged: it is not finite, or above four times its least so far.

    A loss that can be negative has no such multiple: it has diverged where it stands three times as far above its least
    as that lies below its first value, which for a loss that falls to a quarter is about the same.
    """

    def __init__(self) -> None:
        self._first = self._least = math.nan

    def at(self, smoothed: float) -> bool:
        """Whether a loss that comes to this mean has diverged."""
        if not math.isfinite(smoothed):
            return True
        if math.isnan(self._first):
            self._first = self._least = smoothed
        self._least = min(self._least, smoothed)
        if self._least > 0:
            return smoothed > DIVERGED * self._least
        return smoothed > self._least + (DIVERGED - 1) * (self._first - self._least) > self._least


def considered(losses: Sequence[float]) -> tuple[int, int]:
    """The part of a smoothed curve that suggestions come from: from the end of its first tenth to its least value."""
    begin = math.ceil(SKIPPED * len(losses))
    if begin >= len(losses):
        return begin, begin
    return begin, min(range(begin, len(losses)), key=losses.__getitem__) + 1


def falls(losses: Sequence[float]) -> bool:
    """Whether a smoothed curve falls at all, in the part that is considered."""
    begin, end = considered(losses)
    return end - begin >= 3 and losses[begin] - losses[end - 1] > FALL * abs(losses[begin])


def steepest(losses: Sequence[float]) -> int | None:
    """The place where a smoothed curve falls fastest, by central differences; ``None`` if it does not fall.

    Places are equally far from each other in what the sweep is even in: values, or their logarithms.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3; arXiv 1506.01186, where the
    slope is judged by eye; by differences: fastai's ``lr_steep``.
    """
    begin, end = considered(losses)
    if not falls(losses):
        return None
    return min(range(begin + 1, end - 1), key=lambda place: losses[place + 1] - losses[place - 1])


def valley(losses: Sequence[float]) -> int | None:
    """The middle of the longest valley of a smoothed curve; ``None`` if it does not fall.

    The longest strictly falling subsequence says where it ends and how long it is: as many places as that has.

    Source: fastai's ``valley``, the default of its ``lr_find`` (fastai/callback/schedule.py; pull request 3377), which
    has it from Esri's arcgis.learn.
    """
    begin, _ = considered(losses)
    if not falls(losses):
        return None
    part = losses[begin:]
    ends: list[float] = []  # of each length, the largest last value of a falling subsequence, negated
    longest, end = 0, 0
    for place, loss in enumerate(part):
        length = bisect.bisect_left(ends, -loss) + 1
        ends[length - 1 : length] = [-loss]
        if length > longest:
            longest, end = length, place
    return begin + max(0, end - longest + longest // 3 + longest // 6)


def harmless(swept: Sequence[float], held: Sequence[float], tolerance: float = 0.05) -> int | None:
    """The last place before a curve first stands above another one by more than a tolerance; ``None`` if at once.

    Args:
        swept: the smoothed loss with a setting that rises.
        held: the smoothed loss of the same batches with the setting as it was.
        tolerance: share of the second curve's size.
    """
    last = None
    for place, (loss, other) in enumerate(zip(swept, held, strict=False)):
        if not loss <= other + tolerance * abs(other):
            break
        last = place
    return last
