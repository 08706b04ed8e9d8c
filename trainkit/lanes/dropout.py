"""Dropout of lanes: each lane's masks are the ones that its run would draw alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.lanes.lane import Lane


@dataclass(frozen=True)
class Call:
    """One call of a dropout in a run's forward pass.

    Args:
        number: which of the model's dropouts.
        shape: of the noise that it draws.
        stride: of the noise, which is filled in the order of memory.
        dtype: of the noise.
        device: where it is drawn.
    """

    number: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Masked(nn.Module):
    """A dropout that multiplies with a mask drawn elsewhere."""

    masks: Any
    features = False  # whether it leaves out whole channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Dropout with the next mask."""
        return inputs * self.masks.take(self, inputs) if self.training else inputs


class MaskedFeatures(Masked):
    """A dropout of whole channels."""

    features = True


# What takes the place of a model's dropouts in a stack.
MASKED: dict[type[nn.Module], type[Masked]] = {
    nn.Dropout: Masked,
    nn.Dropout1d: MaskedFeatures,
    nn.Dropout2d: MaskedFeatures,
    nn.Dropout3d: MaskedFeatures,
}


class Given:
    """Masks that were drawn before the forward pass, in the order of the calls."""

    def __init__(self, masks: Sequence[Tensor]) -> None:
        self._masks = iter(masks)

    def take(self, module: Masked, inputs: Tensor) -> Tensor:
        """The next mask."""
        return next(self._masks)


class Calls:
    """Notes the calls and leaves nothing out."""

    def __init__(self, modules: Sequence[Masked]) -> None:
        self._numbers = {id(module): number for number, module in enumerate(modules)}
        self.found: list[Call] = []

    def take(self, module: Masked, inputs: Tensor) -> Tensor:
        """Note the call."""
        number = self._numbers[id(module)]
        if module.features:  # as torch makes it: one number a channel, contiguous
            shape = (*inputs.shape[:2], *[1] * (inputs.dim() - 2))
            stride = torch.empty(shape, device="meta").stride()
        else:
            shape, stride = tuple(inputs.shape), torch.empty_like(inputs, device="meta").stride()
        self.found.append(Call(number, shape, stride, inputs.dtype, inputs.device))
        return torch.ones((), dtype=inputs.dtype, device=inputs.device)


def dropouts_of(model: nn.Module) -> list[Any]:
    """The dropouts of a model, in the order of its modules."""
    return [module for module in model.modules() if type(module) in MASKED]


def draw(calls: Sequence[Call], lanes: Sequence[Lane], dropouts: Sequence[Sequence[Any]]) -> list[Tensor]:
    """The masks of one forward pass of every lane, ``(lanes, ...)`` for each call.

    Each lane draws from its own generator, in the order of the calls and by the operation that dropout on a processor
    uses, so that the masks are those of the run alone.

    Args:
        calls: what the forward pass calls.
        lanes: the lanes.
        dropouts: of each lane's own model.
    """
    masks = []
    for call in calls:
        length = sum(step * (size - 1) for step, size in zip(call.stride, call.shape, strict=True)) + 1
        room = torch.empty((len(lanes), length), dtype=call.dtype, device=call.device)
        masks.append(room.as_strided((len(lanes), *call.shape), (length, *call.stride)))
    for row, (lane, own) in enumerate(zip(lanes, dropouts, strict=True)):
        for call, mask in zip(calls, masks, strict=True):
            rate = own[call.number].p
            if rate == 0.0 or rate == 1.0:  # torch draws nothing then
                mask[row].fill_(1.0 - rate)
            else:
                mask[row].bernoulli_(1 - rate, generator=lane.generator).div_(1 - rate)
    return masks
