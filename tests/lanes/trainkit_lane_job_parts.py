"""Parts that meet trouble, for tests of lanes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainkit import Batch, Component, DataSpec, Metrics, Run, StepResult, hookimpl


class Trips:
    """Raises at the end of an epoch, or after an update."""

    stateless = True

    def __init__(self, epoch: int, update: int) -> None:
        self.epoch = epoch
        self.update = update

    @hookimpl
    def trainkit_epoch_end(self, run: Run, metrics: Metrics) -> None:
        if run.epoch == self.epoch:
            raise ValueError("tripped at the end of an epoch")

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if run.step == self.update:
            raise ValueError("tripped after an update")


def trips(*, epoch: int = -1, update: int = -1) -> Trips:
    """Raise at the end of an epoch, or after an update.

    Args:
        epoch: its number.
        update: its number.

    Source: made up.
    """
    return Trips(epoch, update)


class Own:
    """Makes updates itself: none."""

    stateless = True

    @hookimpl
    def trainkit_train_step(self, run: Run, batches: list[Batch]) -> StepResult | None:
        return None


def own_step() -> Own:
    """Say that it makes the updates.

    Source: made up.
    """
    return Own()


class Leaving:
    """Ends the process, as some programs do when they are not content."""

    stateless = True

    def __init__(self, update: int) -> None:
        self.update = update

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if run.step == self.update:
            raise SystemExit("I leave")


def leaves(*, update: int = -1) -> Leaving:
    """End the process after an update.

    Args:
        update: its number.

    Source: made up.
    """
    return Leaving(update)


class Refusing:
    """Refuses the gradients of an update."""

    stateless = True

    def __init__(self, update: int) -> None:
        self.update = update

    @hookimpl
    def trainkit_gradients(self, run: Run, gradients: list[Tensor]) -> None:
        if run.step == self.update:
            raise ValueError("these gradients are refused")


def refuses(*, update: int = -1) -> Refusing:
    """Refuse the gradients of an update.

    Args:
        update: the number of updates before it.

    Source: made up.
    """
    return Refusing(update)


class Brittle(nn.Module):
    """Refuses to be measured once its weights are large."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training and float(self.layer.weight.detach().abs().max()) > 50:
            raise ValueError("the weights are too large")
        outputs: Tensor = self.layer(inputs)
        return outputs


def brittle(data_spec: DataSpec, /) -> nn.Module:
    """A linear model that refuses to be measured once its weights are large.

    Source: made up.
    """
    assert data_spec.outputs is not None
    return Brittle(int(torch.Size(data_spec.input_shape).numel()), data_spec.outputs)


@hookimpl
def trainkit_components() -> list[Component]:
    """The parts."""
    return [
        Component("callback", trips),
        Component("callback", own_step),
        Component("callback", leaves),
        Component("callback", refuses),
        Component("model", brittle),
    ]
