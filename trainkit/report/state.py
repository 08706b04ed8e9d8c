"""How far a run is: whether it has ended, goes on, or was killed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUNNING = "running"


def status_of(folder: Path, report: Mapping[str, Any]) -> tuple[str, str]:
    """The status of a run, and why, in words.

    Args:
        folder: the run folder.
        report: what its ``report.json`` holds; empty where there is none.

    Returns:
        ``finished``, ``stopped``, ``interrupted`` or ``failed`` with the reason that the report gives; ``running``,
        also of a run of which nothing is known but that it has not ended.
    """
    status, reason = report.get("status"), report.get("reason")
    if isinstance(status, str):
        return status, reason if isinstance(reason, str) else ""
    if is_held(folder):
        return RUNNING, "its process is at work"
    return RUNNING, f"or it was killed: where no process goes on with it, trainkit resume {shlex.quote(str(folder))}"


def is_held(folder: Path) -> bool:
    """Whether a process of this machine is seen to hold a folder's lock; False where one cannot see.

    The lock itself is not touched: to try it would keep a run from starting at that instant.
    """
    try:
        number = str(os.stat(folder / ".lock").st_ino)
        with open("/proc/locks", encoding="utf-8") as locks:
            return any(number in word.split(":")[-1:] for line in locks for word in line.split()[5:6])
    except (OSError, ValueError):
        return False
