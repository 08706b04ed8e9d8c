"""A model with members inside: what it gives, and how it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import Batch, DataSpec, Run, hookimpl
from trainkit_ensemblers.combining import combine


class Several(nn.Module, ABC):
    """Members inside one model; a subclass says what each of them gives.

    Args:
        net: the layers of all members.
        members: how many there are.
        spec: what is known of the data.
    """

    stateless = True  # what a loss needs of the forward pass before it is gone when an update is over

    def __init__(self, net: nn.Module, members: int, spec: DataSpec) -> None:
        super().__init__()
        self.net = net
        self.members = members
        self.task = spec.task
        self._given: Tensor | None = None

    @abstractmethod
    def each(self, inputs: Tensor) -> Tensor:
        """What each member gives, ``(members, batch, outputs)``."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The members' mean, ``(batch, outputs)``: logarithms of probabilities, the logit, or numbers."""
        given = self.each(inputs)
        self._given = given if self.training else None
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        weights = torch.full((self.members,), 1 / self.members, dtype=given.dtype, device=given.device)
        return combine(given, weights, "probability", self.task)

    @hookimpl
    def trainkit_loss(self, run: Run, batch: Batch) -> Tensor:
        """The mean of the members' losses, each of its own outputs: not the loss of their mean."""
        given, self._given = self._given, None
        assert given is not None
        targets = batch.targets.repeat(self.members, *[1] * (batch.targets.dim() - 1))
        return run.loss(given.flatten(0, 1), targets)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is made without what the newest update left."""
        return {**self.__dict__, "_given": None}


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one that the name says, such as ``body.0``."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


def sizes_of(layer: nn.Linear | nn.Conv2d) -> tuple[int, int]:
    """How many features or channels a layer takes, and how many it gives."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def check_plain(model: Any, component: str) -> None:
    """Refuse a model that has members inside already."""
    if isinstance(model, Several):
        raise ValueError(f"the model in 'of' has members inside already\n  give {component} a plain model, such as mlp")
