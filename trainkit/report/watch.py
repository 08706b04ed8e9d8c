"""Pages that are made anew while a run goes on, by a process that keeps out of its way."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from trainkit.report.state import is_held
from trainkit.rundir import write_atomically

SHARE = 0.005  # of a processor that making pages may take
LEAST_SECONDS = 1.0  # between two pages
RELOAD_SECONDS = 5.0  # at the least, after which a page reads itself anew: a browser takes processor time, too
_LONGEST_SECONDS = 600.0  # a page that takes longer than three seconds to make takes a larger share
_LOOK_SECONDS = 0.25  # between two looks at whether the run has ended


def make_way() -> None:
    """Let every other process go first, as far as the system knows how."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.nice(19)
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def watch(
    folder: Path,
    file: Path,
    update: Callable[[], bool],
    html: Callable[[float | None], str],
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Make a page anew whenever there is something new, until what it shows has ended.

    So that nothing is taken from the run, pages come the rarer the more time it takes to make one.

    Args:
        folder: the folder of the run, study or ensemble.
        file: the page.
        update: reads what is new, and says whether there was anything.
        html: makes the page, which is to read itself anew after so many seconds; never if that is ``None``.
        sleep: waits so many seconds.

    Returns:
        How it ended: ``ended``, or ``killed`` where the process that was at work is gone and has left no report.
    """
    pause, was_held, made = LEAST_SECONDS, False, False
    try:
        while not (folder / "report.json").exists():
            held = is_held(folder)
            if was_held and not held and not (folder / "report.json").exists():
                return "killed"
            was_held = held
            if update() or not made:
                begun = time.process_time()
                write_atomically(file, html(max(pause, RELOAD_SECONDS)), durable=False)
                spent = time.process_time() - begun
                pause, made = min(max(LEAST_SECONDS, spent / SHARE), _LONGEST_SECONDS), True
            end = time.monotonic() + pause
            while (left := end - time.monotonic()) > 0 and not (folder / "report.json").exists():
                sleep(min(left, _LOOK_SECONDS))
        return "ended"
    finally:
        update()
        write_atomically(file, html(None), durable=False)
