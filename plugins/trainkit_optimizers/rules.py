"""The elementwise rules behind the optimizers of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trainkit import Number

Group: TypeAlias = Mapping[str, Any]
Tensors: TypeAlias = list[Tensor]
Numbers: TypeAlias = Sequence[Number]
New: TypeAlias = tuple[Tensor, Sequence[Tensor]]

# One operation for all parameters of a group. The names are torch's own but not documented: where a version of torch
# lacks them, each parameter is updated by itself.
_FUSED_SGD = getattr(torch, "_fused_sgd_", None)
_FUSED_ADAM = {False: getattr(torch, "_fused_adam_", None), True: getattr(torch, "_fused_adamw_", None)}
_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Sgd:
    """``v = mu v + g``; ``w -= lr v``, or ``w -= lr (g + mu v)`` with Nesterov; without momentum ``w -= lr g``.

    Decay is added to the gradient, or decoupled: ``w -= lr * decay * w`` besides.
    """

    nesterov: bool
    decoupled: bool = False

    def slots(self, group: Group) -> tuple[str, ...]:
        # From zero the first update gives v = g, as torch has it.
        return ("momentum_buffer",) if group["momentum"] else ()

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        lr, decay = group["lr"], group["weight_decay"]
        return lr, group["momentum"], lr * decay if self.decoupled else decay

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, momentum, decay = numbers
        if self.decoupled:
            parameter = parameter - decay * parameter
        else:
            gradient = gradient + decay * parameter
        if not state:
            return parameter - lr * gradient, ()
        velocity = momentum * state[0] + gradient
        direction = gradient + momentum * velocity if self.nesterov else velocity
        return parameter - lr * direction, (velocity,)

    def update_rows(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Tensors) -> None:
        lr, momentum, decay = numbers
        if self.decoupled:
            parameter.addcmul_(parameter, decay, value=-1)
        else:
            gradient.addcmul_(parameter, decay)
        if state:
            torch.addcmul(gradient, state[0], momentum, out=state[0])
            gradient = gradient.addcmul_(state[0], momentum) if self.nesterov else state[0]
        parameter.addcmul_(gradient, lr, value=-1)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        if _FUSED_SGD is None or not _fusable(parameters[0]):
            return False
        decay = group["weight_decay"]
        if self.decoupled:
            shrink(parameters, group)
            decay = 0.0
        _FUSED_SGD(
            parameters,
            gradients,
            states[0] if states else [],
            weight_decay=decay,
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )
        return True


@dataclass(frozen=True)
class Adam:
    """``w -= lr m̂ / (sqrt(v̂) + eps)`` with bias-corrected moments; decay decoupled or added to the gradient."""

    decoupled: bool
    _counts: dict[torch.device, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        lr, decay = group["lr"], group["weight_decay"]
        size, root = lr / (1 - beta1**k), (1 - beta2**k) ** -0.5
        return size, root, lr * decay if self.decoupled else decay, 1 - beta1, 1 - beta2, group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        size, root, decay, share1, share2, eps = numbers
        if self.decoupled:
            parameter = parameter - decay * parameter
        else:
            gradient = gradient + decay * parameter
        mean = state[0] + share1 * (gradient - state[0])
        square = state[1] + share2 * (gradient * gradient - state[1])
        return parameter - size * mean / (square.sqrt() * root + eps), (mean, square)

    def update_rows(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Tensors) -> None:
        size, root, decay, share1, share2, eps = numbers
        mean, square = state
        if self.decoupled:
            parameter.addcmul_(parameter, decay, value=-1)
        else:
            gradient.addcmul_(parameter, decay)
        mean.mul_(1 - share1).addcmul_(gradient, share1)  # quicker than lerp_, which takes its time over weights
        square.mul_(1 - share2).addcmul_(gradient.square_(), share2)
        divisor = torch.addcmul(eps, square.sqrt(), root)
        parameter.addcmul_(torch.div(mean, divisor, out=divisor), size, value=-1)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        fused = _FUSED_ADAM[self.decoupled]
        if fused is None or not _fusable(parameters[0]):
            return False
        device = parameters[0].device
        count = self._counts.get(device)
        if count is None:
            count = self._counts[device] = torch.zeros((), device=device)
        count.fill_(k)
        beta1, beta2 = group["betas"]
        fused(
            parameters,
            gradients,
            *states,
            [],
            [count] * len(parameters),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        return True


def _fusable(parameter: Tensor) -> bool:
    # On the CPU torch 2.13's fused SGD moves bfloat16 weights wrongly, by up to several times the update.
    return parameter.dtype in (torch.float32, torch.float64) and parameter.device.type in _FUSED_DEVICES


def shrink(parameters: Tensors, group: Group) -> None:
    """Take the decoupled decay off, in place: ``lr * weight_decay`` of each weight."""
    if group["weight_decay"]:
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])


def decayed(parameters: Tensors, gradients: Tensors, group: Group) -> Tensors:
    """The gradients with ``weight_decay`` times the weights added; the same tensors without decay."""
    decay = group["weight_decay"]
    return list(torch._foreach_add(gradients, parameters, alpha=decay)) if decay else gradients
