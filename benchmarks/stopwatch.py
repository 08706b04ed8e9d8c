"""The time that updates of a run take, without what comes before and after them."""

from __future__ import annotations

import time
from typing import Any

import torch

from trainkit import hookimpl


class Stopwatch:
    """Seconds from the end of the warm-up to the end of the last update.

    Args:
        warm_up: updates that are not timed.
        updates: those that are, which come after.
        device: where the work is done.
    """

    def __init__(self, warm_up: int, updates: int, device: str) -> None:
        self.first, self.last = warm_up, warm_up + updates
        self.device = device

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        if run.step == self.first:
            self.begun = now(self.device)
        elif run.step == self.last:
            self.seconds = now(self.device) - self.begun


def now(device: str) -> float:
    """Seconds of CPU time; of wall time, with all work done, where another device does the work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
