"""What a process without a console prints, kept with the run that it trains."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from trainkit.files import create


@contextlib.contextmanager
def printing_to(folder: Path) -> Iterator[None]:
    """Let everything that this process prints go to ``log.txt`` of a run folder; for processes that have no console.

    Raises:
        OSError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = create(folder / "log.txt", os.O_WRONLY | os.O_APPEND)
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(stream) for stream in (1, 2)]
    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        yield
    finally:
        for printed in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a full disk: the run says so itself, and what is printed may be lost
                printed.flush()
        for stream, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, stream)
            os.close(kept)
        os.close(log)
