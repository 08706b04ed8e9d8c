"""Figures of quantiles and densities; running float64 sums, one for each target, in the model's units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import DataError
from trainkit_metrics.fit import need_samples

_CURE = "use loss gaussian_nll or quantile, or metric mae, rmse or r2"


def need_quantiles(loss: Any, metric: str, levels: Sequence[float]) -> Any:
    """Return the loss, which knows these quantiles.

    Raises:
        DataError: if it does not.
    """
    if not callable(getattr(loss, "quantiles", None)):
        raise DataError(f"metric {metric} needs a loss whose outputs are a distribution: {_CURE}")
    if callable(check := getattr(loss, "check_levels", None)):
        check(levels)
    return loss


def need_density(loss: Any) -> Any:
    """Return the loss, which knows densities.

    Raises:
        DataError: if it does not.
    """
    if not callable(getattr(loss, "likelihood", None)):
        raise DataError(
            "metric density_nll needs a loss of densities: use loss gaussian_nll, or metric pinball for quantiles"
        )
    return loss


class _Sums(ABC):
    """Sums over samples, one for each target.

    Args:
        loss: says what outputs mean.
        units: per target, what it was divided by.
    """

    of_outputs = True
    higher_is_better = False
    name = ""

    def __init__(self, loss: Any, units: Sequence[float]) -> None:
        self.loss = loss
        self.units = torch.tensor(units, dtype=torch.float64)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.sums: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs as the loss asks for them, and targets ``(batch, targets)`` or ``(batch,)``."""
        sums = self._each(outputs.double(), targets.double().reshape(len(outputs), -1)).sum(0)
        self.seen += len(outputs)
        self.sums = sums if self.sums is None else self.sums + sums

    @abstractmethod
    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What is summed, ``(batch, targets)``."""

    def means(self) -> Tensor:
        """The mean over samples ``(targets,)``.

        Raises:
            DataError: if there were none.
        """
        need_samples(self.name, self.seen)
        assert self.sums is not None
        return self.sums.cpu() / self.seen

    def compute(self) -> float:
        """Give the mean over samples and targets, in the units of the original targets."""
        return float((self.means() * self.units).mean())


class _Interval(_Sums):
    def __init__(self, loss: Any, units: Sequence[float], level: float) -> None:
        super().__init__(loss, units)
        self.level = level

    @staticmethod
    def ends(level: float) -> tuple[float, float]:
        """The levels of the two quantiles between which the interval lies."""
        return (1 - level) / 2, (1 + level) / 2

    def _bounds(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.loss.quantiles(outputs, self.ends(self.level)).unbind(-1)
        return low, high


class Coverage(_Interval):
    """Share of targets within the interval."""

    higher_is_better = True
    name = "coverage"

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        low, high = self._bounds(outputs)
        return ((low <= targets) & (targets <= high)).double()

    def compute(self) -> float:
        """Give the share, from 0 to 1."""
        return float(self.means().mean())


class Width(_Interval):
    """Mean width of the interval."""

    name = "interval_width"

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        low, high = self._bounds(outputs)
        return high - low


class Pinball(_Sums):
    """Mean pinball loss of quantiles."""

    name = "pinball"

    def __init__(self, loss: Any, units: Sequence[float], levels: Sequence[float]) -> None:
        super().__init__(loss, units)
        self.levels = tuple(levels)

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        apart = targets.unsqueeze(-1) - self.loss.quantiles(outputs, self.levels)
        gaps = zip(self.levels, apart.unbind(-1), strict=True)
        losses = [torch.maximum(level * gap, (level - 1) * gap) for level, gap in gaps]
        return torch.stack(losses, -1).mean(-1)


class Density(_Sums):
    """Mean negative log-density."""

    name = "density_nll"

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        found: Tensor = self.loss.likelihood(outputs, targets)
        return found

    def compute(self) -> float:
        """Give the mean, in nats: a density over larger units is smaller by their logarithm."""
        return float((self.means() + self.units.log()).mean())
