"""Models of linear layers on the flattened input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from trainkit_models.fit import check_sample_shape
from trainkit_models.layers import ACTIVATIONS, start_hidden

if TYPE_CHECKING:
    from trainkit_models import Activation


class Dense(nn.Module):
    """Hidden layers (linear, norm, activation, dropout) and a linear head; no hidden layer makes it a linear model."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        widths: tuple[int, ...] = (),
        activation: Activation = "relu",
        dropout: float = 0.0,
        norm: Literal["none", "batch", "layer"] = "none",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self._row = self.input_shape[0] if len(self.input_shape) == 1 else -1
        self.body = nn.Sequential()
        features = math.prod(self.input_shape)
        for width in widths:
            layer = nn.Linear(features, width, bias=norm == "none")
            start_hidden(layer, activation)
            self.body.append(layer)
            if norm != "none":
                self.body.append(nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width))
            self.body.append(ACTIVATIONS[activation]())
            if dropout:
                self.body.append(nn.Dropout(dropout))
            features = width
        self.head = nn.Linear(features, outputs, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs ``(batch, ...)`` to outputs ``(batch, outputs)``."""
        if inputs.ndim != 2 or inputs.shape[1] != self._row:  # rows of features need neither: this is quicker to see
            check_sample_shape(inputs, self.input_shape)
            inputs = inputs.flatten(1)
        outputs: Tensor = self.head(self.body(inputs))
        return outputs
