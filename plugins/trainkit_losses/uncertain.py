"""Losses of regression whose models also say how sure they are. Listing them does not import torch."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, TypeAlias

from trainkit import Between, DataError, DataSpec

if TYPE_CHECKING:
    from trainkit import Loss

Level: TypeAlias = Annotated[float, Between(0, 1, low_open=True, high_open=True)]


def gaussian_nll(data_spec: DataSpec, /) -> Loss:
    """Negative log-likelihood of a normal distribution for each target, in nats: the model also says how sure it is.

    The model gives a mean and the logarithm of a variance for each target. Metrics and pages are given the means;
    metrics such as ``coverage`` and ``density_nll``, and ``trainkit predict``, know the variances too.

    Raises:
        DataError: if the data is not a regression.

    Source: Nix & Weigend 1994, "Estimating the mean and variance of the target probability distribution", eq. 5.
    """
    from trainkit_losses.distributions import GaussianLikelihood
    from trainkit_losses.fit import need_task

    need_task(data_spec, "gaussian_nll", "regression")
    return GaussianLikelihood(data_spec)


def quantile(data_spec: DataSpec, /, *, levels: tuple[Level, ...] = (0.1, 0.5, 0.9)) -> Loss:
    """Pinball loss of several quantiles of each target, which are what the model gives.

    Metrics and pages are given the quantile nearest to the median; metrics such as ``coverage`` and ``pinball``, and
    ``trainkit predict``, know all of them. Quantiles that cross are put in order where they are looked at.

    Args:
        levels: which quantiles, ascending: 0.9 is the number below which nine targets of ten are to lie.

    Raises:
        DataError: if the data is not a regression, or the levels do not ascend.

    Source: Koenker & Bassett 1978, "Regression quantiles", Econometrica 46, eq. 3.1.
    """
    from trainkit_losses.distributions import QuantileLoss
    from trainkit_losses.fit import need_task

    need_task(data_spec, "quantile", "regression")
    if not levels or any(low >= high for low, high in pairwise(levels)):
        raise DataError(f"loss quantile needs levels that ascend, such as [0.1, 0.5, 0.9]; got {list(levels)}")
    return QuantileLoss(data_spec, levels)
