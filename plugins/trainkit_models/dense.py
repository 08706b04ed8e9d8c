"""Models of linear layers on the flattened input."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from trainkit_models.fit import check_sample_shape
from trainkit_models.layers import ACTIVATIONS, start_hidden

if TYPE_CHECKING:
    from trainkit_models import Activation


class Rows(nn.Module):
    """Makes a row of each sample."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.input_shape = input_shape
        self._length = input_shape[0] if len(input_shape) == 1 else -1

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(batch, ...)`` to ``(batch, features)``."""
        if inputs.ndim == 2 and inputs.shape[1] == self._length:  # rows already, which is quicker to see
            return inputs
        check_sample_shape(inputs, self.input_shape)
        return inputs.flatten(1)


def dense(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    widths: tuple[int, ...] = (),
    activation: Activation = "relu",
    dropout: float = 0.0,
    norm: Literal["none", "batch", "layer"] = "none",
    bias: bool = True,
) -> nn.Sequential:
    """Hidden layers (linear, norm, activation, dropout) and a linear head; no hidden layer makes it a linear model."""
    body = nn.Sequential()
    features = math.prod(input_shape)
    for width in widths:
        layer = nn.Linear(features, width, bias=norm == "none")
        start_hidden(layer, activation)
        body.append(layer)
        if norm != "none":
            body.append(nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width))
        body.append(ACTIVATIONS[activation]())
        if dropout:
            body.append(nn.Dropout(dropout))
        features = width
    head = nn.Linear(features, outputs, bias=bias)
    # A plain chain of layers, which a step calls without the machinery of modules.
    return nn.Sequential(OrderedDict(rows=Rows(tuple(input_shape)), body=body, head=head))
