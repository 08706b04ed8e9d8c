"""Numbers of this process on their way to a device that computes by itself, which nobody waits for."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The same numbers on the device.

    A copy to CUDA is only queued: it starts from pinned memory, which the device reads by itself. torch keeps that
    memory for the next copy, and hands it out again when this one is over. What the caller does with ``values``
    afterwards changes nothing.

    Args:
        values: on the CPU, or on the device already.
        device: where they go.
    """
    if device.type == "cpu" or values.device.type != "cpu":
        return values.to(device)
    if device.type == "cuda" and not values.is_pinned():
        # Where the system lets no more memory be pinned, the copy is as right, and waited for.
        with contextlib.suppress(RuntimeError):
            values = values.pin_memory()
    return values.to(device, non_blocking=True)


def filled(shape: torch.Size | tuple[int, ...], value: float, device: torch.device) -> Tensor:
    """A float64 tensor of one number, which the device writes by itself."""
    return torch.full(shape, value, dtype=torch.float64, device=device)
