"""Run folders that are carried between the search and nodes that do not see its disk: in pieces, as they change.

What is sent are files as they are. A checkpoint is sent when it is whole and appears whole at the other end; a file
that grows is sent from where it was; what vanishes here vanishes there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

PIECE = 8 << 20  # bytes of one message
TAIL = 1 << 12  # bytes before the place where a file has grown that must be as they were
ARRIVING = ".tmp-carried-"  # what a checkpoint is called until it is whole; runs remove what is called so
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Piece:
    """A change of a folder. Plain data.

    Args:
        name: a file or folder within it, with slashes.
        data: what is written there; ``None``: a file or folder is removed.
        offset: where in the file; what was behind is cut off.
        anew: whether it is of a file that takes the place of the one that is there, once it is whole.
        whole: whether the file is whole with it.
        files: for a checkpoint, its folder in ``name``: its files have all been sent, and it appears.
    """

    name: str
    data: bytes | None = None
    offset: int = 0
    anew: bool = False
    whole: bool = False
    files: bool = False


# What is known of a file: its size, when it was written, which it is, its last bytes; of a checkpoint: all its files.
Seen = tuple[int, int, int, bytes]
Files = tuple[tuple[str, int, int], ...]


class Sender:
    """Finds out what of a folder the other end does not have yet.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Seen] = {}
        self._checkpoints: dict[str, Files] = {}

    def take_as_sent(self) -> None:
        """The other end has the folder as it is now."""
        for _ in self.pieces(read=False):
            pass

    def pieces(self, read: bool = True) -> Iterator[Piece]:
        """What has changed since it was asked for the last time.

        Args:
            read: whether files are read, or only looked at.
        """
        # A checkpoint counts on the lines that were written before it: what grows is read after it is found.
        checkpoints = {name: _files_of(self._folder / name) for name in self._found_checkpoints()}
        files = self._found_files()
        for name, info in files.items():
            yield from self._grown(name, info, read)
        for name, inside in checkpoints.items():
            if inside and self._checkpoints.get(name) != inside:
                if not read:
                    self._checkpoints[name] = inside
                else:
                    yield from self._checkpoint(name, inside)
        for known in (self._files, self._checkpoints):
            for name in [name for name in known if name not in files and name not in checkpoints]:
                known.pop(name)
                yield Piece(name)

    def _found_checkpoints(self) -> list[str]:
        with contextlib.suppress(OSError):
            found = sorted(os.listdir(self._folder / CHECKPOINTS))
            here = self._folder / CHECKPOINTS
            return [f"{CHECKPOINTS}/{name}" for name in found if name[:1] != "." and _is_folder(here / name)]
        return []

    def _found_files(self) -> dict[str, os.stat_result]:
        """The files that are no checkpoint's; hidden ones are locks and what is being written."""
        found: dict[str, os.stat_result] = {}
        for top, folders, names in os.walk(self._folder):
            at = Path(top).relative_to(self._folder)
            folders[:] = [one for one in folders if one[:1] != "." and at.as_posix() != CHECKPOINTS]
            for name in names:
                if name[:1] != ".":
                    with contextlib.suppress(OSError):
                        info = os.lstat(Path(top) / name)
                        if stat.S_ISREG(info.st_mode):
                            found[(at / name).as_posix()] = info
        return found

    def _grown(self, name: str, info: os.stat_result, read: bool) -> Iterator[Piece]:
        before = self._files.get(name)
        if before is not None and before[:3] == (info.st_size, info.st_mtime_ns, info.st_ino):
            return
        with contextlib.suppress(OSError), open(self._folder / name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            since = self._unchanged(file, before, size, info.st_ino)
            if read:
                file.seek(since)
                for start in range(since, max(size, since + 1), PIECE):
                    last = start + PIECE >= size
                    yield Piece(name, file.read(min(PIECE, size - start)), start, not since, last and not since)
            file.seek(max(0, size - TAIL))
            self._files[name] = size, info.st_mtime_ns, info.st_ino, file.read(min(TAIL, size))

    def _unchanged(self, file: BinaryIO, before: Seen | None, size: int, number: int) -> int:
        """How many first bytes of a file the other end has; 0 where it is another file, or was cut on the way."""
        if before is None or before[2] != number or before[0] > size:
            return 0
        file.seek(max(0, before[0] - TAIL))
        return before[0] if file.read(min(TAIL, before[0])) == before[3] else 0

    def _checkpoint(self, name: str, inside: Files) -> Iterator[Piece]:
        try:
            for file, size, _ in inside:
                with open(self._folder / name / file, "rb") as opened:
                    for start in range(0, max(size, 1), PIECE):
                        yield Piece(f"{name}/{file}", opened.read(min(PIECE, size - start)), start)
        except OSError:
            return  # it is no longer wanted, and gone
        if _files_of(self._folder / name) == inside:  # else its files are being written over, for another one
            self._checkpoints[name] = inside
            yield Piece(name, files=True)


class Receiver:
    """Makes the changes of a folder that come from the other end.

    Args:
        folder: the folder; made if it is not there.
        durable: whether a checkpoint is on the disk before it appears.
    """

    def __init__(self, folder: Path, durable: bool = False) -> None:
        self.folder = self._folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)
        self.close()  # what a process that was killed has left would be taken for parts of what comes

    def take(self, piece: Piece) -> None:
        """Make a change.

        Raises:
            OSError: if the disk refuses.
        """
        name = PurePosixPath(piece.name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise OSError(f"{piece.name}: no name within a run folder")
        path = self._folder / name
        if piece.files:
            self._appear(path)
        elif piece.data is None:
            _remove(path)
        elif len(name.parts) > 2 and name.parts[0] == CHECKPOINTS:
            self._write(_arriving(self._folder / name.parts[0] / name.parts[1]) / Path(*name.parts[2:]), piece)
        elif piece.anew:
            temporary = path.with_name(f".{path.name}.carried.tmp")
            self._write(temporary, piece)
            if piece.whole:
                os.replace(temporary, path)
        else:
            self._write(path, piece)

    def close(self) -> None:
        """Remove what has not become whole."""
        for left in (self._folder / CHECKPOINTS).glob(f"{ARRIVING}*"):
            _remove(left)

    def _write(self, path: Path, piece: Piece) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "r+b", opener=_open) as file:
            file.truncate(piece.offset)
            file.seek(piece.offset)
            file.write(piece.data or b"")

    def _appear(self, path: Path) -> None:
        arriving = _arriving(path)
        if self._durable:
            for folder, _, names in os.walk(arriving):
                for name in names:
                    _sync(Path(folder) / name)
                _sync(Path(folder))
        if path.exists():  # one of the same update, made once more
            _remove(path)
        os.rename(arriving, path)
        if self._durable:
            _sync(path.parent)


def everything(folder: Path) -> Iterator[Piece]:
    """All of a folder, for the other end that has nothing of it."""
    return Sender(folder).pieces()


def in_messages(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces, as many in a message as have room."""
    held: list[Piece] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece.data or b"")
        if size >= PIECE:
            yield held
            held, size = [], 0
    if held:
        yield held


def send(sender: Sender, put: Callable[[list[Piece]], None]) -> None:
    """Send what has changed."""
    for message in in_messages(sender.pieces()):
        put(message)


def _arriving(path: Path) -> Path:
    return path.with_name(f"{ARRIVING}{path.name}")


def _files_of(folder: Path) -> Files:
    """The files of a checkpoint, with what changes where one of them does; none where it is gone."""
    found: list[tuple[str, int, int]] = []
    with contextlib.suppress(OSError):
        for top, _, names in os.walk(folder):
            for name in names:
                info = os.lstat(Path(top) / name)
                found.append(((Path(top) / name).relative_to(folder).as_posix(), info.st_size, info.st_mtime_ns))
        return tuple(sorted(found))
    return ()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        doomed = path.with_name(f".del-{path.name}")
        with contextlib.suppress(OSError):
            os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _open(path: str, _: int) -> int:
    """A file that is there or is made; a link, which could lead out of the folder, is refused."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
