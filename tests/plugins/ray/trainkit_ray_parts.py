"""A callback that lets tests hold a run, and know the process that trains it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from trainkit import Component, Run, hookimpl


class Held:
    """Leaves its process's number in the run folder, and waits at an update while a file is there."""

    def __init__(self, at: int, file: str) -> None:
        self.at, self.file = at, file

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """Wait."""
        if run.step != self.at:
            return
        (run.folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
        until = time.monotonic() + 240
        while self.file and Path(self.file).exists() and not run.stop_reason and time.monotonic() < until:
            time.sleep(0.02)

    @hookimpl
    def trainkit_save(self, run: Run) -> dict[str, int]:
        """Nothing."""
        return {}

    @hookimpl
    def trainkit_restore(self, run: Run, state: dict[str, int]) -> None:
        """Nothing."""


def held(*, at: int = 10, file: str = "") -> Held:
    """Waits at an update.

    Args:
        at: the update.
        file: what it waits for to be gone, by a path that holds wherever the run is.
    """
    return Held(at, file)


@hookimpl
def trainkit_components() -> list[Component]:
    """The callback."""
    return [Component("callback", held)]
