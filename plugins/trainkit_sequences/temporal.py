"""Temporal convolutional network: causal, dilated convolutions in residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit_sequences.frames import Continued, Pool, Reader, pooled

if TYPE_CHECKING:
    from trainkit import DataSpec


class Causal(nn.Module):
    """A convolution whose output at a step depends on that step and earlier ones alone, with weight normalisation.

    Source: Salimans & Kingma 2016, "Weight Normalization", eq. 2, arXiv 1602.07868.
    """

    def __init__(self, features: int, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.before = (kernel - 1) * dilation
        self.dilation = dilation
        self.direction = nn.Parameter(torch.empty(width, features, kernel))
        nn.init.kaiming_normal_(self.direction, mode="fan_in", nonlinearity="relu")
        self.gain = nn.Parameter(self.direction.detach().flatten(1).norm(dim=1))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, features, steps)`` to ``(batch, width, steps)``."""
        length = self.direction.square().sum((1, 2), keepdim=True).sqrt()
        weight = self.direction * (self.gain[:, None, None] / length)
        return functional.conv1d(functional.pad(inputs, (self.before, 0)), weight, self.bias, dilation=self.dilation)


class Block(nn.Module):
    """Two causal convolutions with relu and dropout of whole channels, beside a shortcut; Bai et al. 2018, figure 1."""

    def __init__(self, features: int, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = Causal(features, width, kernel, dilation)
        self.second = Causal(width, width, kernel, dilation)
        self.dropout = nn.Dropout1d(dropout)
        self.shortcut = nn.Identity() if features == width else nn.Conv1d(features, width, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, features, steps)`` to ``(batch, width, steps)``."""
        inner = self.dropout(self.first(inputs).relu())
        inner = self.dropout(self.second(inner).relu())
        found: Tensor = (inner + self.shortcut(inputs)).relu()
        return found


class TCN(nn.Module):
    """Blocks whose dilation doubles, and a linear head on the last step, on the mean over steps, or on every step."""

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        widths: tuple[int, ...],
        kernel: int,
        dropout: float,
        pool: Pool,
        continues: int,
    ) -> None:
        super().__init__()
        self.reader = Reader(data_spec, "tcn", widths[0] if widths else 1)
        self.start = Continued(continues, data_spec, self.reader.features)
        self.everywhere = data_spec.task == "tokens"
        self.pool: Pool = pool
        features = self.reader.features
        # Steps that the last one is computed from; no more than samples have, which are all that it has learned from.
        self.sees = min(1 + 2 * (kernel - 1) * (2 ** len(widths) - 1), data_spec.input_shape[-1])
        self.blocks = nn.Sequential()
        for place, width in enumerate(widths):
            self.blocks.append(Block(features, width, kernel, 2**place, dropout))
            features = width
        self.head = nn.Linear(features, data_spec.outputs)
        self.start.begin(self.head)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, channels, steps)`` to ``(batch, outputs)``; of tokens, ``(batch, steps, outputs)``."""
        features, mask = self.reader(inputs)
        features, start = self.start.away(features)
        features = self.blocks(features)
        if self.everywhere:
            outputs: Tensor = self.head(features.transpose(1, 2))
            return outputs
        found: Tensor = self.head(pooled(features, mask, self.pool))
        return found if start is None else found + start

    def following(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores of the token after these; see `trainkit.protocols.Continues`.

        Args:
            tokens: ``(batch, steps)``, of any length.
            state: the tokens before, as far back as the last step sees, and as a sample reaches.

        Returns:
            ``(batch, outputs)``, and the state after these tokens.
        """
        seen = tokens if state is None else torch.cat((state, tokens), 1)
        seen = seen[:, -self.sees :]
        features = self.blocks(self.reader.embedding(seen).transpose(1, 2))
        return self.head(features[:, :, -1]), seen
