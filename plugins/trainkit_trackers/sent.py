"""What a tracker was given, noted in the run folder: a continued run hands on no line twice."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, TextIO

_ENTRY = struct.Struct("<qI")  # the update of a line, and a checksum of all it says but its time


class Sent:
    """The lines that a tracker was given, by their number. No file stays open: a run may be left without a word.

    Args:
        path: the file; made when the first line is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self._before = file.read()  # by earlier processes
        self._count = len(self._before) // _ENTRY.size

    def __len__(self) -> int:
        """Lines that were handed on."""
        return self._count

    def step_of(self, number: int) -> int | None:
        """The update of a line that an earlier process handed on; ``None`` if none did."""
        known = (number + 1) * _ENTRY.size <= len(self._before)
        return self._entry(number)[0] if known else None

    def same(self, number: int, line: Mapping[str, Any]) -> bool:
        """Whether the line that was handed on under this number said the same."""
        return self._entry(number) == _entry(line)

    @staticmethod
    def entries(lines: Iterable[Mapping[str, Any]]) -> bytes:
        """What is noted of lines."""
        return b"".join(_ENTRY.pack(*_entry(line)) for line in lines)

    def add(self, packed: bytes) -> None:
        """Note that the lines with these `entries` were handed on."""
        with self._open() as file:
            file.seek(self._count * _ENTRY.size)  # over the part of an entry that a full disk may have left
            file.write(packed)
        self._count += len(packed) // _ENTRY.size

    def cut(self, count: int) -> None:
        """Forget all lines but the first so many."""
        with self._open() as file:
            file.truncate(count * _ENTRY.size)
        self._before, self._count = self._before[: count * _ENTRY.size], count

    def _open(self) -> FileIO:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return FileIO(os.open(self.path, flags, 0o666), "r+")

    def _entry(self, number: int) -> tuple[int, int]:
        step, checksum = _ENTRY.unpack_from(self._before, number * _ENTRY.size)
        return step, checksum


def _entry(line: Mapping[str, Any]) -> tuple[int, int]:
    """Update and checksum of a line; the time differs where it is made once more."""
    said = {key: value for key, value in line.items() if key != "time"}
    return int(line["step"]), zlib.crc32(json.dumps(said, sort_keys=True).encode())


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file to write to, which takes the place of the one at ``path`` when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def noted(path: Path) -> dict[str, Any]:
    """What a tracker has noted of its run in the run folder; nothing where it has not, or nobody can read it."""
    if not path.is_file() or path.is_symlink():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def group_of(folder: Path) -> Path | None:
    """The folder of the study, the ensemble or the repeats that a run belongs to; ``None`` where it stands alone."""
    found = None
    for place in list(folder.absolute().parents)[:4]:  # STUDY/ensemble/members/NAME is the deepest
        if (place / "recipe.toml").is_file():
            found = place
    return found
