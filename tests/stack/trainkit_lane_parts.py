"""Parts that the tests of lanes put into recipes."""

from __future__ import annotations

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


class Focal:
    """Cross-entropy with a number, of a component that says nothing of lanes."""

    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        logs = outputs.log_softmax(1).gather(1, targets[:, None])
        return -((1 - logs.exp()).pow(float(self.power)) * logs).mean()


def focal(*, power: float = 1.0) -> Loss:
    """Weigh hard samples more."""
    return Focal(power)


@hookimpl
def trainkit_components() -> list[Component]:
    models = (noisy, choosing, averaging, tied, idle, hooked)
    return [*[Component("model", model) for model in models], Component("loss", focal)]
