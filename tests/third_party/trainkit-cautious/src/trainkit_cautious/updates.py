"""The update of Cautious AdamW; torch is imported here, when the optimizer is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class CautiousAdamW(torch.optim.Optimizer):
    """See `trainkit_cautious.cautious_adamw`."""

    def __init__(self, params: list[dict[str, Any]], **defaults: Any) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make one update; ``closure`` computes loss and gradients anew before it, and its loss is given back."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["mean"].lerp_(gradient, 1 - first), state["square"]
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        agrees = (mean * gradient > 0).to(gradient.dtype)
        agrees /= agrees.mean().clamp(min=1e-3)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(mean / root * agrees * (group["lr"] / (1 - first ** state["step"])))
