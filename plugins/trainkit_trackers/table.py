"""``metrics.csv``: the lines of a run as a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from trainkit import Run
from trainkit_trackers.following import BLOCK, Follower, Line
from trainkit_trackers.sent import replacing

FIRST = ("step", "epoch", "split", "time")
FILE = "metrics.csv"


class Table(Follower):
    """See `trainkit_trackers.csv`.

    A process writes the table anew with the first lines that it is given, and where a figure comes that has no column
    yet; all other rows are appended, whole. Where a run goes on from a checkpoint, the table is thus cut as
    ``metrics.jsonl`` is, and both say the same.
    """

    writes = FILE

    def __init__(self) -> None:
        super().__init__()
        self._columns: dict[str, None] = dict.fromkeys(FIRST)  # in their order

    def take(self, run: Run, start: int, lines: Sequence[Line]) -> None:
        """Write rows."""
        path, known = run.folder / FILE, len(self._columns)
        self._columns |= dict.fromkeys(name for line in lines for name in line)
        if start and len(self._columns) == known:
            self._append(path, lines)
        else:
            with replacing(path) as file:
                csv.writer(file).writerow(self._columns)
                for first in range(0, start + len(lines), BLOCK):
                    file.write(self._rows(run.history[first : min(first + BLOCK, start + len(lines))]))

    def _append(self, path: Path, lines: Sequence[Line]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags), "ab", buffering=0) as file:
            file.write(self._rows(lines).encode())

    def _rows(self, lines: Iterable[Line]) -> str:
        text = io.StringIO(newline="")
        # What is not finite is null in the line and an empty cell here, as in any other table.
        csv.writer(text).writerows([line.get(name) for name in self._columns] for line in lines)
        return text.getvalue()
