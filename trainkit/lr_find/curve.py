"""The curve of a range test: the values that are tried, smoothing, where it diverges, and what it suggests."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# The share of the old mean in the new one, for a test of 100 updates: a mean that reaches further back lags behind the
# fall, and suggests values that are too high. Longer tests have as much of the whole in it.
KEEPS = 0.8
FOR_UPDATES = 100
# Of a curve, left out of what is suggested: few losses are in the mean yet. And the multiple of its least at which a
# loss has diverged. Source of both: fastai's learning rate finder (Learner.lr_find, LRFinder).
SKIPPED = 0.1
DIVERGED = 4.0
# Two losses are alike where they differ by less than so much of one of them, or of what it began with: the losses of
# two runs that differ in nothing but rounding soon differ by some of the noise.
ALIKE = 0.05
ALIKE_AT_FIRST = 0.01
# What falls by less is noise: a share of the loss, and so many standard deviations of its running mean. Of tests in
# which nothing is learned, of 40 updates and more, at most one in forty falls as far (1,500 of normal noise each).
FALL = 0.01
NOISES = 6.0
_QUARTILE = statistics.NormalDist().inv_cdf(0.75)  # half of all normal numbers are smaller than that


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


def keeps(updates: int) -> float:
    """The share of the old mean in the new one, in a test of so many updates."""
    return float(KEEPS ** (FOR_UPDATES / updates))


class Smoothed:
    """A running mean in which older losses count ever less, without the pull of its beginning at 0.

    Args:
        updates: of the whole test.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", section 3; arXiv 1412.6980.
    """

    def __init__(self, updates: int = FOR_UPDATES) -> None:
        self._keeps = keeps(updates)
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
    as that lies below its first value, or below zero where that is more.
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
        return smoothed > self._least + (DIVERGED - 1) * max(self._first - self._least, -self._least)


def considered(losses: Sequence[float]) -> tuple[int, int]:
    """The part of a smoothed curve in which it falls: from the end of its first tenth to its least value."""
    begin = math.ceil(SKIPPED * len(losses))
    if begin >= len(losses):
        return begin, begin
    return begin, min(range(begin, len(losses)), key=losses.__getitem__) + 1


def noise(losses: Sequence[float]) -> float:
    """The standard deviation of losses around their trend, by the median of their steps, whatever a few of them do."""
    steps = sorted(abs(after - before) for before, after in pairwise(losses))
    return statistics.median(steps) / (_QUARTILE * math.sqrt(2)) if steps else 0.0


def falls(smoothed: Sequence[float], losses: Sequence[float], updates: int) -> bool:
    """Whether a smoothed curve falls by more than noise, in the part that is considered.

    Args:
        smoothed: the curve.
        losses: what it is a mean of.
        updates: of the whole test.
    """
    begin, end = considered(smoothed)
    if end - begin < 3:
        return False
    kept = keeps(updates)
    of_the_mean = noise(losses[begin:end]) * math.sqrt((1 - kept) / (1 + kept))
    return smoothed[begin] - smoothed[end - 1] > max(FALL * abs(smoothed[begin]), NOISES * of_the_mean)


def steepest(smoothed: Sequence[float], losses: Sequence[float], updates: int) -> int | None:
    """The place where a smoothed curve falls fastest, by central differences; ``None`` if it does not fall.

    Places are equally far from each other in what the sweep is even in: values, or their logarithms.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3; arXiv 1506.01186, where the
    slope is judged by eye; by differences: fastai's ``steep``.
    """
    begin, end = considered(smoothed)
    if not falls(smoothed, losses, updates):
        return None
    return min(range(begin + 1, end - 1), key=lambda place: smoothed[place + 1] - smoothed[place - 1])


def valley(smoothed: Sequence[float], losses: Sequence[float], updates: int) -> int | None:
    """The middle of the longest valley of a smoothed curve; ``None`` if it does not fall.

    The longest strictly falling subsequence says where it ends and how long it is: as many places as that has.

    Source: fastai's ``valley``, the default of its ``lr_find`` (fastai/callback/schedule.py; pull request 3377).
    """
    begin, _ = considered(smoothed)
    if not falls(smoothed, losses, updates):
        return None
    ends: list[float] = []  # of each length, the largest last value of a falling subsequence, negated
    longest, end = 0, 0
    for place, loss in enumerate(smoothed[begin:]):
        length = bisect.bisect_left(ends, -loss) + 1
        ends[length - 1 : length] = [-loss]
        if length > longest:
            longest, end = length, place
    return begin + max(0, end - longest + longest // 3 + longest // 6)


def tolerances(held: Sequence[float]) -> list[float]:
    """By how much another curve may stand above this one, place by place, and count as alike."""
    least = ALIKE_AT_FIRST * abs(held[0]) if held else 0.0
    return [max(ALIKE * abs(loss), least) for loss in held]


def harmless(swept: Sequence[float], held: Sequence[float]) -> int | None:
    """The last place at which a curve does not stand above another one; ``None`` if there is none.

    Args:
        swept: the smoothed loss with a setting that rises.
        held: the smoothed loss of the same batches with the setting as it was.
    """
    parts = zip(swept, held, tolerances(held), strict=False)
    within = [place for place, (loss, other, tolerance) in enumerate(parts) if loss <= other + tolerance]
    return within[-1] if within else None


def lowest(swept: Sequence[float], held: Sequence[float]) -> int | None:
    """The place at which a curve lies lowest below another one, as a share of that; ``None`` if it never does."""
    parts = zip(swept, held, tolerances(held), strict=False)
    below = {place: loss / other for place, (loss, other, least) in enumerate(parts) if 0 < loss < other - least}
    return min(below, key=below.__getitem__, default=None)
