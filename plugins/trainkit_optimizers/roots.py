"""Gradients divided by the root of their squares: rmsprop, adagrad, adadelta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, NonNegative, Positive, Resume

if TYPE_CHECKING:
    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, high_open=True)]


def rmsprop(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-2,
    alpha: Share = 0.99,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum: Share = 0.0,
    centered: Annotated[bool, Resume("fixed")] = False,  # it decides what the state holds
) -> Optimizer:
    """RMSprop: the gradient divided by the root of its mean square.

    Agrees with `torch.optim.RMSprop`, but for a variance that rounding makes negative: 0 here, NaN there.

    Args:
        lr: learning rate.
        alpha: decay of the moving averages.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.
        momentum: share of the last step that is kept.
        centered: divide by the root of the variance instead of the mean square. The same for all groups.

    Source: Tieleman & Hinton 2012, lecture 6e; centred: Graves 2013, arXiv 1308.0850, equations 38 to 45.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.root_rules import Rmsprop

    numbers = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
    return ElementwiseOptimizer(params, Rmsprop(centered), **numbers)


def adagrad(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-2,
    lr_decay: NonNegative = 0.0,
    eps: Positive = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adagrad: the gradient divided by the root of the sum of all squared gradients so far.

    Agrees with `torch.optim.Adagrad` started from a sum of 0.

    Args:
        lr: learning rate.
        lr_decay: the rate of update k, from 0, is divided by 1 + k * lr_decay, besides any schedule.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods", JMLR 12, equation 1 with a diagonal.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.root_rules import Adagrad

    return ElementwiseOptimizer(params, Adagrad(), lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)


def adadelta(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1.0,
    rho: Share = 0.9,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adadelta: the gradient in units of the weights, by the ratio of the mean squares of past steps and gradients.

    Agrees with `torch.optim.Adadelta`.

    Args:
        lr: factor of every step; the paper has none, that is 1.
        rho: decay of the two mean squares.
        eps: added within both roots; it sets the size of the first steps.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", algorithm 1; arXiv 1212.5701.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.root_rules import Adadelta

    return ElementwiseOptimizer(params, Adadelta(), lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)
