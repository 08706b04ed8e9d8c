"""Parts that the tests of lanes put into recipes."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from trainkit import Component, DataSpec, Loss, hookimpl


class Noisy(nn.Module):
    """Draws random numbers by itself."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs + torch.randn_like(inputs))


class Choosing(Noisy):
    """Takes a way that depends on the data."""

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) if inputs.sum() > self.layer.bias.sum() else self.layer(-inputs)


class Averaging(Noisy):
    """Puts another buffer in the place of its own."""

    mean: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.detach().mean(0)
            self.count += 1
        return self.layer(inputs - self.mean)


class Tied(nn.Module):
    """Uses one weight twice, and leaves one layer out."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(features, features), nn.Linear(features, features)
        self.two.weight = self.one.weight
        self.head = nn.Linear(features, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(torch.tanh(self.two(torch.tanh(self.one(inputs)))))


class Idle(Noisy):
    """Has a parameter that takes no part."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class Hooked(Idle):
    """Has a hook on a layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        del self.unused
        self.layer.register_forward_hook(lambda module, inputs, outputs: outputs * 2)


def noisy(data_spec: DataSpec, /) -> nn.Module:
    """Draw random numbers."""
    return Noisy(data_spec.input_shape[0], data_spec.outputs)


def choosing(data_spec: DataSpec, /) -> nn.Module:
    """Take a way that depends on the data."""
    return Choosing(data_spec.input_shape[0], data_spec.outputs)


def averaging(data_spec: DataSpec, /) -> nn.Module:
    """Exchange a buffer."""
    return Averaging(data_spec.input_shape[0], data_spec.outputs)


def tied(data_spec: DataSpec, /) -> nn.Module:
    """Use a weight twice."""
    return Tied(data_spec.input_shape[0], data_spec.outputs)


def idle(data_spec: DataSpec, /) -> nn.Module:
    """Leave a parameter out."""
    return Idle(data_spec.input_shape[0], data_spec.outputs)


def hooked(data_spec: DataSpec, /) -> nn.Module:
    """Set a hook."""
    return Hooked(data_spec.input_shape[0], data_spec.outputs)


class Sharp:
    """Cross-entropy with a number, of a component that says nothing of lanes."""

    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        logs = outputs.log_softmax(1).gather(1, targets[:, None])
        return -((1 - logs.exp()).pow(float(self.power)) * logs).mean()


class Weighing(Sharp):
    """Says by its number what its mean is over."""

    def weight(self, targets: Tensor) -> Tensor:
        return targets.double().add(1.0).pow(self.power).sum()


def weighing(*, power: float = 1.0) -> Loss:
    """Weigh classes."""
    return Weighing(power)


def sharp(*, power: float = 1.0) -> Loss:
    """Weigh hard samples more."""
    return Sharp(power)


class Scaling(nn.Module):
    """Multiplies by a number that it holds in some way."""

    def __init__(self, features: int, classes: int, held: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(features, classes)
        self.held = held

    def forward(self, inputs: Tensor) -> Tensor:
        return self.held(self.layer(inputs)) if callable(self.held) else self.layer(inputs) * float(self.held[-1])


class Multiplier:
    """Has a method that multiplies."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def of(self, values: Tensor) -> Tensor:
        return values * self.factor


def _times(values: Tensor, factor: float) -> Tensor:
    return values * factor


How = Literal["partial", "closure", "default", "method", "array", "lambda"]


def scaling(data_spec: DataSpec, /, *, how: How = "partial", factor: float = 1.0) -> nn.Module:
    """Multiply by a number."""
    helds: dict[str, Any] = {
        "partial": functools.partial(_times, factor=factor),
        "closure": lambda values: _times(values, factor),
        "default": lambda values, by=factor: _times(values, by),
        "method": Multiplier(factor).of,
        "array": numpy.array([0.0, factor]),
        "lambda": (lambda values: values) if factor == 1.0 else (lambda values: values * 2.0),
    }
    return Scaling(data_spec.input_shape[0], data_spec.outputs, helds[how])


class Loud(nn.Module):
    """Doubles what it is given, in training alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2.0 if self.training else inputs


def loud(data_spec: DataSpec, /) -> nn.Module:
    """Double in training."""
    return nn.Sequential(nn.Linear(data_spec.input_shape[0], 8), Loud(), nn.Linear(8, data_spec.outputs))


class Scaled:
    """Cross-entropy times a function's number, which all lanes share: no attribute holds it."""

    def __init__(self, factor: float) -> None:
        self.change = functools.partial(_times, factor=factor)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return self.change(nn.functional.cross_entropy(outputs, targets))


def scaled(*, factor: float = 1.0) -> Loss:
    """Weigh all samples."""
    return Scaled(factor)


@hookimpl
def trainkit_components() -> list[Component]:
    models = (noisy, choosing, averaging, tied, idle, hooked, scaling, loud)
    losses = [
        Component("loss", sharp),
        Component("loss", weighing),
        Component("loss", scaled, capabilities={"lanes": True}),
    ]
    return [*[Component("model", model) for model in models], *losses]
