"""A folder of several runs, a study's or an ensemble's: it has one writer, and where nothing begins nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import filelock

from trainkit.aside import OLD
from trainkit.errors import MachineError
from trainkit.files import links_out, sync_folder
from trainkit.rundir import environment_json, write_atomically

REPORT = "report.json"


class LockedFolder(ABC):
    """A folder that no other process writes to until this one leaves it.

    Args:
        path: the folder; made if it does not exist.
        resume: whether what it holds may be continued.
        fresh: whether what it holds may be put aside.
        option: the one that names the folder on the command line, for what is advised.

    Raises:
        MachineError: if another process holds it, if it holds what it must not, or if it cannot be written.
    """

    HOLDS: ClassVar[str]  # what it is the folder of, in messages, such as "a study"
    INSIDE: ClassVar[tuple[str, ...]]  # folders in it that are written to: a link in them would lead out of it
    EARLY: ClassVar[tuple[str, ...]]  # what is written before anything begins, in this order; goes where nothing does

    def __init__(self, path: Path, resume: bool = False, fresh: bool = False, option: str = "--run-dir") -> None:
        self.path = path
        self.aside: Path | None = None  # where what was here lies now
        self._option = option
        what = f"{self.HOLDS.split()[-1]} folder"
        try:
            self._made = not path.exists()
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                sync_folder(folder.parent)
            for link, target in links_out(path, *self.INSIDE):
                raise MachineError(
                    f"{link}: it is a link out of the {what}, to {target}; put what it leads to in its place, "
                    "or remove it"
                )
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            message = f"another process is writing to this {what}; wait for it, or name another with {option}"
            raise MachineError(f"{path}: {message}") from None
        except OSError as error:
            message = f"the {what} cannot be made: {error.strerror}; name another with {option}"
            raise MachineError(f"{path}: {message}") from error
        try:
            names = {name for name in os.listdir(path) if not name.startswith((".lock", OLD))}
            self.continues = self._look(names, resume, fresh)
        except BaseException:
            self._lock.release()
            raise

    @abstractmethod
    def _look(self, names: set[str], resume: bool, fresh: bool) -> bool:
        """Whether what is in it, hidden files too, is continued; else it can be written to, or is `_refused`."""

    @abstractmethod
    def _counts(self) -> bool:
        """Whether it has something to keep."""

    def _refused(self, resume: bool, there: bool, lacks: str = "") -> MachineError:
        """What is wrong with a folder that has something else, or ``there`` what must not be written to."""
        message = f"the folder is not empty; name a new one with {self._option}"
        if resume:
            message = f"there is no {self.HOLDS.split()[-1]} to continue{lacks}, and the folder is not empty"
        elif there:
            cure = "continue that with --resume, put it aside with --fresh, or name a new one"
            message = f"the folder is not empty, it holds {self.HOLDS}: {cure}"
        return MachineError(f"{self.path}: {message}")

    def describe(self, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write what it is to hold, before anything begins."""
        write_atomically(self.path / "recipe.toml", recipe_toml)
        write_atomically(self.path / "environment.json", environment_json(self.path, environment))

    def report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``."""
        write_atomically(self.path / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Let other processes in; a folder in which nothing began is removed."""
        if self._counts():
            self._lock.release()
            return
        for path in (self.path / name for name in (*reversed(self.EARLY), ".lock")):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._lock.release()
        if self._made:
            with contextlib.suppress(OSError):
                self.path.rmdir()
