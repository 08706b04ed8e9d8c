"""Long short-term memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainkit import DataError
from trainkit_sequences.frames import Continued, Pool, Reader, pooled

if TYPE_CHECKING:
    from trainkit import DataSpec


class LSTM(nn.Module):
    """Layers of LSTM over the steps, and a linear head on the last state, on their mean, or on every step.

    The layers are torch's, of one direction each: a second one reads each sample from its own end.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        width: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        pool: Pool,
        continues: int,
    ) -> None:
        super().__init__()
        self.reader = Reader(data_spec, "lstm", width)
        self.start = Continued(continues, data_spec, self.reader.features)
        if bidirectional and self.reader.tokens:
            raise DataError(
                "model lstm with bidirectional = true would read the tokens that it is to predict: write false"
            )
        self.everywhere = data_spec.task == "tokens"
        self.pool: Pool = pool
        self.width = width
        features = self.reader.features
        self.ahead, self.behind = nn.ModuleList(), nn.ModuleList()
        for _ in range(layers):
            self.ahead.append(_layer(features, width))
            if bidirectional:
                self.behind.append(_layer(features, width))
            features = width * (1 + bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, data_spec.outputs)
        self.start.begin(self.head)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, channels, steps)`` to ``(batch, outputs)``; of tokens, ``(batch, steps, outputs)``."""
        features, mask = self.reader(inputs)
        features, start = self.start.away(features)
        steps = features.transpose(1, 2)
        turned = _turned(steps, mask) if self.behind else None
        for place, ahead in enumerate(self.ahead):
            if place or self.reader.tokens:
                steps = self.dropout(steps)
            found = ahead(steps)[0]
            if turned is not None:
                back = self.behind[place](_picked(steps, turned))[0]
                found = torch.cat((found, _picked(back, turned)), 2)
            steps = found
        if self.everywhere:
            outputs: Tensor = self.head(self.dropout(steps))
            return outputs
        row = pooled(steps.transpose(1, 2), mask, self.pool, self.width if turned is not None else None)
        answer: Tensor = self.head(self.dropout(row))
        return answer if start is None else answer + start

    def following(
        self, tokens: Tensor, state: list[tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Scores of the token after these; see `trainkit.protocols.Continues`.

        Args:
            tokens: ``(batch, steps)``, of any length.
            state: what the layers remember of the tokens before.

        Returns:
            ``(batch, outputs)``, and the state after these tokens.
        """
        steps: Tensor = self.reader.embedding(tokens)
        after = []
        for place, layer in enumerate(self.ahead):
            steps, remembered = layer(steps, None if state is None else state[place])
            after.append(remembered)
        return self.head(steps[:, -1]), after


def _layer(features: int, width: int) -> nn.LSTM:
    layer = nn.LSTM(features, width, batch_first=True)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if name.startswith("weight"):
                for gate in weight.chunk(4):  # input, forget, cell, output
                    (nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_)(gate)
            else:
                weight.zero_()
                if "_ih_" in name:
                    weight.chunk(4)[1].fill_(1.0)
    return layer


def _turned(steps: Tensor, mask: Tensor | None) -> Tensor:
    """Numbers of the steps from each sample's end to its beginning, ``(batch, steps)``; its own inverse."""
    places = torch.arange(steps.shape[1], device=steps.device).expand(steps.shape[:2])
    if mask is None:
        return places.flip(1)
    lengths = mask.sum(1, keepdim=True).long()
    return torch.where(places < lengths, lengths - 1 - places, places)


def _picked(steps: Tensor, places: Tensor) -> Tensor:
    return steps.gather(1, places.unsqueeze(2).expand(-1, -1, steps.shape[2]))
