"""Schedules of stated moments: drops, and lines between points."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

from trainkit import Duration, NonNegative, Period, Positive
from trainkit_schedules.lengths import Checked

if TYPE_CHECKING:
    from trainkit import Events, Schedule


def step(*, every: Period = "30ep", gamma: Positive = 0.1) -> Schedule:
    """Multiply by ``gamma`` at each full ``every``: gamma ** floor(t / every).

    Args:
        every: time between two drops.
        gamma: factor of each drop.

    Source: He et al. 2016, "Deep Residual Learning", section 3.4 (divide by 10); arXiv 1512.03385.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return float(gamma ** (t // every))

    return factor


def multistep(*, milestones: list[Period], gamma: Positive = 0.1) -> Schedule:
    """Multiply by ``gamma`` at each milestone: gamma ** (number of milestones that are not after t).

    Args:
        milestones: times of the drops, rising, counted from the end of the warm-up and not after the schedule's end.
        gamma: factor of each drop.

    Source: He et al. 2016, "Deep Residual Learning", section 4.2 (divide by 10 at 32k and 48k), arXiv 1512.03385.
    """
    _require_rising("milestones", milestones)

    def factor(t: int, T: int, events: Events = ()) -> float:
        return float(gamma ** bisect_right(milestones, t))

    return Checked(factor, lambda T: _require_within("milestones", milestones, T))


def piecewise(*, at: list[Duration], factors: list[NonNegative]) -> Schedule:
    """Go in straight lines from point to point, level before the first and after the last.

    Args:
        at: times of the points, rising, counted from the end of the warm-up and not after the schedule's end; "0.5dur"
            is half of the whole run.
        factors: the value at each point, as a factor on the base value; as many as ``at`` has.

    Source: the usual piecewise-linear schedule, as ignite's `PiecewiseLinear` has it.
    """
    _require_rising("at", at)

    def factor(t: int, T: int, events: Events = ()) -> float:
        after = bisect_right(at, t)
        if after == 0 or after == len(at):
            return float(factors[min(after, len(at) - 1)])
        share = (t - at[after - 1]) / (at[after] - at[after - 1])
        return float(factors[after - 1] * (1 - share) + factors[after] * share)

    return Checked(factor, lambda T: _require_within("at", at, T))


def _require_rising(name: str, moments: list[int]) -> None:
    for earlier, later in pairwise(moments):
        if later <= earlier:
            raise ValueError(
                f"{name} must rise: {later} updates come after {earlier}\nwrite each time once, the earliest first"
            )


def _require_within(name: str, moments: list[int], T: int) -> None:
    for number, moment in enumerate(moments):
        if moment > T:
            raise ValueError(
                f"{name}.{number} is at {moment} updates, the schedule has {T}\n"
                "write an earlier one; times count from the end of the warm-up"
            )
