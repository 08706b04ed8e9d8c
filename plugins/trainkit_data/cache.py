"""Decoded images in a mapped file: made once, whole or absent, found again by what they were made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from trainkit import MachineError

# Raised when the layout below changes, so that older caches are made anew.
_FORMAT = 1
_ABANDONED_S = 24 * 3600
_MOST_PARTS = 1024  # that one call writes


class Mapped:
    """uint8 samples in a file, read through the page cache; travels to a worker as a path.

    Args:
        path: the file.
        shape: ``(samples, ...)``.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape
        self._mapped: Tensor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Copy the samples of these numbers."""
        return self.tensor().index_select(0, index)

    def tensor(self) -> Tensor:
        """All samples, as a view of the file; changes to it stay in this process."""
        if self._mapped is None:
            flat = torch.from_file(str(self.path), shared=False, size=math.prod(self.shape), dtype=torch.uint8)
            self._mapped = flat.view(self.shape)
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        """The path alone: the receiver maps the file again."""
        return {"path": self.path, "shape": self.shape, "_mapped": None}


@dataclass(frozen=True)
class Decoded:
    """Images with what belongs to them.

    Args:
        pixels: uint8 ``(samples, channels, height, width)``.
        targets: ``(samples,)`` int64.
        notes: what else the maker wanted to keep, such as names of classes.
        sha256: over targets and pixels, or what these were made of.
    """

    pixels: Mapped
    targets: Tensor
    notes: dict[str, Any]
    sha256: str


class Room:
    """The file that decoded images are put into.

    Args:
        path: the file, which is as large as all of them.
        shape: ``(samples, channels, height, width)``.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape
        self._sample = math.prod(shape[1:])
        self._file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        # Set by a maker that has hashed what it decodes, which is smaller: stands for the pixels in their hash.
        self.made_of = b""
        self._disk = ThreadPoolExecutor(1)  # no thread until it has something to do
        self._flushed: Future[None] | None = None

    def close(self) -> None:
        """Close the file."""
        self._disk.shutdown()
        os.close(self._file)

    def tensor(self) -> Tensor:
        """All pixels, as a view of the file."""
        flat = torch.from_file(str(self.path), shared=True, size=math.prod(self.shape), dtype=torch.uint8)
        return flat.view(self.shape)

    def put(self, number: int, parts: list[bytes]) -> None:
        """Write bytes that follow each other from this sample on; in a forked process too.

        Into a mapped file each new page of four kilobytes would be a call of the system's, and a slower one.
        """
        at = number * self._sample
        if hasattr(os, "pwritev") and len(parts) <= _MOST_PARTS:
            written = os.pwritev(self._file, parts, at)
            if written == sum(map(len, parts)):
                return
        with self.path.open("rb+") as file:
            file.seek(at)
            file.writelines(parts)

    def flush(self, last: bool = False) -> None:
        """Let the disk take what has been put while more is decoded, for which the run would wait at the end.

        Args:
            last: wait until it has taken all.
        """
        if self._flushed is not None and (last or self._flushed.done()):
            self._flushed.result()  # an error of the disk is told once
            self._flushed = None
        if last:
            os.fsync(self._file)
        elif self._flushed is None:
            self._flushed = self._disk.submit(os.fsync, self._file)

    def sha256(self, targets: Tensor) -> str:
        """The hash of these targets and of the pixels, or of what they were made of."""
        plain: Any = self.made_of or self.tensor().view(-1).numpy()
        digest = hashlib.sha256(plain)
        digest.update(targets.numpy().tobytes())
        return digest.hexdigest()


Maker = Callable[[Room], tuple[Tensor, dict[str, Any]]]
"""Fills the room it is given; gives targets and notes."""


def decoded(cache_root: Path, name: str, made_of: Any, shape: tuple[int, ...], make: Maker) -> Decoded:
    """Find decoded images, or make them.

    Args:
        cache_root: folder of all caches.
        name: a word for people who look into the folder.
        made_of: plain data that says what the images were made of; other data, other cache.
        shape: ``(samples, channels, height, width)``.
        make: called where there is no cache, to fill it.

    Raises:
        MachineError: if the cache cannot be written.
    """
    mark = json.dumps([_FORMAT, made_of, shape], sort_keys=True, default=str)
    folder = cache_root / "decoded" / f"{name}-{hashlib.sha256(mark.encode()).hexdigest()[:20]}"
    if (found := _read(folder, shape)) is not None:
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Trials of a search start together: one makes the cache, the others wait for it.
        with FileLock(f"{folder}.lock"):
            if (found := _read(folder, shape)) is not None:
                return found
            with _scratch(folder.parent) as scratch:
                _write(scratch, shape, make)
                shutil.rmtree(folder, ignore_errors=True)  # broken, as it could not be read
                scratch.rename(folder)
    except OSError as error:
        raise MachineError(f"cannot write the cache {folder}: {error}; set TRAINKIT_CACHE to another folder") from error
    found = _read(folder, shape)
    if found is None:
        raise MachineError(f"the cache {folder} was written but cannot be read back; is the disk full?")
    return found


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    for left in parent.glob(".unfinished-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:  # by a process that was killed
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=parent))
    try:
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, shape: tuple[int, ...], make: Maker) -> None:
    size = math.prod(shape)
    path = folder / "pixels.bin"
    with path.open("wb") as made:
        # Taking the room first: a full disk is an error here, and a killed process at a mapped page.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(made.fileno(), 0, max(1, size))
        else:
            made.truncate(max(1, size))
    with contextlib.closing(Room(path, shape)) as room:
        targets, notes = make(room)
        about = {"targets": targets.tolist(), "notes": notes, "sha256": room.sha256(targets)}
        room.flush(last=True)
    with (folder / "about.json").open("w", encoding="utf-8") as file:
        file.write(json.dumps(about))
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path, shape: tuple[int, ...]) -> Decoded | None:
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        targets = torch.tensor(about["targets"], dtype=torch.int64)
        path = folder / "pixels.bin"
        size = path.stat().st_size
    except (OSError, ValueError, KeyError):
        return None
    if size != max(1, math.prod(shape)) or len(targets) != shape[0]:
        return None
    return Decoded(Mapped(path, shape), targets, about["notes"], about["sha256"])
