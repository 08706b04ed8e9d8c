"""Descent along the gradient of the learning rate, and the directions that it is made with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Direction(Protocol):
    """What an update is, divided by minus the learning rate."""

    def __call__(self, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any], /) -> Tensor:
        """The direction of a parameter's update ``state["step"]`` (from 1); keeps what it needs in its state."""
        ...


@dataclass(frozen=True)
class Descent:
    """``v = mu v + g``; the direction is v, with Nesterov ``g + mu v``, without momentum ``g``."""

    nesterov: bool

    def __call__(self, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> Tensor:
        """As `Direction` says."""
        momentum = group["momentum"]
        if not momentum:
            return gradient
        velocity = _slot(state, "momentum_buffer", gradient).mul_(momentum).add_(gradient)
        return gradient.add(velocity, alpha=momentum) if self.nesterov else velocity


@dataclass(frozen=True)
class Moments:
    """``m̂ / (sqrt(v̂) + eps)`` with Adam's moments."""

    def __call__(self, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> Tensor:
        """As `Direction` says."""
        beta1, beta2 = group["betas"]
        k = state["step"]
        mean = _slot(state, "exp_avg", gradient).mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = _slot(state, "exp_avg_sq", gradient).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = square.div(1 - beta2**k).sqrt_().add_(group["eps"])
        return mean.div(1 - beta1**k).div_(root)


def _slot(state: dict[str, Any], name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    slot: Tensor = state[name]
    return slot


class Hypergradient:
    """One learning rate a group, which follows its own gradient: ``lr += hyper_lr * (g . d)``, ``w -= lr d``.

    It is built and used like `trainkit.ElementwiseOptimizer`, with a direction in place of a rule. ``d`` is the
    direction of the parameter's last update; one without a gradient, or without an update so far, has no part in the
    sum. Each parameter's state holds the rate, in float64 on its device, so that it is saved with the state and never
    read in between.
    """

    def __init__(self, params: Iterable[dict[str, Any]], direction: Direction, **defaults: Any) -> None:
        self.direction = direction
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in params]
        if not any(group["params"] for group in self.param_groups):
            raise ValueError("there is no parameter to optimize")
        self.state: dict[Tensor, dict[str, Any]] = {}

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Make one update; parameters without a gradient are left alone, a sparse one is refused."""
        loss = closure() if closure is not None else None
        with torch.no_grad():
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        members: list[tuple[Tensor, Tensor]] = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                raise ValueError("the gradient is sparse, which this optimizer does not take")
            decay = group["weight_decay"]
            members.append((parameter, gradient + decay * parameter if decay else gradient))
        if not members:
            return
        known = next((state for p in group["params"] if (state := self.state.get(p))), None)
        held = group["lr"] if known is None else known["lr"]
        lr = torch.as_tensor(held, dtype=torch.float64, device=members[0][0].device)
        rises = [
            (gradient.double() * state["direction"].double()).sum()
            for parameter, gradient in members
            if (state := self.state.get(parameter))
        ]
        if rises:
            lr = lr + group["hyper_lr"] * torch.stack(rises).sum()
        for parameter, gradient in members:
            state = self.state.setdefault(parameter, {"step": 0})
            state["step"] += 1
            direction = self.direction(gradient, state, group)
            parameter.sub_(lr * direction)
            state["direction"] = direction.clone() if direction is gradient else direction
        group["lr"] = lr
        for parameter in group["params"]:
            if state := self.state.get(parameter):
                state["lr"] = lr

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()
