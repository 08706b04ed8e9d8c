"""Gradient descent and what keeps to its direction or its sign: sgd, sgdw, lars, lion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, NonNegative, Positive

if TYPE_CHECKING:
    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, high_open=True)]


def sgd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive,
    momentum: Share = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Stochastic gradient descent: plain, with heavy-ball momentum, or with Nesterov's.

    The decay is added to the gradient (L2); ``sgdw`` takes it apart. Agrees with `torch.optim.SGD`.

    Args:
        lr: learning rate.
        momentum: share of the last update's direction that is kept; 0 is plain descent.
        nesterov: look ahead along the momentum; needs momentum above 0. The same for all groups.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.rules import Sgd

    return ElementwiseOptimizer(params, Sgd(nesterov), lr=lr, momentum=momentum, weight_decay=weight_decay)


def sgdw(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive,
    momentum: Share = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """Stochastic gradient descent with decoupled decay: weights shrink by lr * weight_decay, apart from the gradient.

    Args:
        lr: learning rate.
        momentum: share of the last update's direction that is kept; 0 is plain descent.
        nesterov: look ahead along the momentum; needs momentum above 0. The same for all groups.
        weight_decay: share of the weights, times the learning rate, that each update takes off.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 1; arXiv 1711.05101.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.rules import Sgd

    rule = Sgd(nesterov, decoupled=True)
    return ElementwiseOptimizer(params, rule, lr=lr, momentum=momentum, weight_decay=weight_decay)


def lars(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive,
    momentum: Share = 0.9,
    weight_decay: NonNegative = 0.0,
    trust: Positive = 0.001,
    eps: Positive = 1e-8,
) -> Optimizer:
    """Momentum whose step in each layer is in proportion to the size of its weights; for large batches.

    Each parameter's gradient, with the decay added, is scaled by ``trust |w| / (|g| + weight_decay |w| + eps)``; biases
    and norms (at most one dimension) and what is zero as a whole are not scaled: they move at the rate itself, which a
    group's ``lr_scale`` may make smaller. The rate stands outside the momentum, as in sgd, so that a schedule acts at
    once; at a constant rate this is the paper's update.

    Args:
        lr: learning rate; larger than sgd's by orders of magnitude, as ``trust`` makes it small again.
        momentum: share of the last update's direction that is kept.
        weight_decay: factor of the weights that is added to the gradient.
        trust: size of a step relative to the weights at a rate of 1.
        eps: added to the divisor.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks", algorithm 1; arXiv 1708.03888.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.layer_rules import Lars

    numbers = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "eps": eps}
    return ElementwiseOptimizer(params, Lars(), **numbers)


def lion(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-4,
    betas: tuple[Share, Share] = (0.9, 0.99),
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Lion: steps by the sign of the momentum, each weight by lr; half of Adam's state.

    The decay is decoupled. The paper uses a rate 3 to 10 times below AdamW's, and a decay as many times above.

    Args:
        lr: learning rate, the size of every step.
        betas: share of the moving average in the step, and its decay.
        weight_decay: share of the weights, times the learning rate, that each update takes off.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2; arXiv 2302.06675.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.moment_rules import Lion

    return ElementwiseOptimizer(params, Lion(), lr=lr, betas=betas, weight_decay=weight_decay)
