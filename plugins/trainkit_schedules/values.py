"""Schedules of other numbers than the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Fraction, NonNegative, Period
from trainkit_schedules.progress import half_cosine, progress, through

if TYPE_CHECKING:
    from trainkit import Events, Schedule

Growth = Annotated[float, Between(1, 1e6)]


def ramp(*, start: NonNegative, end: NonNegative, shape: Literal["linear", "cosine", "exp"] = "linear") -> Schedule:
    """Go from one value to another over the run: start + (end - start) u(p), p = t / T.

    u is p (linear) or (1 - cos(pi p)) / 2 (cosine); exp goes by equal ratios, start (end / start)^p. These are values
    themselves, such as a weight decay from 0.04 to 0.4, whatever the recipe has for the number.

    Args:
        start: value of the first update.
        end: value at the end of the run.
        shape: curve in between; exp needs both above 0.

    Source: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers" (cosine, weight decay from
    0.04 to 0.4), arXiv 2104.14294; CS231n, "Neural Networks 3" (momentum from 0.5 to 0.99).
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        p = progress(t, T)
        if shape == "exp":
            return float(start ** (1 - p) * end**p)  # exact at both ends
        u = half_cosine(p) if shape == "cosine" else p
        return start * (1 - u) + end * u

    return factor


def onecycle_momentum(
    *,
    high: Fraction = 0.95,
    low: Fraction = 0.85,
    pct: Fraction = 0.3,
    shape: Literal["cos", "linear"] = "cos",
    three_phase: bool = False,
) -> Schedule:
    """The momentum that goes with ``onecycle``: from ``high`` to ``low`` while the rate rises, and back while it falls.

    These are values themselves. Write ``pct``, ``shape`` and ``three_phase`` as ``onecycle`` has them; the target is
    "momentum", or "betas.0" of Adam and its kin.

    Args:
        high: the first and the last value, torch's max_momentum.
        low: the value at the peak of the rate, torch's base_momentum.
        pct: share of the run in which the rate rises; at most 0.5 with three_phase.
        shape: curve of every phase.
        three_phase: be back at ``high`` after a second phase as long as the first, and stay.

    Source: Smith & Topin 2018, "Super-Convergence", arXiv 1708.07120; agrees with torch's `OneCycleLR`.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        last = max(0, T - 1)
        top = min(max(0.0, pct * T - 1), last)
        points = [(top, low)] if top == 0 else [(0.0, high), (top, low)]
        if three_phase and top > 0:
            points.append((min(2 * top, last), high))
        points.append((last, high))
        return through(points, min(t, last), shape)

    return factor


def growth(*, every: Period, growth: Growth = 2.0, maximum: Growth) -> Schedule:
    """Multiply by ``growth`` at each full ``every``, up to ``maximum``: min(maximum, growth ** floor(t / every)).

    Meant for the batch size, whose growth does what a falling learning rate does.

    Args:
        every: time between two steps.
        growth: factor of each step.
        maximum: largest factor on the base value; memory sets it.

    Source: Smith et al. 2018, "Don't Decay the Learning Rate, Increase the Batch Size", arXiv 1711.00489.
    """
    # As many steps as reach the maximum: more would only overflow.
    enough = math.ceil(math.log(maximum) / math.log(growth)) + 1 if growth > 1 else 0

    def factor(t: int, T: int, events: Events = ()) -> float:
        return float(min(maximum, growth ** min(t // every, enough)))

    return factor
