"""Files that somebody else may have left: no link is followed, no pipe waited for, no more read than was expected."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_QUIET = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unfit(ValueError):
    """What lies at a path is not what may lie there; the text says why, without the path."""


def kind_of(mode: int) -> str:
    """What a file's mode says it is: ``a link``, ``a device``; empty for a regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "")


def open_regular(path: Path | str, most: int) -> tuple[int, int]:
    """Open a regular file for reading.

    Args:
        path: where it lies; the last part must be no link.
        most: bytes that it may have.

    Returns:
        The descriptor, which the caller closes, and the file's length.

    Raises:
        Unfit: if it is something else than a regular file, or longer.
        OSError: if it cannot be opened.
    """
    # Looked at first for a message in plain words; what counts is what was opened.
    if kind := kind_of(os.lstat(path).st_mode):
        raise Unfit(f"it is {kind}, not a file")
    number = os.open(path, os.O_RDONLY | NOFOLLOW | _QUIET)
    try:
        found = os.fstat(number)
        if kind := kind_of(found.st_mode):
            raise Unfit(f"it is {kind}, not a file")
        if found.st_size > most:
            raise Unfit(f"it has {found.st_size:,} bytes, and may have {most:,}")
    except BaseException:
        os.close(number)
        raise
    return number, found.st_size


def read_regular(path: Path | str, most: int) -> bytes:
    """Read a whole regular file; see `open_regular`."""
    number, length = open_regular(path, most)
    with os.fdopen(number, "rb") as file:
        data = file.read(length + 1)
    if len(data) > most:  # it has grown since
        raise Unfit(f"it has more than the {most:,} bytes that it may have")
    return data


def create(path: Path | str, flags: int = os.O_WRONLY | os.O_TRUNC) -> int:
    """Open a file for writing and make it if it is not there; a link in its place is an error, never followed."""
    return os.open(path, flags | os.O_CREAT | NOFOLLOW | _QUIET, 0o666)


def sync_folder(path: Path | str) -> None:
    """Make names in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def links_out(folder: Path, *inside: str) -> Iterator[tuple[Path, str]]:
    """Names in a folder, and in the folders ``inside`` it, that are links to elsewhere: the path, where it leads.

    Links within the folder are harmless: what they lead to was looked at.
    """
    home = os.path.realpath(folder)
    for place in (folder, *(folder / name for name in inside)):
        try:
            with os.scandir(place) as entries:
                links = sorted(entry.path for entry in entries if entry.is_symlink())
        except (FileNotFoundError, NotADirectoryError):
            continue
        for link in links:
            target = os.path.realpath(link)
            if os.path.commonpath([home, target]) != home:
                yield Path(link), target
