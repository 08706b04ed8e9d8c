"""Gradients of chains of linear layers for all lanes, by the operations themselves instead of a recorded graph.

Recording a graph and going back through it takes as long as the arithmetic of a small model. The formulas are those of
automatic differentiation, operation by operation; only the order in which products are added up may differ.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainkit.lanes.dropout import Masked

# Outputs as few as these are computed with the samples along the rows, where products and softmax have long rows.
FEW = 32
_aten: Any = torch.ops.aten
Slopes = Callable[[Tensor], tuple[Tensor, Tensor]]
Before = Callable[[Tensor, Sequence[Tensor]], Tensor]


class Step(Protocol):
    """A layer for all lanes, forward and backward."""

    def forward(self, values: Tensor, held: Sequence[Tensor], masks: Iterator[Tensor]) -> tuple[Tensor, Any]:
        """What it makes of values, and what `backward` needs of that."""
        ...

    def backward(self, slope: Tensor, kept: Any, held: Sequence[Tensor], gradients: dict[int, Any]) -> None:
        """Fill in the wanted gradients of its own numbers."""
        ...

    def passed(self, slope: Tensor, kept: Any, held: Sequence[Tensor]) -> Tensor:
        """The slope before it, from the one after it."""
        ...


class Linear:
    """``y = x W' + b`` of every lane."""

    def __init__(self, layer: nn.Linear, numbers: Mapping[int, int]) -> None:
        self.weight = numbers[id(layer.weight)]
        self.bias = None if layer.bias is None else numbers[id(layer.bias)]
        self._turned = layer.out_features <= FEW

    def forward(self, values: Tensor, held: Sequence[Tensor], masks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """What it makes, and what is kept of it."""
        weight, bias = held[self.weight], None if self.bias is None else held[self.bias]
        if self._turned:
            columns = values.transpose(1, 2)
            made = torch.bmm(weight, columns) if bias is None else torch.baddbmm(bias[:, :, None], weight, columns)
            return made.transpose(1, 2), values
        rows = weight.transpose(1, 2)
        return torch.bmm(values, rows) if bias is None else torch.baddbmm(bias[:, None], values, rows), values

    def backward(self, slope: Tensor, kept: Tensor, held: Sequence[Tensor], gradients: dict[int, Any]) -> None:
        """Fill in what is wanted of its own numbers."""
        if self.weight in gradients:
            _add(gradients, self.weight, torch.bmm(slope.transpose(1, 2), kept))
        if self.bias is not None and self.bias in gradients:
            _add(gradients, self.bias, slope.sum(1))

    def passed(self, slope: Tensor, kept: Tensor, held: Sequence[Tensor]) -> Tensor:
        """The slope before it."""
        return torch.bmm(slope, held[self.weight])


def _add(gradients: dict[int, Any], place: int, gradient: Tensor) -> None:
    before = gradients[place]  # there is one already where a weight is tied
    gradients[place] = gradient if before is None else before + gradient


class Elementwise:
    """An activation.

    Args:
        make: computes it.
        back: the slope before it, of the slope after it and what is kept.
        keeps_given: whether that is what it was given, rather than what it made.
    """

    def __init__(
        self, make: Callable[[Tensor], Tensor], back: Callable[[Tensor, Tensor], Tensor], keeps_given: bool
    ) -> None:
        self.make = make
        self._back = back
        self._keeps_given = keeps_given

    def forward(self, values: Tensor, held: Sequence[Tensor], masks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """What it makes, and what is kept of it."""
        made = self.make(values)
        return made, values if self._keeps_given else made

    def backward(self, slope: Tensor, kept: Tensor, held: Sequence[Tensor], gradients: dict[int, Any]) -> None:
        """There is nothing to fill in."""

    def passed(self, slope: Tensor, kept: Tensor, held: Sequence[Tensor]) -> Tensor:
        """The slope before it."""
        return self._back(slope, kept)


class Dropout:
    """A product with the next mask."""

    def __init__(self, layer: Masked) -> None:
        self._layer = layer

    def forward(self, values: Tensor, held: Sequence[Tensor], masks: Iterator[Tensor]) -> tuple[Tensor, Tensor | None]:
        """What it makes, and what is kept of it."""
        if not self._layer.training:
            return values, None
        mask = next(masks)
        return values * mask, mask

    def backward(self, slope: Tensor, kept: Tensor | None, held: Sequence[Tensor], gradients: dict[int, Any]) -> None:
        """There is nothing to fill in."""

    def passed(self, slope: Tensor, kept: Tensor | None, held: Sequence[Tensor]) -> Tensor:
        """The slope before it."""
        return slope if kept is None else slope * kept


# For each activation how it is computed, in place too where that is exact, its slope, and whether this takes what the
# activation was given.
_MADE: dict[type[nn.Module], tuple[Any, Any, Any]] = {
    nn.ReLU: (torch.relu, torch.relu_, lambda slope, made: _aten.threshold_backward(slope, made, 0)),
    nn.Tanh: (torch.tanh, torch.tanh_, lambda slope, made: _aten.tanh_backward(slope, made)),
    nn.Sigmoid: (torch.sigmoid, torch.sigmoid_, lambda slope, made: _aten.sigmoid_backward(slope, made)),
}
_GIVEN: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.GELU: lambda layer, slope, given: _aten.gelu_backward(slope, given, approximate=layer.approximate),
    nn.SiLU: lambda layer, slope, given: _aten.silu_backward(slope, given),
    nn.ELU: lambda layer, slope, given: _aten.elu_backward(slope, layer.alpha, 1, 1, False, given),
    nn.LeakyReLU: lambda layer, slope, given: _aten.leaky_relu_backward(slope, given, layer.negative_slope, False),
    nn.Softplus: lambda layer, slope, given: _aten.softplus_backward(slope, given, layer.beta, layer.threshold),
}


class Derived:
    """Outputs and gradients of a chain of linear layers, activations and dropouts.

    Args:
        before: the layers that come before all that have numbers of their own.
        steps: the others.
    """

    def __init__(self, before: Sequence[Before], steps: Sequence[Step]) -> None:
        self._before = before
        self._steps = steps

    def __call__(
        self,
        held: Sequence[Tensor],
        wanted: Sequence[int],
        inputs: Tensor,
        together: bool,
        masks: Sequence[Tensor],
        slopes: Slopes,
    ) -> tuple[Tensor, Tensor, list[Tensor]] | None:
        """Outputs ``(lanes, batch, outputs)``, losses ``(lanes,)`` and gradients; ``None`` for inputs of other shapes.

        Args:
            held: ``(lanes, ...)`` in the order of the model's parameters.
            wanted: places of those whose gradients are asked for.
            inputs: ``(lanes, batch, ...)``, or ``(batch, ...)`` that all lanes share.
            together: whether they share them.
            masks: of the dropouts.
            slopes: gives the losses, and the slope of each at its lane's outputs.
        """
        steps, drawn, kept = self._steps, iter(masks), []
        with torch.no_grad():
            values = inputs.expand(held[0].shape[0], *inputs.shape) if together else inputs
            for layer in self._before:
                values = layer(values, held)
            if values.dim() != 3 or values.dtype != held[0].dtype:
                return None
            for step in steps:
                values, keeps = step.forward(values, held, drawn)
                kept.append(keeps)
        losses, slope = slopes(values)
        gradients: dict[int, Any] = dict.fromkeys(wanted)
        # Nothing before the first layer that trains needs a slope.
        trains = (place for place, step in enumerate(steps) if isinstance(step, Linear) and _trains(step, gradients))
        first = next(trains, len(steps))
        with torch.no_grad():
            for place in range(len(steps) - 1, first - 1, -1):
                step = steps[place]
                step.backward(slope, kept[place], held, gradients)
                if place > first:
                    slope = step.passed(slope, kept[place], held)
        return values, losses, [gradients[place] for place in wanted]


def _trains(step: Linear, gradients: Mapping[int, Any]) -> bool:
    return step.weight in gradients or step.bias in gradients


def derived(layers: Sequence[tuple[nn.Module, Before]], numbers: Mapping[int, int]) -> Derived | None:
    """The gradients of a chain; ``None`` where it has layers that are not known here.

    Args:
        layers: in order, each with its forward pass for all lanes.
        numbers: of each parameter its place among those of the model, by identity.
    """
    begin = next((place for place, (layer, _) in enumerate(layers) if isinstance(layer, nn.Linear)), None)
    if begin is None or any(isinstance(layer, Masked) for layer, _ in layers[:begin]):
        return None
    steps: list[Step] = []
    for layer, _ in layers[begin:]:
        kind = type(layer)
        if isinstance(layer, nn.Linear):
            steps.append(Linear(layer, numbers))
        elif isinstance(layer, Masked):
            steps.append(Dropout(layer))
        elif kind in _MADE:
            make, in_place, back = _MADE[kind]
            # Nobody else needs what a linear layer has made.
            steps.append(Elementwise(in_place if isinstance(steps[-1], Linear) else make, back, False))
        elif kind in _GIVEN:
            if getattr(layer, "inplace", False):
                return None
            steps.append(Elementwise(layer.forward, functools.partial(_GIVEN[kind], layer), True))
        elif kind is not nn.Identity:
            return None
    return Derived([call for _, call in layers[:begin]], steps)
