"""Hypergradient descent: optimizers that adapt their own learning rate: sgd_hd, adam_hd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, NonNegative, Positive

if TYPE_CHECKING:
    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, high_open=True)]


def sgd_hd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive,
    hyper_lr: NonNegative = 1e-6,
    momentum: Share = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Gradient descent whose learning rate descends too (SGD-HD, with Nesterov's momentum SGDN-HD); experimental.

    Before each update the rate of a group grows by ``hyper_lr`` times the product of its gradient with the direction of
    the update before: it rises while gradients agree. Nothing keeps it above zero; a smaller ``hyper_lr`` does. It is
    logged as ``lr/<group>``, and no schedule may set it.

    Args:
        lr: learning rate of the first update.
        hyper_lr: learning rate of the learning rate. What fits depends on the size of gradients: the paper takes 1e-3
            for a small network and 1e-6 for a large one.
        momentum: share of the last update's direction that is kept; 0 is plain descent.
        nesterov: look ahead along the momentum; needs momentum above 0.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Baydin et al. 2018, "Online Learning Rate Adaptation with Hypergradient Descent", algorithms 4 and 5; arXiv
    1703.04782.
    """
    from trainkit_optimizers.hyper_rules import Descent, Hypergradient

    numbers = {"lr": lr, "hyper_lr": hyper_lr, "momentum": momentum, "weight_decay": weight_decay}
    return Hypergradient(params, Descent(nesterov), **numbers)


def adam_hd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    hyper_lr: NonNegative = 1e-8,
    betas: tuple[Share, Share] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adam whose learning rate descends too (Adam-HD); experimental.

    Before each update the rate of a group grows by ``hyper_lr`` times the product of its gradient with the direction of
    the update before, ``m̂ / (sqrt(v̂) + eps)``. Nothing keeps it above zero; a smaller ``hyper_lr`` does. It is logged
    as ``lr/<group>``, and no schedule may set it.

    Args:
        lr: learning rate of the first update.
        hyper_lr: learning rate of the learning rate; the paper takes 1e-7 for a small network and 1e-8 for a large one.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Baydin et al. 2018, "Online Learning Rate Adaptation with Hypergradient Descent", algorithm 6; arXiv
    1703.04782.
    """
    from trainkit_optimizers.hyper_rules import Hypergradient, Moments

    numbers = {"lr": lr, "hyper_lr": hyper_lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    return Hypergradient(params, Moments(), **numbers)
