"""Reading a checkpoint of anybody's: every length, name, type and checksum is looked at before a byte is believed.

Checksums find accidents, not attackers, who can make their own. So the form is checked too: what lies in the folder and
how long each file may be here, what the files hold in `trainkit.forms`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from trainkit.errors import CheckpointError, TrainkitError
from trainkit.files import Unfit, kind_of, open_regular, read_regular
from trainkit.forms import MANIFEST, STATE, TENSORS, check_state, cut, is_names, object_in, places_in
from trainkit.pieces import Pieces, check_names, is_shard_file, put_together

MAX_MANIFEST = 16 * 1024**2
MAX_STATE = 256 * 1024**2
MIN_PIECE, MAX_PIECES = 8 * 1024**2, 256
_AT_ONCE = 1 << 20  # bytes that are read, then hashed while they are still in the processor's cache
_AT_ANY_PLACE = hasattr(os, "preadv")
_Method = TypeVar("_Method", bound=Callable[..., Any])
_SYSTEM = (".nfs", ".DS_Store")  # what file systems and desktops leave in any folder


class Contents(NamedTuple):
    """What a checkpoint holds.

    Args:
        files: the bytes of each tensor file.
        tensors: where each tensor lies in them.
        state: the checkpoint's state.
    """

    files: dict[str, memoryview]
    tensors: dict[str, Pieces]
    state: dict[str, Any]


def read_checkpoint(folder: Path) -> Contents:
    """What a checkpoint holds, every byte of it verified.

    The bytes that were verified are those that are returned: no file is opened twice.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    with _Reading(folder) as reading:
        known = reading.manifest()
        text = reading.whole(STATE, known.pop(STATE))
        files = {name: reading.whole(name, sums) for name, sums in sorted(known.items())}
        return Contents(files, *reading.found(text, files))
    raise AssertionError("what is wrong is raised above")


def read_outline(folder: Path, mine: Callable[[int], bool]) -> tuple[dict[str, Pieces], dict[str, Any]]:
    """Where each tensor of a checkpoint lies, and its state, for one of several processes that look at it together.

    Args:
        folder: the checkpoint.
        mine: whether this process compares the tensor file of this number with the manifest; the state it does in any
            case, and of every tensor file it looks at the length.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    with _Reading(folder) as reading:
        known = reading.manifest()
        text = reading.whole(STATE, known.pop(STATE))
        mapped: dict[str, mmap.mmap | bytes] = {}
        try:
            for number, (name, sums) in enumerate(sorted(known.items())):
                if mine(number):
                    reading.whole(name, sums, keep=False)
                mapped[name] = reading.mapped(name, sums)
            return reading.found(text, mapped)
        finally:
            for data in mapped.values():
                if isinstance(data, mmap.mmap):
                    data.close()
    raise AssertionError("what is wrong is raised above")


def check_files(folder: Path) -> None:
    """Compare every byte of a checkpoint with its manifest, and keep none of them.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    with _Reading(folder) as reading:
        for name, sums in reading.manifest().items():
            reading.whole(name, sums, keep=False)


class Sums(NamedTuple):
    """What a manifest says of a file: its length, and the SHA-256 of each piece."""

    length: int
    piece: int
    sums: list[str]


def piece_of(length: int) -> int:
    """How many bytes have a SHA-256 of their own: several processors check a large file together."""
    return max(MIN_PIECE, -(-length // MAX_PIECES))


class _Reading:
    """A checkpoint's folder while it is read; errors name the file that was last looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.file = folder

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, tb: object) -> None:
        match error:
            case FileNotFoundError():
                raise CheckpointError(f"{self.file}: not a whole checkpoint: there is no such file") from None
            case OSError():
                raise CheckpointError(f"{self.file}: cannot be read: {error.strerror or error}") from error
            case MemoryError():
                raise CheckpointError(f"{self.file}: there is not enough memory to read it") from error
            case ValueError() | RecursionError():
                raise CheckpointError(f"{self.file}: {error}") from error

    def manifest(self) -> dict[str, Sums]:
        """Check what lies in the folder, and the manifest itself."""
        folder = self.folder
        kind = kind_of(os.lstat(folder).st_mode) or "a file"
        if kind != "a folder":
            raise Unfit(f"it is {kind}, not a folder")
        names = {name for name in os.listdir(folder) if not name.startswith(_SYSTEM)}
        if extra := sorted(name for name in names - {TENSORS, STATE, MANIFEST} if not is_shard_file(name)):
            self.file = folder / extra[0]
            raise Unfit("a checkpoint has no such file")
        self.file = folder / MANIFEST
        step, known = _manifest(read_regular(self.file, MAX_MANIFEST))
        if extra := sorted(names - known.keys() - {MANIFEST}):
            self.file = folder / extra[0]
            raise Unfit("the checkpoint has no such file")
        # A power cut may undo a renaming: then the folder of an older checkpoint holds what was written over it.
        if re.fullmatch(r"step-\d{12,}", folder.name) and step != int(folder.name.removeprefix("step-")):
            raise Unfit(f"it is the checkpoint of step {cut(step)}, in the folder of another")
        return known

    def whole(self, name: str, known: Sums, keep: bool = True) -> memoryview:
        """The bytes of a file, which are those that the manifest means; nothing of them if they are not kept."""
        self.file = self.folder / name
        most = MAX_STATE if name == STATE else memory()
        if known.length > most:
            raise Unfit(f"the manifest gives it {known.length:,} bytes, and it may have {most:,} here")
        number, length = open_regular(self.file, known.length)
        try:
            if length != known.length:
                raise Unfit(f"the file is damaged (it has {length:,} bytes, the manifest says {known.length:,})")
            data = _room(length if keep else 0)

            def sum_of(start: int) -> str:
                end = min(start + known.piece, length)
                digest = hashlib.sha256()
                spare = b"" if keep else bytearray(min(_AT_ONCE, end - start))
                while start < end:
                    part = data[start : min(start + _AT_ONCE, end)] if keep else memoryview(spare)[: end - start]
                    count = _read_at(number, part, start)
                    if not count:
                        raise Unfit("the file is damaged (it has become shorter)")
                    digest.update(part[:count])
                    start += count
                return digest.hexdigest()

            starts = range(0, max(length, 1), known.piece)
            if len(starts) == 1 or not _AT_ANY_PLACE:
                sums = [sum_of(start) for start in starts]
            else:
                from concurrent.futures import ThreadPoolExecutor

                with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, 16)) as threads:
                    sums = list(threads.map(sum_of, starts))
            if sums != known.sums:
                raise Unfit("the file is damaged (its SHA-256 is not the manifest's)")
            return data
        finally:
            os.close(number)

    def found(
        self, text: memoryview, files: Mapping[str, memoryview | mmap.mmap | bytes]
    ) -> tuple[dict[str, Pieces], dict[str, Any]]:
        """Where each tensor lies, and the state, each of the right form."""
        places = {}
        for name, data in files.items():
            self.file = self.folder / name
            places[name] = places_in(data)
        self.file = self.folder / STATE
        state = object_in(bytes(text))
        tensors = put_together(places, state)
        check_state(state, set(tensors))
        return tensors, state

    def mapped(self, name: str, known: Sums) -> mmap.mmap | bytes:
        """A file whose pages are read when they are looked at; of its bytes only the number is compared."""
        self.file = self.folder / name
        number, length = open_regular(self.file, known.length)
        try:
            if length != known.length:
                raise Unfit(f"the file is damaged (it has {length:,} bytes, the manifest says {known.length:,})")
            return mmap.mmap(number, length, access=mmap.ACCESS_READ) if length else b""
        finally:
            os.close(number)


def _room(length: int) -> memoryview:
    import numpy

    # numpy asks the kernel for large pages: clearing small ones takes longer than reading.
    return numpy.empty(length, numpy.uint8).data


def _read_at(number: int, part: memoryview, start: int) -> int:
    """Fill a part from a place in a file, as far as one call goes; say how far."""
    if _AT_ANY_PLACE:
        return os.preadv(number, [part], start)
    os.lseek(number, start, os.SEEK_SET)
    data = os.read(number, len(part))
    part[: len(data)] = data
    return len(data)


def memory() -> int:
    """Bytes of memory that this machine has: a file that is longer cannot be loaded, whatever its manifest says."""
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return 2**40


def _manifest(data: bytes) -> tuple[Any, dict[str, Sums]]:
    """The step, and length and SHA-256 of each file, of a manifest whose own checksum is right."""
    lines = data.split(b"\n")
    if len(lines) != 3 or lines[2] or hashlib.sha256(lines[0]).hexdigest().encode() != lines[1]:
        raise Unfit("the manifest is damaged")
    found = object_in(lines[0])
    if type(found.get("format")) is not int or found["format"] < 1:
        raise Unfit("the manifest is of another form: it has no format")
    if found["format"] > 2:
        raise Unfit(f"it has format {found['format']}, which this version does not read; use a newer one")
    files = found.get("files")
    files = files if isinstance(files, dict) else {}
    names = [TENSORS, STATE]
    if found["format"] == 2:
        names = [STATE, *sorted(set(files) - {STATE})]
        check_names(names[1:])
    return found.get("step"), {name: _sums(name, files.get(name)) for name in names}


def _sums(name: str, entry: Any) -> Sums:
    """What a manifest says of one file."""
    entry = entry if isinstance(entry, dict) else {}
    length = entry.get("bytes")
    sums: Any = entry.get("sha256")
    if type(length) is not int or length < 0 or not (isinstance(sums, str) or is_names(sums)):
        raise Unfit(f"the manifest is of another form: it lacks bytes and sha256 of {name}")
    piece = entry.get("piece") if isinstance(sums, list) else max(length, 1)
    if type(piece) is not int or piece < 1 or (isinstance(sums, list) and len(sums) != -(-length // piece)):
        raise Unfit(f"the manifest is of another form: piece and sha256 of {name} do not fit its bytes")
    return Sums(length, piece, [sums] if isinstance(sums, str) else list(sums))


@contextlib.contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while a verified state is put to use means that it does not fit.

    Raises:
        CheckpointError: naming the checkpoint.
    """
    try:
        yield
    except CheckpointError as error:
        if str(folder) in str(error):
            raise
        raise CheckpointError(f"{folder}: {error}") from error
    except TrainkitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if "OutOfMemory" in type(error).__name__:
            raise
        said = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{folder / STATE}: the state does not fit the run: {cut(said)}") from error


def must_fit(method: _Method) -> _Method:
    """Let a method of something that has a ``folder`` be guarded by `fitting`."""

    @functools.wraps(method)
    def guarded(self: Any, *given: Any, **named: Any) -> Any:
        with fitting(self.folder):
            return method(self, *given, **named)

    return guarded  # type: ignore[return-value]
