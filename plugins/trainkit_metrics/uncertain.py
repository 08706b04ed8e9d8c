"""Metrics of what a model says of its own errors. Listing them does not import torch.

They are given the model's outputs, and ask the recipe's loss what these mean: a normal distribution, or quantiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from trainkit import Between, DataError, DataSpec

if TYPE_CHECKING:
    from trainkit import Metric

Level: TypeAlias = Annotated[float, Between(0, 1, low_open=True, high_open=True)]


def coverage(data_spec: DataSpec, loss: Any, /, *, level: Level = 0.8) -> Metric:
    """Share of targets that lie within the interval of this level: 0.8 of them should lie in that of level 0.8.

    A higher share alone says little: hold it against the level, and look at the width of the intervals too.

    Args:
        level: of the interval between the quantiles (1 - level) / 2 and (1 + level) / 2.

    Raises:
        DataError: if the data is not a regression, or the loss knows no such quantiles; on computing, if there was no
            sample.
    """
    from trainkit_metrics.fit import need_numbers
    from trainkit_metrics.intervals import Coverage, need_quantiles

    units = need_numbers(data_spec, "coverage")
    return Coverage(need_quantiles(loss, "coverage", Coverage.ends(level)), units, level)


def interval_width(data_spec: DataSpec, loss: Any, /, *, level: Level = 0.8) -> Metric:
    """Mean width of the intervals of this level, in the units of the original targets.

    Args:
        level: of the interval between the quantiles (1 - level) / 2 and (1 + level) / 2.

    Raises:
        DataError: if the data is not a regression, or the loss knows no such quantiles; on computing, if there was no
            sample.
    """
    from trainkit_metrics.fit import need_numbers
    from trainkit_metrics.intervals import Width, need_quantiles

    units = need_numbers(data_spec, "interval_width")
    return Width(need_quantiles(loss, "interval_width", Width.ends(level)), units, level)


def pinball(data_spec: DataSpec, loss: Any, /, *, levels: tuple[Level, ...] = (0.1, 0.5, 0.9)) -> Metric:
    """Mean pinball loss over samples, targets and levels, in the units of the original targets.

    Args:
        levels: of the quantiles, at least one.

    Raises:
        DataError: if the data is not a regression, there are no levels, or the loss knows no such quantiles; on
            computing, if there was no sample.

    Source: Gneiting & Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", section 6.1.
    """
    from trainkit_metrics.fit import need_numbers
    from trainkit_metrics.intervals import Pinball, need_quantiles

    units = need_numbers(data_spec, "pinball")
    if not levels:
        raise DataError("metric pinball needs levels, such as [0.1, 0.5, 0.9]; got []")
    return Pinball(need_quantiles(loss, "pinball", levels), units, levels)


def density_nll(data_spec: DataSpec, loss: Any, /) -> Metric:
    """Mean negative logarithm of the density at the target, in nats, in the units of the original targets.

    Raises:
        DataError: if the data is not a regression, or the loss is not of densities; on computing, if there was no
            sample.
    """
    from trainkit_metrics.fit import need_numbers
    from trainkit_metrics.intervals import Density, need_density

    units = need_numbers(data_spec, "density_nll")
    return Density(need_density(loss), units)
