"""The rule behind muon: a step for a matrix as a whole."""

# The protocol `trainkit.Rule` says what each method does.
# ruff: noqa: D102

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainkit_optimizers.rules import Group, New, Numbers, Tensors

# Of the quintic polynomial; they make the slope at zero as steep as five iterations bear (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonal(matrix: Tensor, steps: int, eps: float) -> Tensor:
    """The matrix with all its singular values moved to about 1, by ``steps`` Newton-Schulz iterations in bfloat16.

    Args:
        matrix: ``(rows, columns)``.
        steps: iterations.
        eps: smallest norm that the matrix is divided by.
    """
    tall = matrix.size(0) > matrix.size(1)
    result = matrix.bfloat16()
    result = result.T if tall else result
    result = result / result.norm().clamp(min=eps)
    for _ in range(steps):
        gram = result @ result.T
        result = torch.addmm(result, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), result, beta=_A)
    return result.T if tall else result


@dataclass(frozen=True)
class Muon:
    """``b = mu b + (1 - mu) g``; ``w -= lr decay w``; ``w -= lr ratio O(b)``, of ``(1 - mu) g + mu b`` with Nesterov.

    ``O`` makes orthogonal. With ``normalise`` the old matrix is first brought to the norm sqrt(rows), which orthogonal
    rows of length 1 have. A kernel of more than two dimensions is the matrix of its outputs against all else. It is no
    part of compiled steps, so that its numbers are always floats.
    """

    nesterov: bool
    steps: int
    adjust: Literal["original", "match_rms_adamw"]
    normalise: bool = False

    def slots(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def numbers(self, group: Group, k: int) -> tuple[float, ...]:
        return group["lr"], group["momentum"], group["lr"] * group["weight_decay"], group["eps"]

    def update(self, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor], numbers: Numbers) -> New:
        lr, momentum, decay, eps = map(float, numbers)
        mean = torch.lerp(state[0], gradient, 1 - momentum)
        matrix = (torch.lerp(gradient, mean, momentum) if self.nesterov else mean).flatten(1)
        step = orthogonal(matrix, self.steps, eps).reshape(parameter.shape).to(parameter.dtype)
        kept: float | Tensor = 1 - decay
        if self.normalise:
            kept = kept * math.sqrt(len(matrix)) / torch.linalg.vector_norm(parameter).clamp(min=eps)
        return torch.add(parameter * kept, step, alpha=-lr * self._ratio(matrix)), (mean,)

    def _ratio(self, matrix: Tensor) -> float:
        rows, columns = matrix.shape
        if self.adjust == "original":
            return math.sqrt(max(1, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))

    def update_all(self, parameters: Tensors, gradients: Tensors, states: list[Tensors], group: Group, k: int) -> bool:
        return False
