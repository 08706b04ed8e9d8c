"""Dropout with masks that are drawn once: a model thinned in one way, which gives the same for the same input."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainkit import UsageError

_ALPHA = -1.7580993408473766  # what dropped numbers become for `nn.SELU`: minus its scale times its alpha


class Masked(nn.Module):
    """Takes the place of a dropout layer, with one mask for every sample.

    Args:
        kept: ``(...)`` like a sample, or 1 where a sample has a whole map: what stays.
        share: how much of the numbers is dropped.
        alpha: whether what is dropped becomes what `nn.AlphaDropout` makes of it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, kept: Tensor, share: float, alpha: bool) -> None:
        super().__init__()
        kept = kept.float()
        if alpha:
            factor = 1 / math.sqrt((1 - share) * (1 + share * _ALPHA**2))
            scale, shift = factor * kept, factor * _ALPHA * (1 - kept) - factor * _ALPHA * share
        else:
            scale, shift = kept / (1 - share), torch.zeros(())
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop the same numbers of every sample."""
        return inputs * self.scale.to(inputs) + self.shift.to(inputs)


def dropouts(module: nn.Module) -> dict[str, _DropoutNd]:
    """The dropout layers that drop anything, by name; one that stands in several places once."""
    named = module.named_modules()
    return {name: part for name, part in named if isinstance(part, _DropoutNd) and 0 < part.p < 1}


def shapes_of(module: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """What each dropout layer is given for one sample.

    Raises:
        UsageError: if one is given samples of several shapes.
    """
    found: dict[str, tuple[int, ...]] = {}

    def look(name: str, given: tuple[Tensor, ...]) -> None:
        shape = tuple(given[0].shape[1:])
        if found.setdefault(name, shape) != shape:
            raise UsageError(
                f"mc_dropout: the dropout layer '{name}' is used for samples of shape {found[name]} and of {shape}, "
                "and one mask does not fit both\n  give the model a layer of its own for each"
            )

    hooks = [
        part.register_forward_pre_hook(lambda _, given, name=name: look(name, given))
        for name, part in dropouts(module).items()
    ]
    try:
        first = next(iter(module.state_dict().values()), torch.empty(0))
        with torch.no_grad():
            module(torch.zeros(2, *input_shape, device=first.device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def draw(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], passes: int, seed: int) -> dict[str, Tensor]:
    """What stays in each pass: ``(passes, ...)`` uint8 by the name of the layer.

    Every pass has a seed of its own, which follows from the seed and its number: more passes begin with the same ones.
    """
    layers = dropouts(module)
    drawn: dict[str, list[Tensor]] = {name: [] for name in shapes}
    for number in range(passes):
        digest = hashlib.sha256(f"{seed}/mc_dropout/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        for name, shape in shapes.items():
            layer = layers[name]
            if type(layer) not in (nn.Dropout, nn.AlphaDropout):  # of whole maps
                shape = (*shape[:1], *[1] * (len(shape) - 1))
            kept = torch.rand(shape, generator=generator, dtype=torch.float64) >= layer.p
            drawn[name].append(kept.to(torch.uint8))
    return {name: torch.stack(masks) for name, masks in drawn.items()}


def thinned(module: nn.Module, masks: Mapping[str, Tensor], number: int) -> nn.Module:
    """A module that shares the weights, with the masks of one pass in place of its dropout layers.

    All that holds no dropout layer is the module's own, so that it moves to another device together with it.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    shared |= {id(part): part for part in module.modules() if not any(map(_drops, part.modules()))}
    made = copy.deepcopy(module, shared)
    layers = dropouts(made)
    for name, kept in masks.items():
        layer = layers[name]
        alpha = isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout)
        masked = Masked(kept[number].to(_device(module)), layer.p, alpha)
        for parent in made.modules():  # one layer may stand in several places
            for place, part in list(parent._modules.items()):
                if part is layer:
                    setattr(parent, place, masked)
    return made.eval()


def _drops(module: nn.Module) -> bool:
    return isinstance(module, _DropoutNd)


def _device(module: nn.Module) -> torch.device:
    first = next(iter(module.state_dict().values()), None)
    return torch.device("cpu") if first is None else first.device
