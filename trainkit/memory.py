"""The most memory that a run has taken, as the device's allocator and the operating system count it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def watch_memory(device: torch.device) -> None:
    """Let the peaks of a CUDA device begin with what is there now."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int] | None:
    """The most bytes of a CUDA device since `watch_memory`; ``None`` elsewhere.

    Returns:
        ``allocated``: what tensors took; ``reserved``: what torch had taken from the device for them and kept.
    """
    if device.type != "cuda":
        return None
    import torch

    return {
        "allocated": int(torch.cuda.max_memory_allocated(device)),
        "reserved": int(torch.cuda.max_memory_reserved(device)),
    }


def peak_resident() -> int | None:
    """The most bytes of this machine's memory that this process had since it started; ``None`` where nobody counts."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_line(peak: dict[str, int] | None) -> str:
    """What a profile says of memory; empty where nothing is known.

    Args:
        peak: what `peak_memory` gave.
    """
    parts = []
    if peak is not None:
        parts = [f"{_megabytes(peak['allocated'])} in tensors on the device, {_megabytes(peak['reserved'])} reserved"]
    if (resident := peak_resident()) is not None:
        parts.append(f"{_megabytes(resident)} of this process")
    return f"memory, at most: {'; '.join(parts)}" if parts else ""


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
