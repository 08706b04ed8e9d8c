"""Rules that follow moving averages of the gradient: Nadam, Radam, Adamax, Lion."""

# The protocol `trainkit.Rule` says what each method does.
# ruff: noqa: D102

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit_optimizers.rules import Group, New, Numbers, Tensors, decayed, shrink


@functools.lru_cache(maxsize=64)
def _products(beta: float, decay: float) -> list[float]:
    """Room for the products of Nadam's momenta for one pair of settings, filled as far as they are asked for."""
    return [1.0]


def _momentum(beta: float, decay: float, k: int) -> float:
    return beta * (1 - 0.5 * math.pow(0.96, k * decay))


def momentum_product(beta: float, decay: float, k: int) -> float:
    """Product of Nadam's momenta of updates 1 to ``k``, with today's settings for all of them.

    A pure function of its arguments, so that nothing needs to be saved; torch keeps the product as state, in
    float32. Once one minus the product is 1 exactly, later factors are left out.
    """
    products = _products(beta, decay)
    while len(products) <= k and products[-1] > 1e-20:
        products.append(products[-1] * _momentum(beta, decay, len(products)))
    return products[min(k, len(products) - 1)]


@dataclass(frozen=True)
class Nadam:
    """Adam whose mean looks one update ahead, with momenta ``mu_k = beta1 (1 - 0.96^(k decay) / 2)``."""

    decoupled: bool

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        lr, decay, rise = group["lr"], group["weight_decay"], group["momentum_decay"]
        now, ahead = _momentum(beta1, rise, k), _momentum(beta1, rise, k + 1)
        product = momentum_product(beta1, rise, k)
        sizes = lr * (1 - now) / (1 - product), lr * ahead / (1 - product * ahead)
        return *sizes, 1 - beta2**k, lr * decay if self.decoupled else decay, 1 - beta1, 1 - beta2, group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        size, ahead, correction, decay, share1, share2, eps = numbers
        if self.decoupled:
            parameter = parameter - decay * parameter
        else:
            gradient = gradient + decay * parameter
        mean = state[0] + share1 * (gradient - state[0])
        square = state[1] + share2 * (gradient * gradient - state[1])
        return parameter - (size * gradient + ahead * mean) / ((square / correction).sqrt() + eps), (mean, square)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        size, ahead, correction, _, share1, share2, eps = self.numbers(group, k)
        means, squares = states
        if self.decoupled:
            shrink(parameters, group)
        else:
            gradients = decayed(parameters, gradients, group)
        torch._foreach_lerp_(means, gradients, share1)
        torch._foreach_mul_(squares, group["betas"][1])
        torch._foreach_addcmul_(squares, gradients, gradients, share2)
        roots = list(torch._foreach_div(squares, correction))
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(parameters, gradients, roots, -size)
        torch._foreach_addcdiv_(parameters, means, roots, -ahead)
        return True


@dataclass(frozen=True)
class Radam:
    """Adam with a rectified step; ``w -= lr m̂`` alone while too few squares were seen to trust their mean."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        size, left = group["lr"] / (1 - beta1**k), 1 - beta2**k
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * k * beta2**k / left
        trusted = length > 5
        if trusted:
            shrunk = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            size *= (shrunk * left) ** 0.5
        return size, float(trusted), group["weight_decay"], 1 - beta1, 1 - beta2, group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        size, trusted, decay, share1, share2, eps = numbers
        gradient = gradient + decay * parameter
        mean = state[0] + share1 * (gradient - state[0])
        square = state[1] + share2 * (gradient * gradient - state[1])
        # Without a branch, as `trusted` is a tensor in a compiled step.
        return parameter - size * mean / (trusted * (square.sqrt() + eps) + (1 - trusted)), (mean, square)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        size, trusted, _, share1, share2, eps = self.numbers(group, k)
        means, squares = states
        gradients = decayed(parameters, gradients, group)
        torch._foreach_lerp_(means, gradients, share1)
        torch._foreach_mul_(squares, group["betas"][1])
        torch._foreach_addcmul_(squares, gradients, gradients, share2)
        if trusted:
            roots = list(torch._foreach_sqrt(squares))
            torch._foreach_add_(roots, eps)
            torch._foreach_addcdiv_(parameters, means, roots, -size)
        else:
            torch._foreach_add_(parameters, means, alpha=-size)
        return True


@dataclass(frozen=True)
class Adamax:
    """``u = max(beta2 u, |g| + eps)``; ``w -= lr m̂ / u``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return group["lr"] / (1 - beta1**k), group["weight_decay"], 1 - beta1, beta2, group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        size, decay, share, beta2, eps = numbers
        gradient = gradient + decay * parameter
        mean = state[0] + share * (gradient - state[0])
        largest = torch.maximum(beta2 * state[1], gradient.abs() + eps)
        return parameter - size * mean / largest, (mean, largest)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        size, _, share, beta2, eps = self.numbers(group, k)
        means, largest = states
        gradients = decayed(parameters, gradients, group)
        torch._foreach_lerp_(means, gradients, share)
        sizes = list(torch._foreach_abs(gradients))
        torch._foreach_add_(sizes, eps)
        torch._foreach_mul_(largest, beta2)
        torch._foreach_maximum_(largest, sizes)
        torch._foreach_addcdiv_(parameters, means, largest, -size)
        return True


@dataclass(frozen=True)
class Lion:
    """``w -= lr sign(beta1 m + (1 - beta1) g)`` with decoupled decay; then ``m = beta2 m + (1 - beta2) g``."""

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        lr = group["lr"]
        return lr, lr * group["weight_decay"], beta1, 1 - beta1, beta2, 1 - beta2

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, decay, beta1, share1, beta2, share2 = numbers
        (mean,) = state
        direction = (beta1 * mean + share1 * gradient).sign()
        return parameter - decay * parameter - lr * direction, (beta2 * mean + share2 * gradient,)

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        lr, _, beta1, share1, beta2, share2 = self.numbers(group, k)
        (means,) = states
        directions = list(torch._foreach_mul(means, beta1))
        torch._foreach_add_(directions, gradients, alpha=share1)
        torch._foreach_sign_(directions)
        shrink(parameters, group)
        torch._foreach_add_(parameters, directions, alpha=-lr)
        torch._foreach_mul_(means, beta2)
        torch._foreach_add_(means, gradients, alpha=share2)
        return True
