"""Metrics of regression, in the units of the original targets; running float64 sums, one for each output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainkit_metrics.fit import need_samples, pair


class MeanError:
    """Mean of the absolute errors' ``power`` over samples and outputs, and its root: 1 for mae, 2 for rmse.

    Args:
        name: the metric's name, for messages.
        power: what absolute errors are raised to.
        units: per output, what its targets were divided by.
        names: of the outputs, where each is to have its figure.
    """

    higher_is_better = False

    def __init__(self, name: str, power: int, units: Sequence[float], names: Sequence[str] = ()) -> None:
        self.name = name
        self.names = tuple(names)
        self.power = power
        self.units = torch.tensor(units, dtype=torch.float64)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.sums: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs ``(batch, outputs)`` and targets of the same shape, or ``(batch,)`` for one output."""
        outputs, targets = pair(outputs, targets)
        sums = (outputs - targets).abs().pow(self.power).sum(0)
        self.seen += len(outputs)
        self.sums = sums if self.sums is None else self.sums + sums

    def compute(self) -> float | dict[str, float]:
        """Give the error, at least 0; with names that of ``all``, and of each."""
        need_samples(self.name, self.seen)
        assert self.sums is not None
        means = self.sums.cpu() * self.units**self.power
        whole = float((means.mean() / self.seen) ** (1 / self.power))
        if not self.names:
            return whole
        return by_name(whole, self.names, (means / self.seen) ** (1 / self.power))


def by_name(whole: float, names: Sequence[str], each: Tensor) -> dict[str, float]:
    """A figure of all outputs, and that of each."""
    return {"all": whole, **dict(zip(names, each.tolist(), strict=True))}


class Determination:
    """Coefficient of determination: 1 - squared error / squared distance of the targets from their mean.

    Args:
        names: of the outputs, where each is to have its figure.
    """

    higher_is_better = True

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.errors: Tensor | None = None
        self.spread: Tensor | None = None
        self.mean: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs ``(batch, outputs)`` and targets of the same shape, or ``(batch,)`` for one output."""
        outputs, targets = pair(outputs, targets)
        new = len(outputs)
        if not new:
            return
        errors = (outputs - targets).square().sum(0)
        mean = targets.mean(0)
        spread = (targets - mean).square().sum(0)
        if self.errors is not None and self.spread is not None and self.mean is not None:
            # Chan, Golub & LeVeque 1983, eq. 2.1: sums of squares about the mean join without cancellation.
            apart = mean - self.mean
            share = new / (self.seen + new)
            errors = errors + self.errors
            spread = spread + self.spread + apart.square() * (self.seen * share)
            mean = self.mean + apart * share
        self.errors, self.spread, self.mean = errors, spread, mean
        self.seen += new

    def compute(self) -> float | dict[str, float]:
        """Give the explained share, at most 1; with names that of ``all``, and of each."""
        need_samples("r2", self.seen)
        assert self.errors is not None
        assert self.spread is not None
        flat = torch.where(self.errors == 0, 1.0, torch.where(self.errors.isnan(), torch.nan, 0.0))
        each = torch.where(self.spread == 0, flat, 1 - self.errors / self.spread)
        return by_name(each.mean().item(), self.names, each) if self.names else each.mean().item()
