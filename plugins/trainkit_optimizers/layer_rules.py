"""Rules whose step is in proportion to the norm of the whole parameter, so that no part of it stands alone."""

# The protocol `trainkit.Rule` says what each method does.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit_optimizers.rules import Group, New, Numbers, Tensors


class _OneByOne:
    """Each parameter by itself, through `update`."""

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        return False


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient; 1 where a weight or a step is zero as a whole, which says nothing about its size."""
    return torch.where((above > 0) & (below > 0), above / below, torch.ones_like(above))


def _norm(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm


@dataclass(frozen=True)
class Lars(_OneByOne):
    """Momentum over ``r (g + decay w)`` with ``r = trust |w| / (|g| + decay |w| + eps)``; 1-d: ``r = 1``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        return group["lr"], group["momentum"], group["weight_decay"], group["trust"], group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, momentum, decay, trust, eps = numbers
        step = gradient + decay * parameter
        if parameter.dim() > 1:
            weight, slope = _norm(parameter), _norm(gradient)
            # A gradient of zero as a whole is found by its own norm, as the divisor is never zero.
            step = step * torch.where(slope > 0, _ratio(trust * weight, slope + decay * weight + eps), 1.0)
        if not state:
            return parameter - lr * step, ()
        velocity = momentum * state[0] + step
        return parameter - lr * velocity, (velocity,)


@dataclass(frozen=True)
class Lamb(_OneByOne):
    """``u = m̂ / (sqrt(v̂) + eps) + decay w``; ``w -= lr |w| / |u| * u``; 1-d: ``w -= lr u``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        scale, root = 1 / (1 - beta1**k), (1 - beta2**k) ** -0.5
        return group["lr"], scale, root, group["weight_decay"], 1 - beta1, 1 - beta2, group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, scale, root, decay, share1, share2, eps = numbers
        mean = state[0] + share1 * (gradient - state[0])
        square = state[1] + share2 * (gradient * gradient - state[1])
        step = scale * mean / (square.sqrt() * root + eps) + decay * parameter
        if parameter.dim() > 1:
            step = step * _ratio(_norm(parameter), _norm(step))
        return parameter - lr * step, (mean, square)
