"""Crops, flips and holes of whole batches, without a loop over samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from trainkit import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Draw


def below(draws: Tensor, count: int) -> Tensor:
    """Whole numbers below ``count`` from uniform ones."""
    # The product may round up to count itself.
    return (draws * count).long().clamp_(max=count - 1)


@dataclass(frozen=True)
class RandomCrop:
    """Pads images by ``padding`` pixels and cuts the old size out at a random place."""

    padding: int
    mode: Literal["zero", "reflect"]

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Crop ``(batch, channels, height, width)`` of any type."""
        if not self.padding:
            return batch
        places = below(draw("place", 2), 2 * self.padding + 1)
        return Batch(crop(self.pad(batch.inputs), places, self.padding), batch.targets, batch.index)

    def pad(self, images: Tensor) -> Tensor:
        """Add ``padding`` pixels on each side."""
        samples, channels, height, width = images.shape
        room = self.padding
        padded = images.new_zeros(samples, channels, height + 2 * room, width + 2 * room)
        padded[:, :, room : room + height, room : room + width] = images
        if self.mode == "reflect":
            # torch's own padding refuses bytes. Columns first: the rows then mirror the corners too.
            padded[..., :room] = padded[..., room + 1 : 2 * room + 1].flip(-1)
            padded[..., room + width :] = padded[..., width - 1 : room + width - 1].flip(-1)
            padded[:, :, :room] = padded[:, :, room + 1 : 2 * room + 1].flip(-2)
            padded[:, :, room + height :] = padded[:, :, height - 1 : room + height - 1].flip(-2)
        return padded


def crop(padded: Tensor, places: Tensor, room: int) -> Tensor:
    """Cut one window out of each image.

    Args:
        padded: contiguous ``(batch, channels, height + 2 room, width + 2 room)``.
        places: ``(batch, 2)`` int64, the windows' first row and column.
        room: pixels that the images have on each side.
    """
    samples, channels, tall, wide = padded.shape
    height, width = tall - 2 * room, wide - 2 * room
    plane, image = tall * wide, channels * tall * wide
    # All windows that start anywhere in memory, as one overlapping view: a plain gather of whole windows is then
    # several times as fast as indexing with row and column.
    last = (channels - 1) * plane + (height - 1) * wide + width
    windows = padded.as_strided((samples * image - last + 1, channels, height, width), (1, plane, wide, 1))
    starts = torch.arange(0, samples * image, image, device=padded.device)
    starts = starts.add_(places[:, 0], alpha=wide).add_(places[:, 1])
    return windows.index_select(0, starts)


@dataclass(frozen=True)
class Flip:
    """Mirrors images left to right with ``probability``."""

    probability: float

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Mirror some of ``(batch, channels, height, width)`` of any type."""
        images = batch.inputs
        samples = len(images)
        # Choosing among both versions by number copies whole images, where a mask would visit each pixel.
        choice = (draw("flip")[:, 0] < self.probability).long().mul_(samples)
        choice += torch.arange(samples, device=images.device)
        both = torch.cat((images, images.flip(-1)))
        return Batch(both.index_select(0, choice), batch.targets, batch.index)


@dataclass(frozen=True)
class Cutout:
    """Sets one square of ``size`` pixels a side to zero."""

    size: int

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Cut a hole into each of ``(batch, channels, height, width)`` of any type."""
        height, width = batch.inputs.shape[-2:]
        draws = draw("centre", 2)
        first = torch.stack((below(draws[:, 0], height), below(draws[:, 1], width)), 1) - self.size // 2
        hole = box(first, first + self.size, height, width)
        return Batch(batch.inputs.masked_fill(hole, 0), batch.targets, batch.index)


def box(first: Tensor, end: Tensor, height: int, width: int) -> Tensor:
    """Mask ``(batch, 1, height, width)`` of the boxes from ``first`` to before ``end``, both ``(batch, 2)``."""
    rows = torch.arange(height, device=first.device)
    columns = torch.arange(width, device=first.device)
    inside_rows = (rows >= first[:, :1]) & (rows < end[:, :1])
    inside_columns = (columns >= first[:, 1:]) & (columns < end[:, 1:])
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)
