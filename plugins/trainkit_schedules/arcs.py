"""Schedules of several phases over the run's length: up and down, or level and down."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction as ExactFraction
from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Duration, Fraction, Period
from trainkit_schedules.progress import half_cosine, left, through

if TYPE_CHECKING:
    from trainkit import Events, Schedule

Ratio = Annotated[float, Between(1)]
_EXP_END = 0.1  # timm's decay ratio: the exponential fall covers a factor of ten before it is stretched to reach zero
# What is left of 1 when the share ``u`` of the fall is still to come: u = 1 - q.
_FALLS: Mapping[str, Callable[[float], float]] = {
    "1-sqrt": lambda u: u / (1 + math.sqrt(1 - u)),
    "linear": lambda u: u,
    "cosine": half_cosine,
    "1-square": lambda u: u * (2 - u),
    "exp": lambda u: _EXP_END * math.expm1(-u * math.log(_EXP_END)) / (1 - _EXP_END),
}


def wsd(
    *,
    decay: Duration = "0.2dur",
    shape: Literal["1-sqrt", "linear", "cosine", "1-square", "exp"] = "1-sqrt",
    stable: Literal["constant", "rsqrt"] = "constant",
    timescale: Period = "1ep",
    end: Fraction = 0.0,
) -> Schedule:
    """Warm-up, stable, decay: keep the base value, and fall to ``end`` in the last ``decay`` of the run.

    With the share q of the fall over: end + (1 - end) d(q), where d is 1 - sqrt(q), 1 - q, (1 + cos(pi q)) / 2,
    1 - q^2 or (0.1^q - 0.1) / 0.9. The warm-up is the setting that every schedule has.

    Args:
        decay: time of the fall; where warm-up leaves less, what it leaves.
        shape: curve of the fall.
        stable: keep the base value, or let it fall with the root of time all along: (1 + t / timescale)^-0.5.
        timescale: of rsqrt, counted from the end of the warm-up; often as long as the warm-up.
        end: last value, as a share of the base value, or of what rsqrt has left of it.

    Source: Hu et al. 2024, "MiniCPM", section 4, arXiv 2404.06395; shapes: Haegele et al. 2024, "Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations", arXiv 2405.18392; rsqrt: Zhai et al. 2022, "Scaling
    Vision Transformers", section 3.5, arXiv 2106.04560.
    """
    fall = _FALLS[shape]

    def factor(t: int, T: int, events: Events = ()) -> float:
        t = min(t, T)
        length = min(int(decay), T)
        level = 1.0 if stable == "constant" else (1 + t / timescale) ** -0.5
        rest = min(1.0, (T - t) / length) if length else float(t < T)
        return float(level * (end + (1 - end) * fall(rest)))

    return factor


def trapezoid(*, decay: Duration = "0.2dur", end: Fraction = 0.0) -> Schedule:
    """Keep the base value, and fall in a straight line to ``end`` in the last ``decay`` of the run: ``wsd``, linear.

    Args:
        decay: time of the fall; where warm-up leaves less, what it leaves.
        end: last value, as a share of the base value.

    Source: Haegele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    arXiv 2405.18392.
    """
    return wsd(decay=decay, shape="linear", timescale=1, end=end)


def onecycle(
    *,
    pct: Fraction = 0.3,
    div: Ratio = 25.0,
    final_div: Ratio = 10_000.0,
    shape: Literal["cos", "linear"] = "cos",
    three_phase: bool = False,
) -> Schedule:
    """Rise from 1 / div to the base value, the peak, and fall to 1 / (div final_div) at the last update.

    The rise ends at pct T - 1, the fall at T - 1. With ``three_phase`` the fall is as long as the rise and goes back to
    1 / div, and a third phase goes from there to the end. A run too short for a rise starts at the peak.

    Args:
        pct: share of the run that rises; at most 0.5 with three_phase.
        div: the peak divided by the first value.
        final_div: the first value divided by the last.
        shape: curve of every phase.
        three_phase: fall in two phases, the first one as the rise was.

    Source: Smith & Topin 2018, "Super-Convergence", arXiv 1708.07120; agrees with torch's `OneCycleLR`.
    """
    start, end = 1 / div, 1 / div / final_div

    def factor(t: int, T: int, events: Events = ()) -> float:
        last = max(0, T - 1)
        t = min(t, last)
        top = min(max(0.0, pct * T - 1), last)
        points = [(top, 1.0)] if top == 0 else [(0.0, start), (top, 1.0)]
        if three_phase and top > 0:
            points.append((min(2 * top, last), start))
        points.append((last, end))
        return through(points, t, shape)

    return factor


def slanted_triangular(*, cut_frac: Fraction = 0.1, ratio: Ratio = 32.0) -> Schedule:
    """Rise in a line from 1 / ratio to the base value, and fall back in a longer one: (1 + p (ratio - 1)) / ratio.

    p is t / cut up to cut = floor(cut_frac T), then (T - t) / (T - cut): the paper's formula where cut_frac T is whole;
    where it is not, the paper's would be over before the run.

    Args:
        cut_frac: share of the run that rises.
        ratio: the highest value divided by the lowest.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", eq. 3,
    arXiv 1801.06146.
    """
    exact = ExactFraction(repr(cut_frac))  # 0.29 of 100 updates are 29, where floats make 28 of it

    def factor(t: int, T: int, events: Events = ()) -> float:
        cut = math.floor(exact * T)
        p = t / cut if t < cut else left(t - cut, T - cut)
        return (1 + p * (ratio - 1)) / ratio

    return factor
