"""Adam and its relatives: adam, adamw, nadam, nadamw, radam, adamax, lamb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, NonNegative, Positive

if TYPE_CHECKING:
    from trainkit import Optimizer

Beta = Annotated[float, Between(0, 1, high_open=True)]


def adam(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adam: momentum divided by the root of the mean squared gradient, both corrected for their start.

    The decay is added to the gradient (L2); ``adamw`` takes it apart. Agrees with `torch.optim.Adam`.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Kingma & Ba 2015, "Adam", algorithm 1; arXiv 1412.6980.
    """
    from trainkit_optimizers.rules import Adam

    return _made(params, Adam(False), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def adamw(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """Adam with decoupled weight decay: the weights shrink by lr * weight_decay, apart from the gradient.

    Agrees with `torch.optim.AdamW`.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: share of the weights, times the learning rate, that each update takes off.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2; arXiv 1711.05101.
    """
    from trainkit_optimizers.rules import Adam

    return _made(params, Adam(True), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def nadam(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 2e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
) -> Optimizer:
    """Adam with Nesterov's momentum: the mean is taken as it will be one update ahead.

    The decay is added to the gradient (L2); ``nadamw`` takes it apart. Agrees with `torch.optim.NAdam` to 1e-6.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.
        momentum_decay: how fast the momentum rises from half of ``betas[0]`` to all of it.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam", ICLR workshop, section 3.
    """
    from trainkit_optimizers.moment_rules import Nadam

    numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay}
    return _made(params, Nadam(False), **numbers)


def nadamw(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 2e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
    momentum_decay: NonNegative = 4e-3,
) -> Optimizer:
    """Nadam with decoupled weight decay, as AdamW has it.

    Agrees with `torch.optim.NAdam` with ``decoupled_weight_decay`` to 1e-6; torch's own default decay is 0.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: share of the weights, times the learning rate, that each update takes off.
        momentum_decay: how fast the momentum rises from half of ``betas[0]`` to all of it.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam", with the decay of arXiv 1711.05101.
    """
    from trainkit_optimizers.moment_rules import Nadam

    numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay}
    return _made(params, Nadam(True), **numbers)


def radam(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Rectified Adam: plain momentum until the mean square can be trusted, then Adam with a step that grows.

    It is meant to need no warm-up. The decay is added to the gradient (L2). Agrees with `torch.optim.RAdam` to 1e-6.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2; arXiv 1908.03265.
    """
    from trainkit_optimizers.moment_rules import Radam

    return _made(params, Radam(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def adamax(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 2e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adam with the largest recent gradient in place of the root of the mean square.

    The decay is added to the gradient (L2). Agrees with `torch.optim.Adamax`.

    Args:
        lr: learning rate.
        betas: decay of the mean and of the largest gradient.
        eps: added to the size of each gradient, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Kingma & Ba 2015, "Adam", algorithm 2; arXiv 1412.6980.
    """
    from trainkit_optimizers.moment_rules import Adamax

    return _made(params, Adamax(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def lamb(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Beta, Beta] = (0.9, 0.999),
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.01,
) -> Optimizer:
    """AdamW whose step in each layer is in proportion to the size of its weights; for large batches.

    Biases and norms (at most one dimension) and what is zero as a whole are not scaled. Other libraries clip the
    gradient's norm to 1 within; here ``clip_norm`` does that, if asked for.

    Args:
        lr: learning rate: the size of a step relative to the weights.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: factor of the weights that is added to the step before it is scaled.

    Source: You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2; arXiv 1904.00962.
    """
    from trainkit_optimizers.layer_rules import Lamb

    return _made(params, Lamb(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def _made(params: list[dict[str, Any]], rule: Any, **numbers: Any) -> Optimizer:
    from trainkit import ElementwiseOptimizer

    return ElementwiseOptimizer(params, rule, **numbers)
