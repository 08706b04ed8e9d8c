"""Batches on their way to a CUDA device: on a stream of their own, one batch before it is asked for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import torch

from trainkit.dataset import Batch
from trainkit.uploading import sent

Coming = tuple[Batch, "torch.cuda.Event"]


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all passes: torch keeps the memory of each stream's tensors for that stream alone."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches on the device, the copy of the next one under way while work on this one is handed out.

    Neither this process nor the device's current stream waits for a copy before its batch is needed, and then the
    stream alone does. What goes wrong with a batch is raised when that batch is asked for, not one before.

    Args:
        batches: on the CPU, in pinned memory or not.
        device: a CUDA device.
    """
    stream = _stream(device)
    coming = _draw(batches, device, stream)
    while coming is not None:
        if isinstance(coming, Exception):
            raise coming
        batch, copied = coming
        coming = _draw(batches, device, stream)
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for part in batch:
            # Its memory is the copying stream's: not to be given to a later batch before this stream is through.
            part.record_stream(current)
        yield batch


def _draw(batches: Iterator[Batch], device: torch.device, stream: torch.cuda.Stream) -> Coming | Exception | None:
    """Begin to copy the next batch; ``None`` at the end."""
    try:
        batch = next(batches, None)
    except Exception as error:
        return error
    if batch is None:
        return None
    with torch.cuda.stream(stream):
        inputs, targets, index = (sent(part, device) for part in batch)
        moved = dataclasses.replace(batch, inputs=inputs, targets=targets, index=index)
        return moved, stream.record_event()
