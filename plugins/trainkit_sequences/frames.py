"""What every model of sequences does beside its layers: reading samples, masks, what forecasts start from, answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from trainkit import DataError

if TYPE_CHECKING:
    from trainkit import DataSpec

Pool = Literal["last", "mean"]


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


class Continued(nn.Module):
    """What outputs that continue the first channels start from: their level, and a linear forecast beside the model's.

    Args:
        continued: how many of the first channels the outputs continue; 0 changes nothing.
        data_spec: the data's.
        features: channels of the samples.

    Raises:
        DataError: if outputs cannot continue so many channels.

    Source: Lai et al. 2018, "Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks", section 3.6,
    arXiv 1703.07015, whose parts begin at zero here; the level, the mean over the steps, as in Kim et al. 2022,
    "Reversible Instance Normalization", section 3.1.
    """

    def __init__(self, continued: int, data_spec: DataSpec, features: int) -> None:
        super().__init__()
        self.continued = continued
        if not continued:
            return
        targets = _targets(data_spec)
        if data_spec.task != "regression" or continued > features or targets % continued or data_spec.masked:
            raise DataError(
                f"continues = {continued} is of forecasts, whose outputs continue so many of the first channels; the "
                f"data's task is {data_spec.task}, with {features} channels and {targets} outputs: write "
                "continues = 0, or as many as the series has targets"
            )
        _need_scale_of_channels(continued, data_spec)
        self.parts = data_spec.outputs // targets
        self.linear = nn.Linear(data_spec.input_shape[1], data_spec.outputs // continued)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def begin(self, head: nn.Linear) -> None:
        """Let a head add nothing at first: forecasts begin at the level, as the loss of new weights shows."""
        if self.continued:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def away(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features ``(batch, features, steps)`` about their level, and what is to be added to the outputs."""
        if not self.continued:
            return features, None
        level = features.sum(2, keepdim=True) / features.shape[2]  # ONNX programs name their outputs 'mean'
        features = features - level
        ahead = self.linear(features[:, : self.continued]) + level[:, : self.continued]
        if self.parts > 1:  # quantiles: all targets of the first level, then all of the second
            ahead = ahead.unflatten(2, (self.parts, -1)).transpose(1, 2)
        return features, ahead.flatten(1)


def _targets(data_spec: DataSpec) -> int:
    """Numbers that a sample's target has: a loss may ask for several outputs of each, such as quantiles."""
    told = len(data_spec.naive_error) or len(data_spec.target_mean)
    return told if told and data_spec.outputs % told == 0 else data_spec.outputs


def _need_scale_of_channels(continued: int, data_spec: DataSpec) -> None:
    """Refuse outputs in another scale than the channels that they are to continue, where the data says both."""
    outputs = _targets(data_spec)
    ahead = outputs // continued
    for channels, targets in (
        (data_spec.input_mean, data_spec.target_mean),
        (data_spec.input_std, data_spec.target_std),
    ):
        if channels and targets and tuple(targets) != tuple(channels[place // ahead] for place in range(len(targets))):
            raise DataError(
                f"continues = {continued}, but the {outputs} outputs are not {ahead} steps of each of the "
                f"first {continued} channels: they are in other units; write as many as the series has targets, or 0"
            )


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
            return features.sum(2) / features.shape[2]
        return (features * mask.unsqueeze(1)).sum(2) / mask.sum(1, keepdim=True).clamp(min=1)
    if mask is None:
        last = features[:, :, -1]
    else:
        place = (mask.sum(1).long() - 1).clamp(min=0)
        last = features.gather(2, place[:, None, None].expand(-1, features.shape[1], 1)).squeeze(2)
    if backward_from is None:
        return last
    return torch.cat((last[:, :backward_from], features[:, backward_from:, 0]), 1)
