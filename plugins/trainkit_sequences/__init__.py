"""Sequences and time series: data of files, recurrent and convolutional models, what is said and drawn of forecasts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit import Component, DataError, DataSpec, PositiveInt, Problem, hookimpl, problem_at
from trainkit_sequences.data import data
from trainkit_sequences.models import models

if TYPE_CHECKING:
    from trainkit import Metric
    from trainkit_sequences.drawing import Forecasts


def mase(data_spec: DataSpec, /) -> Metric:
    """Mean absolute scaled error: the error over that of a value one season before on the training steps.

    Below 1 a forecast is better than the seasonal naive one was within the training steps; ``season`` of the data says
    how long a season is.

    Raises:
        DataError: if the data does not say that error, as ``series`` and ``airline`` do, or it is 0.

    Source: Hyndman & Koehler 2006, "Another look at measures of forecast accuracy", section 3.
    """
    from trainkit_sequences.errors import ScaledError

    if data_spec.task != "regression" or len(data_spec.naive_error) != data_spec.outputs:
        raise DataError(
            f"metric mase needs a series' own seasonal error, which the data does not say (its task is "
            f"{data_spec.task}): use data series, or metric mae"
        )
    if not all(data_spec.naive_error):
        raise DataError(
            "metric mase compares with the value of a season before, and on the training steps that has no error: the "
            "series repeats itself exactly, or stands still; use metric mae, or another season"
        )
    return ScaledError(data_spec.target_std or (1.0,) * data_spec.outputs, data_spec.naive_error)


def forecasts(
    data_spec: DataSpec, /, *, windows: PositiveInt = 6, columns: PositiveInt = 2, targets: PositiveInt = 1
) -> Forecasts:
    """Draw forecasts of validation windows into the run folder, where the run's page shows them.

    Grey is the past that the model saw, black what came, orange the forecast: of the first target, in the scale of the
    model's inputs, as of the newest evaluation; while the run goes on they are drawn anew every ten seconds at most.

    Args:
        windows: how many, at equal distances over the split.
        columns: how many beside each other.
        targets: of the series, as many as its ``targets`` name.

    Raises:
        DataError: if the data is no series, or one of another number of targets.
    """
    from trainkit_sequences.drawing import Forecasts

    steps = len(data_spec.naive_error)
    if data_spec.task != "regression" or len(data_spec.input_shape) != 2 or not steps:
        raise DataError(
            f"callback forecasts draws series, and the data has samples {tuple(data_spec.input_shape)} and the task "
            f"{data_spec.task}, and no error of a season before\nuse data series, or leave the callback out"
        )
    # Steps of one target have one scale and one error of a season before.
    scales = [numbers or (0.0,) * steps for numbers in (data_spec.target_mean, data_spec.target_std)]
    found = len(list(itertools.groupby(zip(data_spec.naive_error, *scales, strict=True))))
    if found != targets:
        raise DataError(
            f"callback forecasts has targets = {targets}, and the series has {found} of them\nwrite targets = {found}"
        )
    return Forecasts(windows, columns, targets)


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem] | None:
    """Find variances that would continue the past as the forecasts do."""
    if not recipe["model"].get("continues") or recipe["loss"]["use"].rpartition(":")[2] != "gaussian_nll":
        return None
    message = "[model] continues adds the past's level to all outputs, and half of those of gaussian_nll are variances"
    return [problem_at(recipe, "model.continues", message, "write continues = 0, or another loss, such as quantile")]


@hookimpl
def trainkit_components() -> list[Component]:
    """List the models, data sets, metrics and callbacks."""
    return [
        *models(),
        *data(),
        Component("metric", mase, capabilities={"higher_is_better": False}),
        Component("callback", forecasts, example={"windows": 4}),
    ]
