"""Losses of regression."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from trainkit_losses.fit import pair


def mean_squared(outputs: Tensor, targets: Tensor, /) -> Tensor:
    """Mean squared error of outputs ``(batch, outputs)``."""
    return functional.mse_loss(*pair(outputs, targets))


def mean_absolute(outputs: Tensor, targets: Tensor, /) -> Tensor:
    """Mean absolute error of outputs ``(batch, outputs)``."""
    return functional.l1_loss(*pair(outputs, targets))


@dataclass(eq=False)  # a schedule may change its numbers
class Huber:
    """Mean Huber loss of outputs ``(batch, outputs)``, quadratic up to an error of ``delta``."""

    delta: float

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples and outputs."""
        return functional.huber_loss(*pair(outputs, targets), delta=self.delta)
