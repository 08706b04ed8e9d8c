"""What every model of sequences does before and after its layers: reading samples, masks, levels, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from trainkit import DataError

if TYPE_CHECKING:
    from trainkit import DataSpec

Pool = Literal["last", "mean"]
_EPS = 1e-5  # RevIN's: added to a window's variance


class Reader(nn.Module):
    """Makes steps of features of samples, and says which steps there are.

    Args:
        data_spec: the data's.
        model: the model's name, for messages.
        width: features of a token; channels stay as they are.

    Raises:
        DataError: if the samples are no sequences.
    """

    def __init__(self, data_spec: DataSpec, model: str, width: int) -> None:
        super().__init__()
        shape = tuple(data_spec.input_shape)
        self.shape = shape
        self.masked = data_spec.masked
        self.tokens = data_spec.task == "tokens" and len(shape) == 1
        if self.tokens:
            self.embedding = nn.Embedding(data_spec.outputs, width)
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            self.features = width
        elif len(shape) == 2:
            self.features = shape[0] - self.masked
        else:
            raise DataError(
                f"model {model} needs sequences (channels, steps), or rows of tokens with the task tokens; the data "
                f"has {shape} and the task {data_spec.task}: use model mlp, or data csv_sequences or series"
            )

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``(batch, channels, steps)``, or tokens ``(batch, steps)``, to features and mask.

        Returns:
            ``(batch, features, steps)``, zero behind a sample's end, and ``(batch, steps)`` of ones and zeros, ``None``
            where all samples have all steps.

        Raises:
            DataError: if the samples have another shape than the data's; tokens may have fewer steps.
        """
        given = tuple(inputs.shape[1:])
        if given != self.shape and not (self.tokens and len(given) == 1 and 0 < given[0] <= self.shape[0]):
            raise DataError(
                f"the model was built for a batch of samples {self.shape}, got inputs {tuple(inputs.shape)}: "
                f"give it (batch, {', '.join(str(size) for size in self.shape)})"
            )
        if self.tokens:
            return self.embedding(inputs).transpose(1, 2), None
        if not self.masked:
            return inputs, None
        mask = inputs[:, -1]
        return inputs[:, :-1] * mask.unsqueeze(1), mask


class Level(nn.Module):
    """Standardises each sample by itself, and brings answers that continue its first channels back (RevIN).

    Args:
        continued: how many of the first channels the outputs continue; 0 changes nothing.
        data_spec: the data's.
        features: channels of the samples.

    Raises:
        DataError: if outputs cannot continue so many channels.

    Source: Kim et al. 2022, "Reversible Instance Normalization for Accurate Time-Series Forecasting against
    Distribution Shift", section 3.1, without the learned scale; openreview.net/forum?id=cGDAkQo1C0p.
    """

    def __init__(self, continued: int, data_spec: DataSpec, features: int) -> None:
        super().__init__()
        self.continued = continued
        if not continued:
            return
        if data_spec.task != "regression" or continued > features or data_spec.outputs % continued:
            raise DataError(
                f"continues = {continued} is of forecasts, whose outputs continue so many of the first channels; the "
                f"data's task is {data_spec.task}, with {features} channels and {data_spec.outputs} outputs: write "
                "continues = 0, or as many as the series has targets"
            )

    def away(self, features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Features ``(batch, features, steps)`` without their level, and the level and spread of what is continued."""
        if not self.continued:
            return features, None, None
        if mask is None:
            level = features.mean(2, keepdim=True)
            apart = features - level
            spread = (apart.square().mean(2, keepdim=True) + _EPS).sqrt()
        else:
            held, steps = mask.unsqueeze(1), mask.sum(1).clamp(min=1)[:, None, None]
            level = features.sum(2, keepdim=True) / steps
            apart = (features - level) * held
            spread = (apart.square().sum(2, keepdim=True) / steps + _EPS).sqrt()
        return apart / spread, level[:, : self.continued], spread[:, : self.continued]

    def back(self, outputs: Tensor, level: Tensor | None, spread: Tensor | None) -> Tensor:
        """Outputs ``(batch, continued * horizon)``, one channel's horizon after the other, with level and spread."""
        if level is None or spread is None:
            return outputs
        each = outputs.reshape(len(outputs), self.continued, -1)
        return (each * spread + level).flatten(1)


def pooled(features: Tensor, mask: Tensor | None, pool: Pool, backward_from: int | None = None) -> Tensor:
    """One row of features for each sample.

    Args:
        features: ``(batch, features, steps)``.
        mask: ``(batch, steps)``.
        pool: the last step that a sample has, or the mean over those it has.
        backward_from: number of the feature from which on they were made from the end to the beginning: the last step
            of these is the first.

    Returns:
        ``(batch, features)``.
    """
    if pool == "mean":
        if mask is None:
            return features.mean(2)
        return (features * mask.unsqueeze(1)).sum(2) / mask.sum(1, keepdim=True).clamp(min=1)
    if mask is None:
        last = features[:, :, -1]
    else:
        place = (mask.sum(1).long() - 1).clamp(min=0)
        last = features.gather(2, place[:, None, None].expand(-1, features.shape[1], 1)).squeeze(2)
    if backward_from is None:
        return last
    return torch.cat((last[:, :backward_from], features[:, backward_from:, 0]), 1)
