"""Models that a compiler stumbles over, and those that it must not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import Component, DataSpec, hookimpl


class Small(nn.Module):
    """Two layers; every other model here is this one with something that is hard to compile."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Linear(features, 8)
        self.head = nn.Linear(8, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.body(inputs)))
        return result


class Branching(Small):
    """Data-dependent control flow: the way through depends on a number that only the data gives."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs if float(inputs.mean()) > 0 else -inputs)


class Counting(Small):
    """Counts its passes in Python, and each tenth differs."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(inputs * (2.0 if self.passes % 10 == 0 else 1.0))


class Buffered(Small):
    """Changes a buffer in place at each pass, and reads it."""

    mean: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(inputs.mean(0), alpha=0.1)
        return super().forward(inputs - self.mean)


class Tied(Small):
    """One weight at two places."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.middle, self.again = nn.Linear(8, 8), nn.Linear(8, 8)
        self.again.weight = self.middle.weight

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.again(torch.tanh(self.middle(torch.tanh(self.body(inputs))))))
        return result


class Frozen(Small):
    """A part that takes no gradient, and one that the forward pass leaves out."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.body.requires_grad_(False)
        self.idle = nn.Linear(2, 2)


class Knotted(Small):
    """One weight at two places, a buffer that each pass reads and changes, a part without gradient, and an idle one."""

    mean: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.middle, self.again = nn.Linear(8, 8), nn.Linear(8, 8)
        self.again.weight = self.middle.weight
        self.register_buffer("mean", torch.zeros(features))
        self.body.requires_grad_(False)
        self.idle = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(inputs.mean(0), alpha=0.1)
        inputs = torch.tanh(self.body(inputs - self.mean))
        result: Tensor = self.head(self.again(torch.tanh(self.middle(inputs))))
        return result


class Overwriting(Small):
    """Changes its inputs in place."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.mul_(0.5))


class Penalised(Small):
    """Differentiates itself within the forward pass, for a penalty on the slope: a double backward."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return super().forward(inputs)
        inputs = inputs.detach().requires_grad_()
        outputs = super().forward(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        return outputs * (1 + 0.01 * slope.square().sum(1, keepdim=True))


class Rows(nn.Module):
    """A table whose gradients are sparse."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(16, outputs, sparse=True)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.rows((4 * inputs + 8).long().clamp(0, 15)).sum(1)
        return result


class Watched(Small):
    """Has a forward hook that no compiler can follow: it asks the system."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)

        def look(*_: Any) -> None:
            assert os.stat(Path(__file__)).st_size

        self.body.register_forward_hook(look)


class Scaled(Small):
    """Has a number that a callback changes while the run goes on."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(features, outputs)
        self.scale = 1.0

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs * self.scale)


def small(data_spec: DataSpec, /) -> nn.Module:
    """Two layers."""
    return Small(data_spec.input_shape[0], data_spec.outputs)


def unwilling(data_spec: DataSpec, /) -> nn.Module:
    """Two layers, whose author says that they cannot be compiled."""
    return Small(data_spec.input_shape[0], data_spec.outputs)


def branching(data_spec: DataSpec, /) -> nn.Module:
    """Data-dependent control flow."""
    return Branching(data_spec.input_shape[0], data_spec.outputs)


def counting(data_spec: DataSpec, /) -> nn.Module:
    """Counts passes in Python."""
    return Counting(data_spec.input_shape[0], data_spec.outputs)


def buffered(data_spec: DataSpec, /) -> nn.Module:
    """Changes a buffer in place."""
    return Buffered(data_spec.input_shape[0], data_spec.outputs)


def tied(data_spec: DataSpec, /) -> nn.Module:
    """One weight at two places."""
    return Tied(data_spec.input_shape[0], data_spec.outputs)


def frozen(data_spec: DataSpec, /) -> nn.Module:
    """A part takes no gradient."""
    return Frozen(data_spec.input_shape[0], data_spec.outputs)


def knotted(data_spec: DataSpec, /) -> nn.Module:
    """Tied, buffered, frozen and idle parts."""
    return Knotted(data_spec.input_shape[0], data_spec.outputs)


def overwriting(data_spec: DataSpec, /) -> nn.Module:
    """Changes its inputs in place."""
    return Overwriting(data_spec.input_shape[0], data_spec.outputs)


def penalised(data_spec: DataSpec, /) -> nn.Module:
    """A double backward."""
    return Penalised(data_spec.input_shape[0], data_spec.outputs)


def rows(data_spec: DataSpec, /) -> nn.Module:
    """Sparse gradients."""
    return Rows(data_spec.outputs)


def watched(data_spec: DataSpec, /) -> nn.Module:
    """A hook that cannot be traced."""
    return Watched(data_spec.input_shape[0], data_spec.outputs)


def scaled(data_spec: DataSpec, /) -> nn.Module:
    """A number that changes."""
    return Scaled(data_spec.input_shape[0], data_spec.outputs)


@hookimpl
def trainkit_components() -> list[Component]:
    hard = (
        small,
        branching,
        counting,
        buffered,
        tied,
        frozen,
        knotted,
        overwriting,
        penalised,
        rows,
        watched,
        scaled,
    )
    return [
        *(Component("model", factory, example={}) for factory in hard),
        Component("model", unwilling, example={}, capabilities={"compiles": False}),
    ]
