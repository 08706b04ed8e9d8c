"""Rules that divide by the root of squared gradients: Rmsprop, Adagrad, Adadelta."""

# The protocol `trainkit.Rule` says what each method does.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit_optimizers.rules import Group, New, Numbers, Tensors, decayed


@dataclass(frozen=True)
class Rmsprop:
    """``w -= lr g / (sqrt(E[g²]) + eps)``, centred by ``E[g]²`` if asked for, with momentum if above 0."""

    centered: bool

    def slots(self, group: Group) -> tuple[str, ...]:
        centred = ("grad_avg",) if self.centered else ()
        moving = ("momentum_buffer",) if group["momentum"] else ()
        return ("square_avg", *centred, *moving)

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], group["alpha"], 1 - group["alpha"], group["momentum"], group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, decay, alpha, share, momentum, eps = numbers
        gradient = gradient + decay * parameter
        square = alpha * state[0] + share * gradient * gradient
        kept, variance = [square], square
        if self.centered:
            kept.append(state[1] + share * (gradient - state[1]))
            # Rounding may leave less than zero, whose root would be NaN.
            variance = (square - kept[1] * kept[1]).clamp(min=0)
        step = gradient / (variance.sqrt() + eps)
        if len(state) > len(kept):
            step = momentum * state[-1] + step
            kept.append(step)
        return parameter - lr * step, kept

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        lr, _, alpha, share, momentum, eps = self.numbers(group, k)
        gradients = decayed(parameters, gradients, group)
        squares = states[0]
        torch._foreach_mul_(squares, alpha)
        torch._foreach_addcmul_(squares, gradients, gradients, share)
        if self.centered:
            torch._foreach_lerp_(states[1], gradients, share)
            roots = list(torch._foreach_addcmul(squares, states[1], states[1], -1))
            torch._foreach_clamp_min_(roots, 0.0)
            torch._foreach_sqrt_(roots)
        else:
            roots = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(roots, eps)
        if momentum:
            torch._foreach_mul_(states[-1], momentum)
            torch._foreach_addcdiv_(states[-1], gradients, roots)
            torch._foreach_add_(parameters, states[-1], alpha=-lr)
        else:
            torch._foreach_addcdiv_(parameters, gradients, roots, -lr)
        return True


@dataclass(frozen=True)
class Adagrad:
    """``s += g²``; ``w -= lr / (1 + (k - 1) lr_decay) * g / (sqrt(s) + eps)``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        return group["lr"] / (1 + (k - 1) * group["lr_decay"]), group["weight_decay"], group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        size, decay, eps = numbers
        gradient = gradient + decay * parameter
        total = state[0] + gradient * gradient
        return parameter - size * gradient / (total.sqrt() + eps), (total,)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        size, _, eps = self.numbers(group, k)
        gradients = decayed(parameters, gradients, group)
        torch._foreach_addcmul_(states[0], gradients, gradients, 1)
        roots = list(torch._foreach_sqrt(states[0]))
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(parameters, gradients, roots, -size)
        return True


@dataclass(frozen=True)
class Adadelta:
    """``d = g sqrt(E[d²] + eps) / sqrt(E[g²] + eps)``; ``w -= lr d``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], group["rho"], 1 - group["rho"], group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, decay, rho, share, eps = numbers
        gradient = gradient + decay * parameter
        square = rho * state[0] + share * gradient * gradient
        step = (state[1] + eps).sqrt() / (square + eps).sqrt() * gradient
        return parameter - lr * step, (square, rho * state[1] + share * step * step)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        lr, _, rho, share, eps = self.numbers(group, k)
        gradients = decayed(parameters, gradients, group)
        squares, deltas = states
        torch._foreach_mul_(squares, rho)
        torch._foreach_addcmul_(squares, gradients, gradients, share)
        roots = list(torch._foreach_add(squares, eps))
        torch._foreach_sqrt_(roots)
        steps = list(torch._foreach_add(deltas, eps))
        torch._foreach_sqrt_(steps)
        torch._foreach_div_(steps, roots)
        torch._foreach_mul_(steps, gradients)
        torch._foreach_mul_(deltas, rho)
        torch._foreach_addcmul_(deltas, steps, steps, share)
        torch._foreach_add_(parameters, steps, alpha=-lr)
        return True
