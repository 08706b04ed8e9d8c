"""Learning-rate schedules: pure functions of time, each a factor on the base value.

``t`` counts the updates already made, ``T`` the planned ones. What depends on ``T`` holds its end value after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, Fraction, NonNegative, Period, Positive, Problem, hookimpl

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
        # (1 + cos(pi x)) / 2 without its loss of digits towards the end, where the sum all but cancels.
        left = 1 - _progress(t, T) ** k
        return end + (1 - end) * math.sin(math.pi / 2 * left) ** 2

    return factor


def linear(*, end: Fraction = 0.0) -> Schedule:
    """Fall in a straight line to ``end``: 1 + (end - 1) t / T.

    Args:
        end: last value, as a share of the base value.

    Source: Li et al. 2020, "Budgeted Training", arXiv 1905.04753.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        return 1 + (end - 1) * _progress(t, T)

    return factor


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


def _progress(t: int, T: int) -> float:
    return min(1.0, t / T) if T > 0 else 1.0


@hookimpl
def trainkit_components() -> list[Component]:
    fits = {"lanes": True, "compiles": True}
    return [
        Component("schedule", constant, capabilities=fits),
        Component("schedule", cosine, example={"end": 0.01}, capabilities=fits),
        Component("schedule", exponential, example={"rate": 0.96}, capabilities=fits),
        Component("schedule", linear, example={"end": 0.0}, capabilities=fits),
        Component("schedule", step, example={"every": "5ep", "gamma": 0.5}, capabilities=fits),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit import problem_at

    schedule = recipe["schedule"]
    if schedule["use"].rpartition(":")[2] != "exponential":
        return []
    if schedule["rate"] is None and schedule["k"] is None:
        return [problem_at(recipe, "schedule", "exponential needs 'rate' or 'k'", "write rate = 0.96, or k = 0.1")]
    if schedule["rate"] is not None and schedule["k"] is not None:
        message = f"exponential takes 'rate' or 'k', not both: rate = {schedule['rate']:g}, k = {schedule['k']:g}"
        return [problem_at(recipe, "schedule.k", message, "leave one of them out")]
    return []
