"""A model whose gradients are sparse, for optimizers that take no others."""

from __future__ import annotations

from torch import Tensor, nn

from trainkit.component import Component
from trainkit.dataset import DataSpec


class Rows(nn.Module):
    """The sum of rows of two tables, chosen by the inputs.

    Args:
        outputs: numbers that come out.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.low = nn.Embedding(16, outputs, sparse=True)
        self.high = nn.Embedding(16, outputs, sparse=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Of inputs ``(batch, features)``, any type."""
        chosen = (4 * inputs.float() + 8).long().clamp(0, 15)
        found: Tensor = self.low(chosen).sum(1) + self.high(15 - chosen).sum(1)
        return found


def rows_of_tables(data_spec: DataSpec, /) -> nn.Module:
    """Sum rows of two tables, whose gradients are sparse."""
    return Rows(data_spec.outputs)


ROWS = Component("model", rows_of_tables)
