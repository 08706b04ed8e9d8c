"""What many modules give for one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Together(nn.Module):
    """Several modules that are given the same inputs.

    Args:
        modules: each gives ``(batch, outputs)``.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, inputs: Tensor) -> Tensor:
        """What each gives, ``(modules, batch, outputs)``."""
        return torch.stack([module(inputs) for module in self.each])
