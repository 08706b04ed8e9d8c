"""Reactions: what a schedule does when a figure stops getting better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from trainkit import Between, Duration, Fraction, NonNegative, NonNegativeInt, Period, PositiveInt
from trainkit_schedules.looking import Best, Hold, Plateau, Stagnation

if TYPE_CHECKING:
    from trainkit import Reaction

Reduction = Annotated[float, Between(0, 1, low_open=True, high_open=True)]
Peak = Annotated[float, Between(0, 1, low_open=True)]


def plateau(
    *,
    factor: Reduction = 0.1,
    patience: NonNegativeInt = 10,
    threshold: NonNegative = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: NonNegativeInt = 0,
    min: Fraction = 0.0,
) -> Reaction:
    """Multiply the learning rate by ``factor`` when a figure has stopped getting better.

    A figure that is not finite (NaN) never counts as better: after ``patience`` of them the rate is reduced as after
    any others.

    Args:
        factor: of each reduction.
        patience: evaluations without improvement that are borne; the next one reduces the rate.
        threshold: how much better than the best so far a figure must be to count.
        threshold_mode: rel: threshold is a share of the best figure's size, of negative figures too; abs: it is in the
            figure's own unit.
        cooldown: evaluations after a reduction that are not counted.
        min: the rate is not reduced below this share of the base value.

    Source: He et al. 2016, "Deep Residual Learning", section 3.4; agrees with torch's `ReduceLROnPlateau` for figures
    that are not negative.
    """
    return Plateau(Best(threshold, threshold_mode), factor, patience, cooldown, min)


def halve(*, patience: NonNegativeInt = 3, threshold: NonNegative = 1e-4, min: Fraction = 0.0) -> Reaction:
    """Halve the learning rate when a figure has stopped getting better: ``plateau`` with factor = 0.5.

    Args:
        patience: evaluations without improvement that are borne; the next one halves the rate.
        threshold: how much better than the best so far a figure must be to count, as a share of its size.
        min: the rate is not reduced below this share of the base value.

    Source: CS231n, "Neural Networks 3", annealing the learning rate.
    """
    return plateau(factor=0.5, patience=patience, threshold=threshold, min=min)


def stagnation_restart(
    *, window: PositiveInt = 10, threshold: NonNegative = 1e-3, min_gap: NonNegativeInt = 0, peak: Peak = 1.0
) -> Reaction:
    """Begin the schedule again, over what is left of the run, when a figure has hardly got better for a while.

    That is when the best of the latest ``window`` figures is less than ``threshold`` better than the best before
    them, counted from the last restart. A figure that is not finite (NaN) never counts as better; a window of nothing
    else restarts. Reactions written before this one begin again too, what they have done is forgotten; those written
    after it stay in force. The warm-up is not repeated.

    Args:
        window: figures that are compared with those before them; more than that many must have come.
        threshold: least improvement that lets the schedule go on, in the figure's own unit.
        min_gap: least number of figures from one restart to the next.
        peak: value that a restart begins with, as a share of what the schedule began with.

    Source: after Loshchilov & Hutter 2017, "SGDR", arXiv 1608.03983, with restarts at stagnation in place of planned
    ones.
    """
    return Stagnation(window, threshold, min_gap, peak)


def freeze(
    *,
    at: list[Duration] = [],  # noqa: B006 - a default of the schema, never changed
    length: Period | None = None,
    patience: NonNegativeInt | None = None,
    threshold: NonNegative = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
) -> Reaction:
    """Hold the schedule's clock at stated times, or when a figure has stopped getting better; then go on.

    The rate stays what it is while the clock is held. The run is not longer for it: what is held is missing at the end
    of the schedule. A figure that is not finite (NaN) never counts as better: it neither resets ``patience`` nor lets
    the clock go on. Reactions written before this one keep their effects.

    Args:
        at: times of the run, its warm-up included, from which the clock is held for ``length``.
        length: how long it is held; of holds that a figure decides, the most. Unset holds until the figure is better.
        patience: evaluations without improvement that are borne; the next one holds the clock. Unset looks at none.
        threshold: how much better than the best so far a figure must be to count.
        threshold_mode: rel: threshold is a share of the best figure's size; abs: it is in the figure's own unit.
    """
    return Hold(Best(threshold, threshold_mode), at, length, patience)
