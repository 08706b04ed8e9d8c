"""Optimizers that torch has and that are no elementwise rule: adafactor, asgd, lbfgs, rprop, sparse_adam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, NonNegative, Positive

if TYPE_CHECKING:
    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, high_open=True)]


def adafactor(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-2,
    beta2_decay: Annotated[float, Between(None, 0)] = -0.8,
    eps: NonNegative = 1e-3,
    d: Annotated[float, Between(1)] = 1.0,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Adafactor: mean squares kept as one row and one column for each matrix; almost no memory.

    The step of update k is min(lr, 1 / sqrt(k)) times the root mean square of the weights, so that a schedule acts only
    where it is below 1 / sqrt(k). Wraps `torch.optim.Adafactor`; its other eps is the number format's.

    Args:
        lr: upper limit of the relative rate.
        beta2_decay: exponent of k in the share of the newest squares.
        eps: smallest root mean square of the weights that steps are relative to.
        d: steps whose root mean square is above this are scaled down to it.
        weight_decay: share of the weights, times lr, that each update takes off.

    Source: Shazeer & Stern 2018, "Adafactor", algorithms 4 to 6; arXiv 1804.04235.
    """
    # torch keeps both of the paper's eps in one pair; None is the number format's own.
    groups = [{**group, "eps": (None, group["eps"])} if "eps" in group else group for group in params]
    return _wrapped(
        "Adafactor", groups, lr=lr, beta2_decay=beta2_decay, eps=(None, eps), d=d, weight_decay=weight_decay
    )


def asgd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: NonNegative = 0.75,
    t0: NonNegative = 1e6,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Averaged stochastic gradient descent: descent with a falling rate, and an average of the weights beside it.

    The average is kept in the optimizer's state as ``ax``; the model keeps the weights themselves. Update k uses
    lr / (1 + lambd * lr * k) ** alpha with the lr of the update before, so a schedule acts one update late. Wraps
    `torch.optim.ASGD`.

    Args:
        lr: learning rate at the start.
        lambd: how fast the rate falls, and how much of the weights each update takes off.
        alpha: exponent of the fall.
        t0: update from which on weights are averaged.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging".
    """
    return _wrapped("ASGD", params, lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay)


def lbfgs(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1.0,
    max_iter: Annotated[int, Between(1)] = 20,
    history: Annotated[int, Between(1)] = 10,
    strong_wolfe: bool = True,
) -> Optimizer:
    """L-BFGS: a quasi-Newton step from the last gradients; for small models and full batches.

    It calls the loss several times an update. Wraps `torch.optim.LBFGS`.

    Args:
        lr: step length that the line search starts from.
        max_iter: iterations in one update.
        history: how many past updates approximate the curvature.
        strong_wolfe: search along the direction until the strong Wolfe conditions hold.

    Source: Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization".
    """
    together = [parameter for group in params for parameter in group["params"]]
    search = "strong_wolfe" if strong_wolfe else None
    # It must be given a closure, as its capability says.
    return _wrapped("LBFGS", together, lr=lr, max_iter=max_iter, history_size=history, line_search_fn=search)


def rprop(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-2,
    etas: tuple[
        Annotated[float, Between(0, 1, low_open=True, high_open=True)],
        Annotated[float, Between(1, None, low_open=True)],
    ] = (0.5, 1.2),
    step_sizes: tuple[Positive, Positive] = (1e-6, 50.0),
) -> Optimizer:
    """Resilient backpropagation: each weight has its own step, which grows while the gradient keeps its sign.

    For full batches. The rate is the first step alone, so schedules and warm-up are refused. Wraps `torch.optim.Rprop`.

    Args:
        lr: the first step of every weight.
        etas: factors of the step after a change of sign, and without one.
        step_sizes: the smallest and the largest step.

    Source: Riedmiller & Braun 1993, "A direct adaptive method for faster backpropagation learning".
    """
    return _wrapped("Rprop", params, lr=lr, etas=etas, step_sizes=step_sizes)


def sparse_adam(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Share, Share] = (0.9, 0.999),
    eps: Positive = 1e-8,
) -> Optimizer:
    """Adam for gradients stored as sparse tensors: rows without a gradient keep weights and averages.

    Only for models all of whose gradients are sparse, such as `torch.nn.Embedding` with ``sparse=True``. Wraps
    `torch.optim.SparseAdam`.

    Args:
        lr: learning rate.
        betas: decay of the two moving averages, gradient and squared gradient.
        eps: added to the root, so that nothing is divided by zero.

    Source: Kingma & Ba 2015, "Adam", algorithm 1; arXiv 1412.6980.
    """
    return _wrapped("SparseAdam", params, lr=lr, betas=betas, eps=eps)


def _wrapped(name: str, params: list[Any], **settings: Any) -> Optimizer:
    """Build torch's optimizer; groups keep whatever else they hold, such as ``names``."""
    import torch

    made = getattr(torch.optim, name, None)
    if made is None:
        raise ValueError(f"torch {torch.__version__} has no {name}; install a newer one")
    optimizer: Optimizer = made(params, **settings)
    return optimizer
