"""The lines of ``metrics.jsonl`` as a sequence that takes no more memory the longer it is.

The newest lines are kept, all others are read from the file when somebody asks for them. Where a line begins is known
for some of them, so that any line is found without reading those before.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from trainkit.errors import MachineError
from trainkit.files import NOFOLLOW

Line = Mapping[str, Any]
KEPT = 64  # newest lines that stay in memory, at least; at the most twice as many
MARKS = 1024  # lines whose place in the file is known, at the most


class Lines(Sequence[Line]):
    """What a run has written to its ``metrics.jsonl`` so far.

    Reading never waits for the run: the file is opened anew, and what is written meanwhile is not looked at. A thread
    may read while another adds.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = self._count = 0
        self._newest: list[Line] = []
        self._marks: list[int] = []  # where every `_stride`-th line begins
        self._stride = 1
        self._lock = threading.Lock()

    def add(self, line: Line, size: int) -> None:
        """Take in a line that was appended to the file, with its length there in bytes."""
        with self._lock:
            if self._count % self._stride == 0:
                self._marks.append(self.bytes)
                if len(self._marks) > MARKS:
                    del self._marks[1::2]
                    self._stride *= 2
            self._count += 1
            self.bytes += size
            self._newest.append(line)
            if len(self._newest) >= 2 * KEPT:
                del self._newest[:KEPT]

    def take_in(self, length: int) -> None:
        """Begin with what the file holds within its first bytes: all whole lines there, each looked at once.

        Raises:
            MachineError: naming a line that no run has written.
        """
        self.bytes = self._count = 0
        self._newest, self._marks, self._stride = [], [], 1
        if not length or not self.path.exists():
            return
        with self._open() as file:
            for number, raw in enumerate(file, 1):
                if self.bytes + len(raw) > length or not raw.endswith(b"\n"):
                    return
                try:
                    line = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    cure = "put the line right, or remove it"
                    raise MachineError(f"{self.path}:{number}: a line is not JSON: {error}\n  {cure}") from error
                if not _is_line(line):
                    cure = "put the line right, or remove it"
                    raise MachineError(f"{self.path}:{number}: not a line that a run writes\n  {cure}")
                self.add(line, len(raw))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, key: int) -> Line: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[Line]: ...
    def __getitem__(self, key: int | slice) -> Line | Sequence[Line]:
        count = self._count
        if isinstance(key, int):
            if not -count <= key < count:
                raise IndexError(f"line {key} of {count}")
            return next(self._between(key % count, key % count + 1))
        numbers = range(*key.indices(count))
        if not numbers:
            return []
        low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
        some = list(self._between(low, high + 1))
        return [some[number - low] for number in numbers]

    def __iter__(self) -> Iterator[Line]:
        return self._between(0, self._count)

    def __reversed__(self) -> Iterator[Line]:
        stop = self._count
        while stop > 0:
            start = max(0, stop - KEPT)
            yield from reversed(list(self._between(start, stop)))
            stop = start

    def _between(self, start: int, stop: int) -> Iterator[Line]:
        """The lines from ``start`` to before ``stop``, both within the file."""
        with self._lock:
            kept_from = self._count - len(self._newest)
            kept = self._newest[max(0, start - kept_from) : max(0, stop - kept_from)]
            mark = self._marks[start // self._stride] if start < kept_from else 0
            skip = start % self._stride
        if start < kept_from:
            with self._open() as file:
                file.seek(mark)
                yield from map(json.loads, itertools.islice(file, skip, skip + min(stop, kept_from) - start))
        yield from kept

    def _open(self) -> Any:
        return open(self.path, "rb", opener=lambda name, flags: os.open(name, flags | NOFOLLOW))


def _is_line(line: Any) -> bool:
    """Whether it has step, epoch, time and split, and figures that are numbers or null."""
    if not isinstance(line, dict) or not {"step", "epoch", "split", "time"} <= line.keys():
        return False
    figures = [value for key, value in line.items() if key != "split"]
    return line["split"] in ("train", "val", "test") and all(
        value is None or isinstance(value, int | float) for value in figures
    )
