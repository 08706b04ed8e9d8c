"""Contrastive learning: a model that projects views, and the loss that compares them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError, DataSpec


class SimClr(nn.Module):
    """See `trainkit_unsupervised.pairs.simclr`."""

    def __init__(self, data_spec: DataSpec, encoder: nn.Module, projection: int, hidden: int | None) -> None:
        super().__init__()
        head = getattr(encoder, "head", None)
        if not isinstance(head, nn.Linear):
            raise DataError(
                "model simclr takes off the encoder's last layer, a linear one called head, and "
                f"{type(encoder).__name__} has none\nuse mlp, convnet or resnet for the encoder"
            )
        width = head.in_features
        encoder.head = nn.Identity()
        self._dimensions = len(data_spec.input_shape)
        self.encoder = encoder
        wide = hidden or width
        layers = OrderedDict(
            hidden=nn.Linear(width, wide, bias=False),
            norm=nn.BatchNorm1d(wide),
            relu=nn.ReLU(),
            last=nn.Linear(wide, projection, bias=False),
        )
        self.projection = nn.Sequential(layers)

    def represent(self, inputs: Tensor) -> Tensor:
        """What the encoder says of samples ``(batch, ...)``: ``(batch, features)``."""
        features: Tensor = self.encoder(inputs)
        return features

    def forward(self, inputs: Tensor) -> Tensor:
        """Projections ``(batch, views, numbers)`` of views ``(batch, views, ...)``, or of samples: one view each."""
        several = inputs.dim() == self._dimensions + 2
        projected: Tensor = self.projection(self.encoder(inputs.flatten(0, 1) if several else inputs))
        return projected.reshape(inputs.shape[0], -1, projected.shape[-1])


@dataclass(eq=False)  # a schedule may change its numbers
class NtXent:
    """See `trainkit_unsupervised.pairs.nt_xent`."""

    temperature: float

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over all views of ``(batch, views, numbers)``, or ``(batch, numbers)``."""
        outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
        if outputs.dim() not in (2, 3):
            raise DataError(
                f"loss nt_xent needs outputs (batch, views, numbers), got {tuple(outputs.shape)}: use the model simclr"
            )
        if outputs.dim() == 2:
            outputs = outputs.unsqueeze(1)
        if outputs.shape[1] == 1:
            outputs = outputs.expand(-1, 2, -1)
        samples, views = outputs.shape[:2]
        directions = functional.normalize(outputs.transpose(0, 1).flatten(0, 1), dim=1)
        itself = torch.eye(samples * views, dtype=torch.bool, device=outputs.device)
        likeness = (_products(directions) / self.temperature).masked_fill(itself, -torch.inf)
        own = torch.eye(samples, dtype=torch.bool, device=outputs.device).repeat(views, views) & ~itself
        found = likeness.log_softmax(1).masked_fill(~own, 0.0)
        return -found.sum() / (samples * views * (views - 1))


def _products(rows: Tensor) -> Tensor:
    """Products of all rows with each other, in their own precision: divided by a temperature, rounding shows."""
    if rows.device.type == "meta":
        return rows @ rows.T
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ rows.T
