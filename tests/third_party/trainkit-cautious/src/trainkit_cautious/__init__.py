"""Cautious AdamW, and the hyperbolic schedule."""

from __future__ import annotations

import math
from typing import Annotated, Any

from trainkit import Between, Component, Events, Fraction, NonNegative, Optimizer, Positive, Schedule, hookimpl

Beta = Annotated[float, Between(0, 1, high_open=True)]


def cautious_adamw(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """AdamW that leaves out the parts of an update whose sign is not that of the newest gradient.

    What is left is scaled up by the share of the numbers that are left, so that steps stay as long.

    Args:
        lr: learning rate.
        betas: how much of the mean gradient, and of the mean squared gradient, each update keeps.
        eps: added to the root of the mean squared gradient.
        weight_decay: share of a weight, times the rate, that each update takes away.

    Source: Liang et al. 2024, "Cautious Optimizers: Improving Training with One Line of Code", arXiv 2411.16085,
    algorithm 2.
    """
    from trainkit_cautious.updates import CautiousAdamW

    return CautiousAdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def hyperbolic(*, end: Fraction = 0.01, bound: Annotated[float, Between(1)] = 1.25) -> Schedule:
    """Fall along a hyperbola from 1; how it begins depends less on the length of the run than that of other curves.

    With h(t) = sqrt((T - t) / U (2 - (T + t) / U)) and U = bound T the factor is 1 + (1 - end)(h(t) - h(0)).

    Args:
        end: what the factor falls to where bound is 1, as a share of the base value.
        bound: the run length that the curve is made for, in lengths of this run; the larger, the straighter.

    Source: Kim 2024, "HyperbolicLR: Epoch insensitive learning rate scheduler", arXiv 2407.15200, eq. 5.
    """

    def factor(t: int, T: int, events: Events = ()) -> float:
        p = min(t / T, 1.0)
        return 1 + (1 - end) * (_height(p, bound) - _height(0.0, bound))

    return factor


def _height(p: float, bound: float) -> float:
    return math.sqrt((1 - p) / bound * (2 - (1 + p) / bound))


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("optimizer", cautious_adamw, example={"lr": 0.002, "weight_decay": 0.05}),
        Component("schedule", hyperbolic, example={"bound": 1.5}),
    ]
