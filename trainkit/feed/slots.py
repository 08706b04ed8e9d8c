"""Memory that a run and its workers share, in which batches travel.

torch gives each tensor that a worker sends a file of shared memory of its own: new pages at both ends, and a file
handle through a socket. Here the pages are taken once, and a message says only how a batch lies in them.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch

Layout = tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]
"""Type, shape and strides of a tensor."""

_ALIGNED = 64  # bytes: a line of the cache, and a multiple of every number's size


class Slots:
    """Places for batches, used in turns; made before the workers are forked.

    Args:
        count: places; more than are under way at once.
        size: bytes of one.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        # Anonymous, not a file: containers often leave few megabytes for those.
        pages: Any = mmap.mmap(-1, count * _aligned(size))
        self._room = torch.frombuffer(pages, dtype=torch.uint8).view(count, -1)

    def put(self, slot: int, batches: Sequence[Batch]) -> list[list[Layout]] | None:
        """Copy batches into a place and say how they lie there; ``None`` where they do not fit."""
        if sum(_aligned(part.nbytes) for batch in batches for part in batch) > self._room.shape[1]:
            return None
        layouts = [[_layout(part) for part in batch] for batch in batches]
        parts = [part for batch in batches for part in batch]
        for into, part in zip(_views(self._room[slot], layouts), parts, strict=True):
            into.copy_(part)
        return layouts

    def take(self, slot: int, layouts: Sequence[Sequence[Layout]]) -> list[Batch]:
        """Copy the batches out of a place, which is free then."""
        used = sum(_aligned(_nbytes(layout)) for batch in layouts for layout in batch)
        parts = iter(_views(self._room[slot, :used].clone(), layouts))
        return [Batch(*(next(parts) for _ in batch)) for batch in layouts]


def room_for(*tensors: tuple[int, int]) -> int:
    """Bytes that tensors take in a place, each given by its number of elements and the bytes of one."""
    return sum(_aligned(count * size) for count, size in tensors)


def _aligned(size: int) -> int:
    return -(-max(1, size) // _ALIGNED) * _ALIGNED


def _nbytes(layout: Layout) -> int:
    return math.prod(layout[1]) * layout[0].itemsize


def _layout(part: Tensor) -> Layout:
    # Images may lie channels last, and should stay so; a view with gaps is closed up, as any copy of it would be.
    dense = part if part.is_contiguous() else torch.empty_like(part)
    return part.dtype, tuple(part.shape), dense.stride()


def _views(room: Tensor, layouts: Sequence[Sequence[Layout]]) -> list[Tensor]:
    """The tensors of these layouts, one after the other in ``room``."""
    flat = [layout for batch in layouts for layout in batch]
    sizes = [_aligned(_nbytes(layout)) for layout in flat]
    # Not slices: those count changes in place together, so that autograd takes a change of one for one of all.
    pieces = torch.unsafe_split_with_sizes(room[: sum(sizes)], sizes)
    return [
        piece[: _nbytes(layout)].view(layout[0]).as_strided(*layout[1:])
        for piece, layout in zip(pieces, flat, strict=True)
    ]
