"""The few samples of a split that a page shows: those with the highest number of some kind, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch, DataSpec

MOST = 16
LARGEST = 64  # pixels along a side; of larger pictures every so many are taken


@dataclass(frozen=True)
class Sample:
    """One sample and what the model made of it.

    Args:
        index: its number in the split.
        told: what is known of it: ``truth``, ``taken`` (what the model takes it for), ``loss``, ``confidence``;
            of a regression ``truth``, ``taken`` and ``error`` of the ``output`` that is worst.
        pixels: ``(height, width)`` or ``(height, width, 3)``, from 0 to 255; ``None`` where it is no picture.
    """

    index: int
    told: Mapping[str, float]
    pixels: Any = None


class Samples:
    """Keeps the samples with the highest numbers, as many as are shown.

    Args:
        spec: what is known of the data.
    """

    def __init__(self, spec: DataSpec) -> None:
        self._spec = spec
        self._kept: list[tuple[float, int, dict[str, float], Tensor | None]] = []

    def add(self, batch: Batch, numbers: Tensor, told: Mapping[str, Tensor]) -> None:
        """Take in a batch.

        Args:
            batch: the batch.
            numbers: ``(samples,)``, by which samples are taken; those with minus infinity, or none at all, are not.
            told: ``(samples,)`` by name, what is known of them.
        """
        numbers = numbers.double().nan_to_num(-math.inf, math.inf, -math.inf)
        best, places = numbers.topk(min(MOST, len(numbers)))
        least = self._kept[-1][0] if len(self._kept) == MOST else -math.inf
        for number, place in zip(best.tolist(), places.tolist(), strict=True):
            if number > least:
                facts = {name: float(values[place]) for name, values in told.items()}
                picture = batch.inputs[place].detach().float().cpu() if self._is_picture() else None
                self._kept.append((number, int(batch.index[place]), facts, picture))
        self._kept = sorted(self._kept, key=lambda one: (-one[0], one[1]))[:MOST]

    def _is_picture(self) -> bool:
        shape = self._spec.input_shape
        return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1

    def taken(self) -> list[Sample]:
        """Those that were kept, the highest first."""
        pictures = as_pixels([picture for *_, picture in self._kept if picture is not None], self._spec)
        if not pictures:
            return [Sample(index, told) for _, index, told, _ in self._kept]
        return [Sample(index, told, pixels) for (_, index, told, _), pixels in zip(self._kept, pictures, strict=True)]


def as_pixels(pictures: list[Tensor], spec: DataSpec) -> list[Any]:
    """Pictures ``(channels, height, width)`` as the model gets them, as pixels that can be shown.

    What was standardised is put back. From 0 to 1 is black to white, or from 0 to 255; where values are neither, all
    pictures together span that range.
    """
    if not pictures:
        return []
    wide = torch.stack(pictures)
    steps = [-(-side // LARGEST) for side in wide.shape[2:]]
    wide = wide[:, :, :: steps[0], :: steps[1]]
    channels = wide.shape[1]
    for numbers, put in ((spec.input_std, torch.mul), (spec.input_mean, torch.add)):
        if len(numbers) in (1, channels):
            wide = put(wide, torch.tensor(numbers).reshape(1, -1, 1, 1))
    low, high = float(wide.min()), float(wide.max())
    if low > -0.5 and 32 < high < 255.5:  # bytes; pictures of fewer levels are dark
        wide = wide / 255
    elif low < -0.01 or high > 1.01:
        wide = (wide - low) / max(high - low, 1e-12)
    pixels = (wide.nan_to_num(0.0) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [one[..., 0] if channels == 1 else one for one in pixels]
