"""Losses whose models give other numbers than targets have: a mean and a variance, quantiles, rewards and values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit.dataset import DataSpec


def model_spec(spec: DataSpec, loss: Any) -> DataSpec:
    """What the model is told of the data: with as many outputs as the loss asks for.

    Args:
        spec: the data's own.
        loss: as `trainkit.Loss` says; one with ``outputs`` asks for that many numbers a sample.
    """
    outputs: int | None = getattr(loss, "outputs", None)
    return spec if outputs is None or outputs == spec.outputs else dataclasses.replace(spec, outputs=outputs)


def predicted(loss: Any, outputs: Tensor) -> Tensor:
    """What outputs predict, in the shape of targets: the outputs themselves, unless the loss says otherwise."""
    predictions = getattr(loss, "predictions", None)
    if predictions is None:
        return outputs
    found: Tensor = predictions(outputs)
    return found
