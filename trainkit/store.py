"""The folder of a run's checkpoints: one is written so that it is whole or absent, and the ones that are wanted stay.

The order of writing is what makes a checkpoint safe at any instant, also where the power fails: every file is made
durable in a temporary folder, the manifest last, then the folder where names in it are new, then one rename, then the
parent folder.

Source: Rebello et al. 2020, "Can Applications Recover from fsync Failures?", USENIX ATC: after an fsync that failed the
pages count as clean, so a second one succeeds and says nothing; a new file is the only way.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from trainkit.errors import CheckpointError
from trainkit.files import NOFOLLOW, sync_folder
from trainkit.forms import MANIFEST, STATE, TENSORS
from trainkit.verified import check_files, piece_of

FORMAT, FORMAT_TOGETHER = 1, 2  # of one process's files, and of several's
SPARE = ".spare"
PIN = ".pin"
TRIES = 3
_AT_ONCE = 1 << 20  # bytes that are hashed, then written while they are still in the processor's cache
_NAME = re.compile(r"step-(\d{12,})")
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_FLAGS = os.O_WRONLY | os.O_CREAT | NOFOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Buffer: TypeAlias = "bytes | memoryview"


def folder_name(step: int) -> str:
    """The folder of the checkpoint made after ``step`` updates."""
    return f"step-{step:012d}"


def step_of(name: str) -> int | None:
    """The updates made that a folder's name tells; ``None`` if it is not the name of a checkpoint."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def newest_first(parent: Path) -> list[Path]:
    """Checkpoint folders, the newest first; by their number, since clocks are not trusted."""
    return [parent / name for name in _names(os.fspath(parent)) if (parent / name).is_dir()]


def _names(top: str) -> list[str]:
    try:
        names = os.listdir(top)
    except (FileNotFoundError, NotADirectoryError):
        return []
    steps = {name: step for name in names if (step := step_of(name)) is not None}
    return sorted(steps, key=steps.__getitem__, reverse=True)


# ---------------------------------------------------------------- writing


def write(parent: str, step: int, contents: Mapping[str, Sequence[Buffer]]) -> str:
    """Write the files of a checkpoint and its manifest.

    A write that fails is tried again in a new folder, twice; what lay ready to be written over is removed before, which
    makes room.

    Args:
        parent: the run's ``checkpoints`` folder; made if it does not exist.
        step: updates made.
        contents: the bytes of each file, in parts.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: what the disk said first; older checkpoints are untouched.
    """
    first: OSError | None = None
    for attempt in range(TRIES):
        temporary = os.path.join(parent, f".tmp-{step}-{os.getpid()}-{attempt}")
        try:
            return _write(parent, step, contents, temporary)
        except OSError as error:
            first = first or error
            remove(os.path.join(parent, SPARE))
        except BaseException:
            remove(temporary)
            raise
    assert first is not None
    raise first


def _write(parent: str, step: int, contents: Mapping[str, Sequence[Buffer]], temporary: str) -> str:
    try:
        fresh = _make(parent, temporary)
        files = {name: write_file(f"{temporary}{os.sep}{name}", parts, fresh) for name, parts in contents.items()}
        _write_manifest(temporary, step, files, FORMAT, fresh)
        if fresh:  # names of files that are written over have been durable before: see `prune`
            sync_folder(temporary)
        final = os.path.join(parent, folder_name(step))
        before = _put(temporary, final)
    except OSError:
        remove(temporary)
        raise
    sync_folder(parent)
    if before:
        remove(before)
    return final


def _write_manifest(temporary: str, step: int, files: Mapping[str, Any], form: int, fresh: bool) -> None:
    line = _JSON.encode({"files": files, "format": form, "step": step})
    check = hashlib.sha256(line.encode()).hexdigest()
    write_file(f"{temporary}{os.sep}{MANIFEST}", [f"{line}\n{check}\n".encode()], fresh)


def begin(parent: str, step: int) -> str:
    """Make an empty folder in which several processes write a checkpoint together, each with `write_file`.

    Returns:
        The folder, which `commit` makes a checkpoint of.
    """
    temporary = os.path.join(parent, f".tmp-{step}-{os.getpid()}-together")
    remove(os.path.join(parent, SPARE))  # which has files of one process, and takes the room of a checkpoint
    _make(parent, temporary)
    return temporary


def commit(temporary: str, step: int, files: Mapping[str, Any]) -> str:
    """Make a checkpoint of a folder whose files are all written and durable.

    Args:
        temporary: the folder, as `begin` made it.
        step: updates made.
        files: for each file what `write_file` gave for it.

    Returns:
        The checkpoint's folder.
    """
    _write_manifest(temporary, step, files, FORMAT_TOGETHER, True)
    sync_folder(temporary)
    parent = os.path.dirname(temporary)
    final = os.path.join(parent, folder_name(step))
    before = _put(temporary, final)
    sync_folder(parent)
    if before:
        remove(before)
    return final


def _make(parent: str, temporary: str) -> bool:
    """Make the temporary folder, of what is no longer wanted if there is such; say whether it is empty."""
    remove(temporary)
    spare = os.path.join(parent, SPARE)
    # Writing over the files of a checkpoint that is no longer wanted costs half of making new ones.
    if _may_be_written_over(spare):
        os.rename(spare, temporary)
        if stat.S_ISDIR(os.lstat(temporary).st_mode):
            return False
        remove(temporary)  # a link, and whoever planted it would have us write where it leads
    try:
        os.mkdir(temporary)
    except FileNotFoundError:
        os.makedirs(parent, exist_ok=True)
        sync_folder(os.path.dirname(parent) or ".")
        os.mkdir(temporary)
    return True


def _may_be_written_over(spare: str) -> bool:
    """Whether it has the three files and nothing else, none of them linked to from a copy that somebody made."""
    try:
        with os.scandir(spare) as entries:
            found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError:
        return False
    if found.keys() == {TENSORS, STATE, MANIFEST} and all(
        stat.S_ISREG(entry.st_mode) and entry.st_nlink == 1 for entry in found.values()
    ):
        return True
    remove(spare)
    return False


def write_file(path: str, parts: Sequence[Buffer], fresh: bool = True) -> dict[str, Any]:
    """Write a file durably, and say what the manifest says of it."""
    length = sum(map(len, parts))
    piece = piece_of(length)
    sums, digest, room = list[str](), hashlib.sha256(), piece
    handle = os.open(path, _FLAGS | (os.O_EXCL if fresh else 0), 0o644)
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                now = left[: min(_AT_ONCE, room)]
                digest.update(now)
                room -= len(now)
                if not room:
                    sums.append(digest.hexdigest())
                    digest, room = hashlib.sha256(), piece
                left = left[len(now) :]
                while now:
                    count = os.write(handle, now)
                    if count <= 0:
                        raise OSError(errno.EIO, "nothing was written", path)
                    now = now[count:]
        if not fresh and os.fstat(handle).st_size != length:
            os.ftruncate(handle, length)
        os.fsync(handle)
    finally:
        os.close(handle)
    if length <= piece:
        return {"bytes": length, "sha256": sums[0] if sums else digest.hexdigest()}
    if room != piece:
        sums.append(digest.hexdigest())
    return {"bytes": length, "piece": piece, "sha256": sums}


def _put(temporary: str, final: str) -> str:
    """Rename a whole checkpoint to its name; where that is taken, give the new name of what had it.

    The same number of updates is saved twice where updates in between were left out.
    """
    if not os.path.lexists(final):
        os.rename(temporary, final)
        return ""
    top, name = os.path.split(final)
    before = os.path.join(top, f".old-{name}")
    remove(before)
    os.rename(final, before)
    try:
        os.rename(temporary, final)
    except OSError:
        os.rename(before, final)
        raise
    return before


# ---------------------------------------------------------------- what stays


def pin(parent: str, step: int) -> None:
    """Let a checkpoint stay, which may be yet to be written, until somebody removes the file beside it."""
    path = os.path.join(parent, folder_name(step) + PIN)
    if os.path.lexists(path):
        return
    if not os.path.isdir(parent):
        os.makedirs(parent, exist_ok=True)
        sync_folder(os.path.dirname(parent) or ".")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | NOFOLLOW | getattr(os, "O_CLOEXEC", 0), 0o644))
    sync_folder(parent)


def is_pinned(folder: Path) -> bool:
    """Whether a checkpoint is pinned."""
    return os.path.lexists(os.fspath(folder) + PIN)


def prune(parent: Path, keep: int, *spared: str | None, written: set[str] | None = None) -> None:
    """Remove checkpoints older than the newest ``keep``, except those that are spared by name or pinned.

    One of them is kept to be written over; its names are durable, as those in ``written`` are, which `write` made in
    this process. A checkpoint is pinned by a file of its name and ``.pin`` beside it.
    """
    top = os.fspath(parent)
    spare = os.path.join(top, SPARE)
    for name in _names(top)[keep:]:
        path = os.path.join(top, name)
        if name in spared or os.path.lexists(path + PIN):
            continue
        if ours := written is not None and name in written:
            written.remove(name)
        if not os.path.lexists(spare) and (ours or _has_durable_names(path)):
            os.rename(path, spare)
            continue
        doomed = os.path.join(top, f".del-{name}")
        os.rename(path, doomed)
        remove(doomed)


def _has_durable_names(folder: str) -> bool:
    try:
        sync_folder(folder)
    except OSError:
        return False
    return True


def two_newer(parent: Path, name: str) -> bool:
    """Whether two checkpoints that are newer than the one of this name verify."""
    count = 0
    for other in _names(os.fspath(parent)):
        if other == name:
            break
        try:
            check_files(parent / other)
        except CheckpointError:
            continue
        count += 1
        if count == 2:
            return True
    return False


def recover(parent: Path) -> None:
    """Give a checkpoint its name back that a process was about to replace when it was killed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(parent):
            final = parent / name.removeprefix(".old-")
            if name.startswith(".old-step-") and not os.path.lexists(final):
                (parent / name).rename(final)


def tidy(parent: Path) -> None:
    """Remove what is kept between saves only, and what a killed process left; under the run folder's lock."""
    recover(parent)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(parent):
            if name == SPARE or name.startswith((".tmp-", ".del-", ".old-")):
                remove(os.path.join(parent, name))


def set_aside(folder: Path) -> Path:
    """Rename a checkpoint that was refused, so that it counts no more and can still be looked at."""
    number = 0
    while (aside := folder.with_name(f"refused-{folder.name}{f'-{number}' if number else ''}")).exists():
        number += 1
    return folder.rename(aside)


def remove(path: str) -> None:
    """Remove a folder as far as the disk lets us, or a link in its place; nothing happens if it is not there."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return
    except OSError:
        names = []
    try:
        if os.path.islink(path):
            os.unlink(path)
            return
        for name in names:
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
