"""Losses of regression whose models give a distribution of the target: a mean and a variance, or quantiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainkit import DataError
from trainkit_losses.fit import full_precision, move

if TYPE_CHECKING:
    from trainkit import DataSpec

# Of the logarithm of a variance, in the units that the model sees: beyond, float32 loses the sum of squares.
_WIDEST = 15.0


class _Distribution:
    """What losses share whose outputs say how far off a target may be.

    Args:
        spec: what is known of the data.
        each: numbers that the model gives for each target.
    """

    def __init__(self, spec: DataSpec, each: int) -> None:
        self.targets = spec.outputs
        self.outputs = each * spec.outputs
        self.shape = () if spec.outputs == 1 else (spec.outputs,)
        self.mean = spec.target_mean or (0.0,) * spec.outputs
        self.std = spec.target_std or (1.0,) * spec.outputs

    def _split(self, outputs: Tensor) -> Tensor:
        """Outputs ``(..., outputs)`` as ``(..., numbers of each target, targets)``."""
        if outputs.shape[-1] != self.outputs:
            raise DataError(
                f"outputs {tuple(outputs.shape)} do not fit a loss of {self.outputs} numbers a sample: give "
                f"(batch, {self.outputs})"
            )
        return full_precision(outputs).reshape(*outputs.shape[:-1], -1, self.targets)

    def _pair(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`_split` outputs, and targets ``(..., targets)`` in their precision."""
        given = self._split(outputs)
        if targets.shape != (*outputs.shape[:-1], *self.shape) and targets.shape != (*outputs.shape[:-1], self.targets):
            raise DataError(
                f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}: give targets (batch, "
                f"{self.targets})" + (" or (batch,)" if self.targets == 1 else "")
            )
        return given, targets.reshape(*outputs.shape[:-1], self.targets).to(given.dtype)

    def _units(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation that targets were standardised by, each ``(targets,)``."""
        return like.new_tensor(self.mean), like.new_tensor(self.std)


class GaussianLikelihood(_Distribution):
    """Mean negative log-likelihood of normal distributions, of outputs ``(batch, 2 * targets)``.

    The first half of the outputs are means, the second logarithms of variances. All logarithms are natural.

    Args:
        spec: what is known of the data.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec, 2)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of variances, each ``(..., targets)``."""
        mean, log_variance = self._split(outputs).unbind(-2)
        return mean, log_variance.clamp(-_WIDEST, _WIDEST)

    def likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative logarithm of each target's density ``(batch, targets)``, nats, as the model sees targets."""
        given, wanted = self._pair(outputs, targets)
        log_variance = given[..., 1, :].clamp(-_WIDEST, _WIDEST)
        squares = (given[..., 0, :] - wanted).square()
        found: Tensor = 0.5 * (log_variance + squares * (-log_variance).exp() + math.log(2 * math.pi))
        return found

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples and targets."""
        return self.likelihood(outputs, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of each sample ``(batch,)``."""
        return self.likelihood(outputs, targets).mean(-1)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Give the means, ``(..., targets)``."""
        return self.parts(outputs)[0]

    def variances(self, outputs: Tensor) -> Tensor:
        """Give the variances ``(..., targets)``, as the model sees targets."""
        return self.parts(outputs)[1].exp()

    def quantiles(self, outputs: Tensor, levels: Sequence[float]) -> Tensor:
        """Give quantiles ``(..., targets, levels)``, as the model sees targets."""
        mean, log_variance = self.parts(outputs)
        deviation = (0.5 * log_variance).exp()
        return torch.stack([mean + deviation * NormalDist().inv_cdf(level) for level in levels], -1)

    def check_levels(self, levels: Sequence[float]) -> None:
        """Any level has its quantile."""

    def equal(self, targets: Tensor) -> Tensor:
        """Give the outputs whose means and variances are those of the targets."""
        wanted = targets.reshape(len(targets), self.targets).float()
        log_variance = wanted.var(0, unbiased=False).clamp_min(1e-6).log()
        return torch.cat((wanted.mean(0), log_variance)).expand(len(wanted), -1)

    def details(self, outputs: Tensor) -> Mapping[str, Tensor]:
        """Give the standard deviations, ``(..., targets)`` in the data's units."""
        deviation = (0.5 * self.parts(outputs)[1]).double().exp()
        return {"std": deviation * self._units(deviation)[1]}


class QuantileLoss(_Distribution):
    """Mean pinball loss of outputs ``(batch, levels * targets)``: the first are the lowest level's, for each target.

    Quantiles that cross are put in order wherever they are looked at, which never makes them worse.

    Args:
        spec: what is known of the data.
        levels: ascending.

    Source: Chernozhukov, Fernández-Val & Galichon 2010, "Quantile and probability curves without crossing",
    Econometrica 78, for the order.
    """

    def __init__(self, spec: DataSpec, levels: Sequence[float]) -> None:
        super().__init__(spec, len(levels))
        self.levels = tuple(levels)
        self._column = torch.tensor(self.levels, dtype=torch.float64)[:, None]
        self._middle = min(range(len(levels)), key=lambda place: abs(levels[place] - 0.5))

    def _pinball(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The pinball loss ``(batch, levels, targets)``."""
        given, wanted = self._pair(outputs, targets)
        if self._column.device != given.device:
            self._column = move(self._column, given.device)
        level = self._column.to(given.dtype)
        apart = wanted.unsqueeze(-2) - given
        return torch.maximum(level * apart, (level - 1) * apart)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples, levels and targets."""
        return self._pinball(outputs, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of each sample ``(batch,)``."""
        return self._pinball(outputs, targets).mean((-2, -1))

    def _ordered(self, outputs: Tensor) -> Tensor:
        """Quantiles ``(..., levels, targets)``, ascending."""
        return self._split(outputs).sort(-2).values

    def predictions(self, outputs: Tensor) -> Tensor:
        """Give the quantile whose level is nearest to one half, ``(..., targets)``."""
        return self._ordered(outputs)[..., self._middle, :]

    def quantiles(self, outputs: Tensor, levels: Sequence[float]) -> Tensor:
        """Give quantiles ``(..., targets, levels)``, as the model sees targets."""
        self.check_levels(levels)
        places = [self._place(level) for level in levels]
        return self._ordered(outputs)[..., places, :].transpose(-1, -2)

    def _place(self, level: float) -> int:
        return next((place for place, own in enumerate(self.levels) if abs(own - level) < 1e-9), -1)

    def check_levels(self, levels: Sequence[float]) -> None:
        """Check that the model gives quantiles of these levels.

        Raises:
            DataError: naming those that it gives.
        """
        if missing := [level for level in levels if self._place(level) < 0]:
            own, more = (", ".join(f"{level:g}" for level in some) for some in (self.levels, missing))
            raise DataError(f"loss quantile gives the quantiles {own}, not {more}: add it to the loss's levels")

    def equal(self, targets: Tensor) -> Tensor:
        """Give the outputs that are the quantiles of the targets."""
        wanted = targets.reshape(len(targets), self.targets).float()
        return torch.quantile(wanted, wanted.new_tensor(self.levels), 0).reshape(1, -1).expand(len(wanted), -1)

    def details(self, outputs: Tensor) -> Mapping[str, Tensor]:
        """Give each quantile, ``(..., targets)`` in the data's units."""
        ordered = self._ordered(outputs).double()  # far from 0, float32 would round away what is learned
        mean, std = self._units(ordered)
        return {f"quantile {level:g}": ordered[..., place, :] * std + mean for place, level in enumerate(self.levels)}
