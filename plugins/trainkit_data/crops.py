"""Crops, flips and holes of whole batches, without a loop over samples."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from trainkit import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Draw


# Whole numbers as wide as a pixel of so many bytes, to black pixels out whatever their type.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# A mask for every place of a window is kept up to this size, at which it still lies in the caches.
_MASKS_BYTES = 1 << 20


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
        images, room = batch.inputs, self.padding
        places = below(draw("place", 2), 2 * room + 1)
        height, width = images.shape[-2:]
        masks_bytes = (2 * room + 1) ** 2 * height * width * images.itemsize
        if self.mode == "zero" and masks_bytes <= _MASKS_BYTES:
            cropped = shift(images, places, room)
        else:
            cropped = crop(self.pad(images), places, room)
        return Batch(cropped, batch.targets, batch.index)

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


def shift(images: Tensor, places: Tensor, room: int) -> Tensor:
    """The windows that `crop` cuts out of images with black edges, without making the edges.

    A window is a piece of memory that begins some rows and columns earlier or later than its image. Where it has left
    the image it holds pixels of another row or image, which are blacked out.

    Args:
        images: ``(batch, channels, height, width)``.
        places: ``(batch, 2)`` int64, the windows' first row and column in the image with edges.
        room: pixels that the edges would have.
    """
    samples, channels, height, width = images.shape
    pixels = images.view(_BITS[images.itemsize])
    image, margin = channels * height * width, room * (width + 1)
    spread = pixels.new_empty(samples * image + 2 * margin)  # a margin, for windows of the first and the last image
    spread[margin : margin + samples * image].view(pixels.shape).copy_(pixels)
    windows = spread.as_strided((len(spread) - image + 1, image), (1, 1))
    starts = torch.arange(0, samples * image, image, device=images.device)
    starts = starts.add_(places[:, 0], alpha=width).add_(places[:, 1])
    masks = _inside(height, width, room, pixels.dtype, images.device)
    mask = masks.index_select(0, places[:, 0] * (2 * room + 1) + places[:, 1])
    cut = windows.index_select(0, starts).view(samples, channels, -1).bitwise_and_(mask)
    return cut.view(images.dtype).view(images.shape)


@functools.lru_cache(maxsize=4)
def _inside(height: int, width: int, room: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """All bits set where a window lies within its image: ``((2 room + 1) ** 2, 1, height * width)``, row by row."""
    rows, columns = (_within(side, room) for side in (height, width))
    inside = rows[:, None, :, None] & columns[None, :, None, :]
    return inside.reshape(-1, 1, height * width).to(dtype).neg_().to(device)


def _within(side: int, room: int) -> Tensor:
    """Whether each pixel of a window lies within a side of its image, for each place of the window."""
    pixels = torch.arange(-room, room + 1)[:, None] + torch.arange(side)
    return (pixels >= 0) & (pixels < side)


@dataclass(frozen=True)
class Flip:
    """Mirrors images left to right with ``probability``, or every other epoch from a drawn one on."""

    probability: float
    alternate: bool = False

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Mirror some of ``(batch, channels, height, width)`` of any type."""
        images = batch.inputs
        samples = len(images)
        chosen = (draw.lasting if self.alternate else draw)("flip")[:, 0]
        mirrored = chosen >= self.probability if self.alternate and draw.epoch % 2 else chosen < self.probability
        # Choosing among both versions by number copies whole images, where a mask would visit each pixel.
        choice = mirrored.long().mul_(samples)
        choice += torch.arange(samples, device=images.device)
        both = torch.cat((images, images.flip(-1)))
        return Batch(both.index_select(0, choice), batch.targets, batch.index)


@dataclass(frozen=True)
class Cutout:
    """Sets one square of ``size`` pixels a side to zero, or bytes to a number for each channel."""

    size: int
    inside: bool = False
    mean: tuple[int, ...] = ()

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Cut a hole into each of ``(batch, channels, height, width)`` of any type."""
        images = batch.inputs
        height, width = images.shape[-2:]
        draws, beyond = draw("centre", 2), self.size - 1 if self.inside else 0
        places = torch.stack((below(draws[:, 0], height - beyond), below(draws[:, 1], width - beyond)), 1)
        first = places if self.inside else places - self.size // 2
        hole = box(first, first + self.size, height, width)
        if self.mean and images.dtype is torch.uint8:
            filled = torch.where(hole, _pixels(self.mean, images.device), images)
        else:
            filled = images.masked_fill(hole, 0)
        return Batch(filled, batch.targets, batch.index)


@functools.lru_cache(maxsize=16)
def _pixels(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """One byte for each channel: ``(channels, 1, 1)``."""
    return torch.tensor(numbers, dtype=torch.uint8, device=device).reshape(-1, 1, 1)


def box(first: Tensor, end: Tensor, height: int, width: int) -> Tensor:
    """Mask ``(batch, 1, height, width)`` of the boxes from ``first`` to before ``end``, both ``(batch, 2)``."""
    rows = torch.arange(height, device=first.device)
    columns = torch.arange(width, device=first.device)
    inside_rows = (rows >= first[:, :1]) & (rows < end[:, :1])
    inside_columns = (columns >= first[:, 1:]) & (columns < end[:, 1:])
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)
