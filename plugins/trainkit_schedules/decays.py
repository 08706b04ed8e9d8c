"""Schedules that fall once, along one curve, to the end of the run or for as long as it lasts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Fraction, NonNegative, Period, Positive, PositiveInt
from trainkit_schedules.progress import half_cosine, left, progress

if TYPE_CHECKING:
    from trainkit import Events, Schedule


def constant() -> Schedule:
    """Keep the base value."""

    def factor(t: int, T: int, events: Events = ()) -> float:
        return 1.0

    return factor


def cosine(*, end: Fraction = 0.0, k: Positive = 1.0) -> Schedule:
    """Fall along half a cosine to ``end``: end + (1 - end)(1 + cos(pi p^k)) / 2, p = t / T.

    Args:
        end: last value, as a share of the base value.
        k: bends the curve; above 1 stays high for longer.

    Source: Loshchilov & Hutter 2017, "SGDR", eq. 5 with one cycle, arXiv 1608.03983; k-decay: Zhang & Li 2020,
    arXiv 2004.05909.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return end + (1 - end) * half_cosine(1 - progress(t, T) ** k)

    return factor


def linear(*, end: Fraction = 0.0) -> Schedule:
    """Fall in a straight line to ``end``: 1 + (end - 1) t / T.

    Args:
        end: last value, as a share of the base value.

    Source: Li et al. 2020, "Budgeted Training", arXiv 1905.04753.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return 1 + (end - 1) * progress(t, T)

    return factor


def budget() -> Schedule:
    """Fall in a straight line to zero at the end of the run, however short the run is: ``linear`` with end = 0.

    Source: Li et al. 2020, "Budgeted Training", arXiv 1905.04753.
    """
    return linear()


def polynomial(*, power: Positive = 1.0, end: Fraction = 0.0) -> Schedule:
    """Fall to ``end`` along a power of the time that is left: end + (1 - end)(1 - t / T)^power.

    Args:
        power: bends the curve: above 1 falls early, below 1 late, 1 is a straight line.
        end: last value, as a share of the base value.

    Source: Liu et al. 2015, "ParseNet", section 4 ("poly"), arXiv 1506.04579; agrees with torch's `PolynomialLR`.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return float(end + (1 - end) * left(t, T) ** power)

    return factor


def rex(*, d: Annotated[float, Between(0, 1, high_open=True)] = 0.5) -> Schedule:
    """Fall to zero, slowly first and steeply at the end: (1 - p) / ((1 - d) + d (1 - p)), p = t / T.

    Args:
        d: how long the value stays high; 0 is a straight line.

    Source: Chen et al. 2022, "REX: Revisiting Budgeted Training with an Improved Schedule", arXiv 2107.04197.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        rest = left(t, T)
        return rest / ((1 - d) + d * rest)

    return factor


def tanh(
    *,
    lower: Annotated[float, Between(-300, 300)] = -7.0,
    upper: Annotated[float, Between(-300, 300)] = 3.0,
    end: Fraction = 0.0,
) -> Schedule:
    """Fall along a hyperbolic tangent: end + (1 - end)(1 - tanh(lower (1 - p) + upper p)) / 2, p = t / T.

    It neither starts at 1 nor ends at ``end`` exactly: with the defaults at 0.9999992 and 0.0025 above.

    Args:
        lower: argument of tanh at the start; the lower, the longer the value stays high.
        upper: argument of tanh at the end; the higher, the closer the last value comes to ``end``.
        end: the value that the curve nears, as a share of the base value.

    Source: Hsueh et al. 2019, "Stochastic Gradient Descent with Hyperbolic-Tangent Decay on Classification",
    arXiv 1806.01593.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        p = progress(t, T)
        # (1 - tanh(x)) / 2 = 1 / (1 + exp(2 x)), which keeps its digits where tanh nears 1.
        return end + (1 - end) / (1 + math.exp(2 * (lower * (1 - p) + upper * p)))

    return factor


def temperature(
    *, start: Positive = 1.0, final: Positive = 0.01, law: Literal["geometric", "linear", "boltzmann"] = "geometric"
) -> Schedule:
    """Cool as simulated annealing does; the value is proportional to the temperature.

    geometric: (final / start)^p; linear: (start + (final - start) p) / start, p = t / T; boltzmann: 1 / (1 +
    ln(1 + t)), which does not depend on T, and never below final / start.

    Args:
        start: temperature of the first update.
        final: temperature at the end of the run, not above ``start``; for boltzmann the lowest.
        law: how it cools in between.

    Source: Kirkpatrick, Gelatt & Vecchi 1983, "Optimization by Simulated Annealing"; Geman & Geman 1984, for the
    logarithmic law.
    """
    lowest = final / start

    def geometric(t: int, T: int, events: Events = ()) -> float:
        return float(lowest ** progress(t, T))

    def straight(t: int, T: int, events: Events = ()) -> float:
        return 1 + (lowest - 1) * progress(t, T)

    def boltzmann(t: int, T: int, events: Events = ()) -> float:
        return max(lowest, 1 / (1 + math.log1p(t)))

    return {"geometric": geometric, "linear": straight, "boltzmann": boltzmann}[law]


def exponential(
    *,
    rate: Positive | None = None,
    k: NonNegative | None = None,
    every: Period = "1ep",
    staircase: bool = False,
) -> Schedule:
    """Multiply by ``rate`` once every ``every``: rate ** (t / every); or, with ``k``, exp(-k t / every).

    Args:
        rate: factor for each ``every``.
        k: decay constant in its place: rate = exp(-k).
        every: the time that ``rate`` or ``k`` counts in.
        staircase: drop at each full ``every`` alone, and stay level between.

    Source: Robbins-Monro style decay as in CS231n, "Neural Networks 3"; Keras ExponentialDecay.
    """
    decay = k if k is not None else -math.log(rate if rate is not None else 1.0)

    def factor(t: int, T: int, events: Events = ()) -> float:
        elapsed = t // every if staircase else t / every
        # A power of the rate is exact where exp of a rounded logarithm is not.
        return float(rate**elapsed) if rate is not None else math.exp(-decay * elapsed)

    return factor


def inverse_time(*, k: NonNegative, every: Period = "1ep", staircase: bool = False) -> Schedule:
    """Divide by a number that grows with time: 1 / (1 + k t / every). It goes on after the end of the run.

    Args:
        k: growth of the divisor for each ``every``.
        every: the time that ``k`` counts in.
        staircase: drop at each full ``every`` alone, and stay level between.

    Source: Robbins & Monro 1951, "A Stochastic Approximation Method"; Keras InverseTimeDecay.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return float(1 / (1 + k * (t // every if staircase else t / every)))

    return factor


def inverse_sqrt(*, timescale: Period) -> Schedule:
    """Fall with the root of time: sqrt(timescale / (t + timescale)). It goes on after the end of the run.

    ``t`` counts from the end of the warm-up. With a warm-up as long as ``timescale`` this is the usual rule, which has
    sqrt(W / n) at update n of the whole run.

    Args:
        timescale: time after which the value is 0.71 of the base value; write the length of the warm-up.

    Source: Vaswani et al. 2017, "Attention Is All You Need", eq. 3, without its scale, arXiv 1706.03762; agrees with
    transformers' `get_inverse_sqrt_schedule`.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return math.sqrt(timescale / (t + timescale))

    return factor


def noam(*, d_model: PositiveInt, rise: Period = "4000ba") -> Schedule:
    """Rise in a line, then fall with the root of time: d_model^-0.5 min(n^-0.5, n rise^-1.5), n = t + 1.

    With ``lr = 1`` the learning rates are the published ones; another ``lr`` multiplies them. It warms up by itself and
    goes on after the end of the run.

    Args:
        d_model: width of the model.
        rise: updates until the peak, the paper's warmup_steps.

    Source: Vaswani et al. 2017, "Attention Is All You Need", eq. 3, arXiv 1706.03762.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        n = t + 1
        return float(d_model**-0.5 * min(n**-0.5, n * rise**-1.5))

    return factor
