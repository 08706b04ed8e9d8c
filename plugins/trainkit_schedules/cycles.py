"""Schedules that come back: warm restarts and triangles. They take no notice of the run's end, cosine_cycles apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Fraction, Period, PositiveInt
from trainkit_schedules.progress import half_cosine, left

if TYPE_CHECKING:
    from trainkit import Events, Schedule

Share = Annotated[float, Between(0, 1, low_open=True)]


def cosine_restarts(
    *, first: Period = "10ep", mult: PositiveInt = 1, decay: Share = 1.0, end: Fraction = 0.0
) -> Schedule:
    """Fall along half a cosine to ``end``, jump back up, and again; each cycle ``mult`` times as long as the last.

    In cycle n, with c updates of its first * mult^n over: end + (decay^n - end)(1 + cos(pi c / (first mult^n))) / 2.

    Args:
        first: length of the first cycle.
        mult: growth of the cycles' length.
        decay: factor on the peak at each restart; a peak never comes below ``end``.
        end: value that each cycle falls to, as a share of the base value.

    Source: Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, arXiv 1608.03983.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        # Whole numbers alone: a logarithm is one cycle off at some restarts (t = 1210 with first = 10, mult = 3).
        cycle, over, length = 0, t, int(first)
        if mult == 1:
            cycle, over = divmod(t, length)
        while over >= length:
            cycle, over, length = cycle + 1, over - length, length * mult
        peak = max(decay**cycle, end)
        return float(end + (peak - end) * half_cosine(left(over, length)))

    return factor


def cosine_cycles(*, cycles: PositiveInt = 3, end: Fraction = 0.0) -> Schedule:
    """Fall along half a cosine ``cycles`` times, each time from the base value and for an equal part of the run.

    end + (1 - end)(1 + cos(pi c)) / 2, c = ((cycles t) mod T) / T; ``end`` from the end of the run on.

    Args:
        cycles: how often it falls.
        end: value that each cycle falls to, as a share of the base value.

    Source: Loshchilov & Hutter 2017, "SGDR", eq. 5 with equal cycles, arXiv 1608.03983; agrees with transformers'
    `get_cosine_with_hard_restarts_schedule_with_warmup`.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        if t >= T:
            return end
        return end + (1 - end) * half_cosine(left(cycles * t % T, T))

    return factor


def snapshot_cycles(*, cycles: PositiveInt = 5) -> Schedule:
    """Fall along half a cosine to zero ``cycles`` times, each in a whole number of updates, as for snapshots.

    (1 + cos(pi (t mod L) / L)) / 2, L = ceil(T / cycles), so that the last cycle may be cut short. ``cosine_cycles``
    cuts the run into parts of exactly equal length, whose ends may lie between two updates. The callback
    ``keep_checkpoints`` with the same ``cycles`` keeps the weights at each cycle's end.

    Args:
        cycles: how often it falls.

    Source: Huang et al. 2017, "Snapshot Ensembles: Train 1, Get M for Free", eq. 2, arXiv 1704.00109.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        length = -(-T // cycles)
        if t >= T:  # its end value
            return half_cosine(left(T % length, length)) if T % max(1, length) else 0.0
        return half_cosine(left(t % length, length))

    return factor


def cyclic(
    *,
    low: Fraction = 0.1,
    up: Period = "2ep",
    down: Period | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: Share = 0.9999,
) -> Schedule:
    """Rise in a line from ``low`` to the base value, fall back, and again: low + (1 - low) h(t) s.

    h is the triangle from 0 to 1 to 0; s is 1 (triangular), 0.5^cycle (triangular2) or gamma^t (exp_range).

    Args:
        low: lowest value, as a share of the base value, which is the highest.
        up: time of the rise.
        down: time of the fall; unset is as long as ``up``.
        mode: triangles of one height, of half the height in each further cycle, or ever lower.
        gamma: factor of each update on the height, for exp_range.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3, arXiv 1506.01186.
    """
    rise, fall = int(up), int(up if down is None else down)

    def factor(t: int, T: int, events: Events = ()) -> float:
        cycle, over = divmod(t, rise + fall)
        height = over / rise if over <= rise else (rise + fall - over) / fall
        scale = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**t}[mode]
        return low + (1 - low) * height * scale

    return factor
