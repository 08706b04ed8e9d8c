"""Gradients without their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from trainkit import hookimpl


@dataclass(frozen=True)
class GradientCentralization:
    """See `trainkit_callbacks.gradient_centralization`."""

    stateless = True
    conv_only: bool

    @hookimpl
    def trainkit_gradients(self, gradients: Sequence[Tensor]) -> None:
        least = 3 if self.conv_only else 2
        for gradient in gradients:
            if gradient.dim() >= least:
                gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.dim())), keepdim=True))
