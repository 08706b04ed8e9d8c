"""Losses whose models give other numbers than targets have: a mean and a variance, quantiles, rewards and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

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


def predicts(loss: Any) -> bool:
    """Whether a loss says what outputs predict, so that they are no predictions themselves."""
    return getattr(loss, "predictions", None) is not None


def predicted(loss: Any, outputs: Tensor) -> Tensor:
    """What outputs predict, as metrics take it: the outputs themselves, unless the loss says otherwise."""
    if not predicts(loss):
        return outputs
    found: Tensor = loss.predictions(outputs)
    return found


def shown_to(metric: Any, loss: Any, outputs: Tensor) -> Tensor:
    """What a metric is given of outputs: what they predict, or themselves where it has ``of_outputs = True``."""
    return outputs if getattr(metric, "of_outputs", False) else predicted(loss, outputs)


def details_of(loss: Any, outputs: Tensor) -> Mapping[str, Tensor]:
    """What a loss can tell of outputs beside what they predict, by name, in the data's units; mostly nothing."""
    details = getattr(loss, "details", None)
    return {} if details is None else details(outputs)


def knowing_nothing(loss: Any, targets: Tensor) -> Tensor | None:
    """Outputs of a model that knows nothing of its inputs, as a loss with other outputs than targets gives them.

    Returns:
        ``(batch, outputs)``; ``None`` where it does not say.
    """
    equal = getattr(loss, "equal", None)
    return None if equal is None else equal(targets)


class Predicting(nn.Module):
    """A model that gives what its loss says that its outputs predict.

    Args:
        model: gives the outputs that the loss asked for.
        loss: has ``predictions``.
    """

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__()
        self.model = model
        self._loss = [loss]  # within a list: the loss is no part of the model, whose weights are its own

    def forward(self, inputs: Tensor) -> Tensor:
        """What the model predicts, ``(batch, ...)``."""
        return predicted(self._loss[0], self.model(inputs))

    def variance(self, inputs: Tensor) -> Tensor | None:
        """The variance of each target that the model gives, as it sees targets; ``None`` where its loss has none."""
        variances = getattr(self._loss[0], "variances", None)
        return None if variances is None else variances(self.model(inputs))


def predicting(model: nn.Module, loss: Any) -> nn.Module:
    """The model as one that gives predictions; itself where its outputs are such."""
    return Predicting(model, loss).train(model.training) if predicts(loss) else model
