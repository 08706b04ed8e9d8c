"""``history.jsonl``: every start and continuation of a run, with what was changed and what was accepted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.files import create
from trainkit.rundir import read_text

FILE = "history.jsonl"


def remember(folder: Path, event: str, update: int, command: str, durable: bool = True, **more: Any) -> None:
    """Append one entry.

    Args:
        folder: the run folder.
        event: ``start`` or ``resume``.
        update: updates made before it.
        command: what the user typed.
        durable: whether to wait until it is on the disk.
        more: what else there is to know.
    """
    entry = {"event": event, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "update": update, "command": command}
    text = json.dumps(entry | more, default=str) + "\n"
    with os.fdopen(create(folder / FILE, os.O_RDWR | os.O_APPEND), "r+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():  # a process that was killed while it wrote leaves half a line, which then stands alone
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else "\n" + text
        file.write(text.encode())
        if durable:
            file.flush()
            os.fsync(file.fileno())


def entries(folder: Path) -> list[Mapping[str, Any]]:
    """What the file holds, the oldest first; lines that are none are left out.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no text file.
    """
    found: list[Mapping[str, Any]] = []
    for line in read_text(folder / FILE).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
