"""Optimizers: each factory takes parameter groups and returns an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from trainkit import Between, Component, NonNegative, Positive, Problem, hookimpl

if TYPE_CHECKING:
    from trainkit import Optimizer

Beta = Annotated[float, Between(0, 1, high_open=True)]


def sgd(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive,
    momentum: Annotated[float, Between(0, 1, high_open=True)] = 0.0,
    nesterov: bool = False,
    weight_decay: NonNegative = 0.0,
) -> Optimizer:
    """Stochastic gradient descent: plain, with heavy-ball momentum, or with Nesterov's.

    The decay is added to the gradient (L2). Agrees with `torch.optim.SGD`.

    Args:
        lr: learning rate.
        momentum: share of the last update's direction that is kept; 0 is plain descent.
        nesterov: look ahead along the momentum; needs momentum above 0.
        weight_decay: factor of the weights that is added to the gradient.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.rules import Sgd

    return ElementwiseOptimizer(params, Sgd(nesterov), lr=lr, momentum=momentum, weight_decay=weight_decay)


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
    return _adam(params, False, lr, betas, eps, weight_decay)


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
    return _adam(params, True, lr, betas, eps, weight_decay)


def _adam(
    params: list[dict[str, Any]],
    decoupled: bool,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> Optimizer:
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.rules import Adam

    return ElementwiseOptimizer(params, Adam(decoupled), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


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
    import torch

    together = [parameter for group in params for parameter in group["params"]]
    search = "strong_wolfe" if strong_wolfe else None
    made = torch.optim.LBFGS(together, lr=lr, max_iter=max_iter, history_size=history, line_search_fn=search)
    return made  # type: ignore[return-value]  # it must be given a closure, as its capability says


@hookimpl
def trainkit_components() -> list[Component]:
    fast = {"elementwise": True, "compiles": True, "lanes": True}
    return [
        Component("optimizer", adam, example={"lr": 1e-3}, capabilities=fast),
        Component("optimizer", adamw, example={"lr": 1e-3, "weight_decay": 0.05}, capabilities=fast),
        Component("optimizer", lbfgs, example={"lr": 1.0}, capabilities={"needs_closure": True, "single_group": True}),
        Component("optimizer", sgd, example={"lr": 0.1, "momentum": 0.9}, capabilities=fast),
    ]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    from trainkit import problem_at

    optimizer = recipe["optimizer"]
    if optimizer["use"].rpartition(":")[2] == "sgd" and optimizer["nesterov"] and not optimizer["momentum"]:
        message = "nesterov = true needs momentum above 0, got momentum = 0.0"
        return [problem_at(recipe, "optimizer.nesterov", message, "write momentum = 0.9, or leave nesterov out")]
    return []
