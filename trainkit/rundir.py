"""The run folder: one writer, written so that a reader never meets half a file."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import filelock

from trainkit.aside import OLD, holds_a_run, put_aside
from trainkit.errors import MachineError, printable
from trainkit.files import NOFOLLOW, create, kind_of, links_out, read_regular, sync_folder
from trainkit.lines import Lines

PRETRAINED = "pretrained.json"  # with which weights the run began, where its recipe names some
RUN_FILES = (
    "recipe.toml",
    "environment.json",
    PRETRAINED,
    "history.jsonl",
    "metrics.jsonl",
    "log.txt",
    "report.json",
    "best.json",
)
PROFILE = "profile.json"  # what `run --profile` measured
PAGE = "report.html"  # what reports write into a folder, and other pages lead to
_PIN = ".pin"  # the end of the name of a file that lets the checkpoint beside it stay
_OURS = ("step-", ".spare", ".tmp-", ".del-")  # the names of folders that hold a checkpoint, or did, or will
_LONGEST = 16 * 1024**2  # of a file that is read whole, in bytes


def runs_root() -> Path:
    """Where run folders go unless ``--run-dir`` says otherwise: TRAINKIT_RUNS, else ``runs``."""
    return Path(os.environ.get("TRAINKIT_RUNS") or "runs")


def new_folder_name(recipe: str) -> str:
    """A name that sorts by time and does not collide: ``resnet_cosine-20260131-235959-a1b2``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(recipe).stem).strip(".-") or "run"
    return f"{stem[:40]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def write_atomically(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Write a file so that it is either the old or the new one, also after a power cut where it is ``durable``."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Whatever lies there, a file of a process that was killed or a link that somebody laid, is not written to.
        temporary.unlink(missing_ok=True)
        with os.fdopen(create(temporary, os.O_WRONLY | os.O_EXCL), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def plain_number(value: float) -> float | None:
    """JSON has no NaN and no infinity: they are written as null."""
    return value if math.isfinite(value) else None


def check_links(path: Path) -> None:
    """Refuse a run folder in which a name leads somewhere else: what is read or written would not be the run's.

    Raises:
        MachineError: naming the first such link, and what is no file or folder.
    """
    for link, target in links_out(path, "checkpoints"):
        cure = "put what it leads to in its place, or remove it"
        raise MachineError(f"{link}: it is a link out of the run folder, to {target}; {cure}")
    for name in (".lock", *RUN_FILES, "checkpoints"):
        try:
            kind = kind_of(os.lstat(path / name).st_mode)
        except OSError:
            continue
        if kind != ("a folder" if name == "checkpoints" else ""):
            raise MachineError(f"{path / name}: it is {kind or 'a file'}, not what a run has there; remove it")
    with contextlib.suppress(FileNotFoundError), os.scandir(path / "checkpoints") as entries:
        for entry in entries:
            kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
            # What is no folder must not have a folder's name: removing one by that name would wait for a pipe.
            misplaced = not kind and entry.name.startswith(_OURS) and not entry.name.endswith(_PIN)
            if kind not in ("", "a folder") or misplaced:
                raise MachineError(f"{entry.path}: it is {kind or 'a file'}, not a checkpoint; remove it")


def read_text(path: Path) -> str:
    """Read a small file of a run folder.

    Raises:
        ValueError: if it is no regular file, too long, or not UTF-8.
        OSError: if it cannot be read.
    """
    return read_regular(path, _LONGEST).decode()


def environment_json(folder: Path, environment: Mapping[str, Any]) -> str:
    """The text of a folder's ``environment.json``.

    The recipe in the folder stands alone: what goes on with it keeps the bases that were extended when it was begun.
    """
    bases = environment.get("bases")
    if not bases:
        with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
            bases = json.loads(read_text(folder / "environment.json")).get("bases") or bases
    return json.dumps({**environment, "bases": bases or {}}, indent=2) + "\n"


class RunFolder:
    """A locked run folder.

    Args:
        path: the folder; made if it does not exist.
        resume: whether it may hold a run, which is to be continued.
        fresh: whether it may hold a run, which is to be put aside (`clear`) when the new one is certain to begin.
        light: whether a run that begins here waits for the disk at its checkpoints only: a power cut before the first
            one may take all that it has written, and one after the last may take its report.

    Raises:
        MachineError: if another process holds it, if it holds a run and must not, or something else than a run, or if
            it cannot be written.
    """

    def __init__(self, path: Path, resume: bool = False, fresh: bool = False, light: bool = False) -> None:
        self.path = path
        self._held: list[str] | None = None  # lines of a log that must not become those of the run put aside
        self._owed: list[Path] = []  # files and folders that the next checkpoint makes durable
        try:
            missing = list(itertools.takewhile(lambda folder: not folder.exists(), (path, *path.parents)))
            self._made = _make(path)
            for folder in missing:
                if light:
                    self._owed.append(folder.parent)
                else:
                    sync_folder(folder.parent)
            if not self._made:
                check_links(path)
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            message = "another process is writing to this run folder; wait for it, or name another with --run-dir"
            raise MachineError(f"{path}: {message}") from None
        except OSError as error:
            message = f"the run folder cannot be made: {error.strerror}; name another with --run-dir"
            raise MachineError(f"{path}: {message}") from error
        names = set(os.listdir(path))
        self.continues = resume and "recipe.toml" in names
        self.light = light and not self.continues
        # A run that was killed before its recipe was written leaves no more than hidden files, a log and its start.
        early = {name for name in names if name.startswith(".") or name in ("log.txt", "history.jsonl")}
        spared = early if resume or fresh else {".lock"}
        if fresh and holds_a_run(path, (*RUN_FILES, "checkpoints")):
            self._held = []
        elif not self.continues and {name for name in names if not name.startswith(OLD)} - spared:
            self._lock.release()
            message = "the folder is not empty; name a new one with --run-dir"
            if resume:
                message = "there is no run to continue (no recipe.toml), and the folder is not empty"
            elif "recipe.toml" in names:
                cure = "continue that with --resume, put it aside with --fresh, or name a new one"
                message = f"the folder is not empty, it holds a run: {cure}"
            raise MachineError(f"{path}: {message}")
        self.lines = Lines(path / "metrics.jsonl")
        self._metrics: TextIO | None = None
        self._log: TextIO | None = None
        self._unsynced: set[TextIO] = set()
        self._named = False  # whether a file is new here

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def describe(
        self, recipe_toml: str, environment: Mapping[str, Any], pretrained: Mapping[str, Any] | None = None
    ) -> None:
        """Write what the run is before anything else: filled recipe, environment, what weights it began with."""
        contents = {"recipe.toml": recipe_toml, "environment.json": environment_json(self.path, environment)}
        if pretrained is not None:
            contents = {PRETRAINED: json.dumps(pretrained, indent=2) + "\n", **contents}
        for name, content in contents.items():
            write_atomically(self.path / name, content, durable=not self.light)
            if self.light:
                self._owed.append(self.path / name)
                self._named = True

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``, with the time."""
        if self._held is not None:
            self._held.append(text)
            return
        if self._log is None:
            self._log = self._appending("log.txt")
        # A line that begins without a time belongs to the one before: no name that is shown can make up an entry.
        text = printable(text).replace("\n", "\n    ")
        self._unsynced.add(self._log)
        self._log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")

    def metrics(self, line: Mapping[str, Any]) -> None:
        """Append an object to ``metrics.jsonl``; a reader sees whole lines only."""
        if self._metrics is None:
            self._metrics = self._appending("metrics.jsonl")
        text = json.dumps(line, allow_nan=False) + "\n"
        self._unsynced.add(self._metrics)
        self._metrics.write(text)
        self.lines.add(line, len(text.encode()))

    def _appending(self, name: str) -> TextIO:
        self._named = True
        number = create(self.path / name, os.O_WRONLY | os.O_APPEND)
        return open(number, "a", encoding="utf-8", buffering=1)

    def make_durable(self) -> None:
        """Make what was appended durable, as far as it has been handed over; a checkpoint counts on it."""
        owed, self._owed = self._owed, []
        if owed:
            (self.path / "checkpoints").mkdir(exist_ok=True)  # its name becomes durable with the others
        for path in owed:
            _sync(path)
        for file in self._unsynced - {self._log} if self.light else tuple(self._unsynced):
            self._unsynced.discard(file)  # first: what is appended from here on is for the next time
            os.fsync(file.fileno())
        if self._named:
            self._named = False
            sync_folder(self.path)

    def clear(self) -> Path | None:
        """Put the run aside that lies here and that a new one takes the place of; say where."""
        if self._held is None:
            return None
        aside, held = put_aside(self.path), self._held
        self._held = None
        for text in held:
            self.log(text)
        return aside

    def cut(self, length: int) -> None:
        """Go back to when ``metrics.jsonl`` had so many bytes, and there was no report.

        A power cut may have taken some of the lines within them, since they are not made durable one by one.

        Raises:
            MachineError: if one of the lines that stay is none that a run writes.
        """
        path = self.path / "metrics.jsonl"
        (self.path / "report.json").unlink(missing_ok=True)
        self.lines.take_in(length)
        if path.exists():
            os.truncate(path, self.lines.bytes)
        if self.lines.bytes < length:
            self.log(
                f"metrics.jsonl has {self.lines.bytes} bytes where the checkpoint knows of {length}: lines are missing"
            )

    def report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``, which closes the run."""
        if not self.light:
            self.make_durable()
        text = json.dumps(report, indent=2, allow_nan=False) + "\n"
        write_atomically(self.path / "report.json", text, durable=not self.light)

    def discard(self) -> None:
        """Remove the folder of a run that never started; what a run that is continued has made stays."""
        self.close()
        if self.continues or self._held is not None:
            return
        for name in ("recipe.toml", "environment.json", PRETRAINED, "history.jsonl", "log.txt", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        if self._made:
            self.path.rmdir()

    def close(self) -> None:
        """Close the files and let other processes in."""
        for file in (self._metrics, self._log):
            if file is not None:
                with contextlib.suppress(OSError):  # the rest of a line that a full disk did not take
                    file.close()
        self._lock.release()


def _make(path: Path) -> bool:
    """Make a folder, and say whether it was not there."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if path.is_dir():
            return False
        raise
    return True


def _sync(path: Path) -> None:
    """Make a file's contents, or the names in a folder, durable."""
    if path.is_dir():
        sync_folder(path)
        return
    number = os.open(path, os.O_RDONLY | NOFOLLOW)
    try:
        os.fsync(number)
    finally:
        os.close(number)
