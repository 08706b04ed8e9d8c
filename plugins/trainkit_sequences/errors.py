"""Figures of forecasts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainkit import DataError


class ScaledError:
    """Mean absolute error of each output over that of what is said without a model; the mean over outputs.

    Args:
        units: per output, what its targets were divided by.
        naive: per output, the error on training samples without a model, in the targets' own units.
    """

    higher_is_better = False

    def __init__(self, units: Sequence[float], naive: Sequence[float]) -> None:
        self.units = torch.tensor(units, dtype=torch.float64)
        self.naive = torch.tensor(naive, dtype=torch.float64)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.sums: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs ``(batch, outputs)`` and targets of the same shape, or ``(batch,)`` for one output."""
        if outputs.shape == (*targets.shape, 1):
            targets = targets.unsqueeze(-1)
        if outputs.shape != targets.shape or outputs.ndim != 2:
            raise DataError(
                f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}: give (batch, outputs) for "
                "both, or targets (batch,) where the model has one output"
            )
        sums = (outputs.double() - targets.double()).abs().sum(0)
        self.seen += len(outputs)
        self.sums = sums if self.sums is None else self.sums + sums

    def compute(self) -> float:
        """Give the figure: below 1 it is better than a season before was on the training steps."""
        if self.sums is None or not self.seen:
            raise DataError("metric mase saw no sample: the split is empty, give it samples or do not evaluate on it")
        return float((self.sums.cpu() * self.units / self.naive).mean() / self.seen)
