"""The elementwise rules behind the optimizers of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit import Number, add_scaled_


@dataclass(frozen=True)
class Sgd:
    """``v = mu v + g``; ``w -= lr v``, or ``w -= lr (g + mu v)`` with Nesterov; ``v`` starts at the first gradient."""

    nesterov: bool

    def init(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        # From zero the first update gives v = g, as torch has it.
        return {"momentum_buffer": torch.zeros_like(parameter)} if _in_use(group["momentum"]) else {}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any], k: Number
    ) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if _in_use(decay):
            add_scaled_(gradient, parameter, decay)
        if "momentum_buffer" in state:
            velocity = state["momentum_buffer"].mul_(momentum).add_(gradient)
            gradient = add_scaled_(gradient, velocity, momentum) if self.nesterov else velocity
        add_scaled_(parameter, gradient, -lr)


@dataclass(frozen=True)
class Adam:
    """``w -= lr m̂ / (sqrt(v̂) + eps)`` with bias-corrected moments; decay decoupled or added to the gradient."""

    decoupled: bool

    def init(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], group: Mapping[str, Any], k: Number
    ) -> None:
        lr, decay, eps = group["lr"], group["weight_decay"], group["eps"]
        beta1, beta2 = group["betas"]
        if _in_use(decay):
            if self.decoupled:
                parameter.mul_(1 - lr * decay)
            else:
                add_scaled_(gradient, parameter, decay)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        correction1, correction2 = 1 - beta1**k, 1 - beta2**k
        root = square.sqrt().div_(correction2**0.5).add_(eps)
        if isinstance(k, Tensor) or isinstance(lr, Tensor):
            parameter.sub_(mean / root * (lr / correction1))
        else:
            parameter.addcdiv_(mean, root, value=-lr / correction1)


def _in_use(number: Number) -> bool:
    """Whether a hyperparameter takes part: a tensor may be scheduled away from zero, a plain zero is left out."""
    return isinstance(number, Tensor) or number != 0.0
