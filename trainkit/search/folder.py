"""The study folder: one writer, and the names of what is in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from trainkit.aside import OLD, holds_a_run, put_aside
from trainkit.errors import MachineError
from trainkit.files import links_out, sync_folder
from trainkit.rundir import write_atomically
from trainkit.search.log import NAME, read_events

TRIALS = "trials"
REFIT = "refit"
WIDER = "wider.toml"
FILES = ("recipe.toml", "environment.json", NAME, "report.json", "best.toml", WIDER)


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (path / NAME).is_file()


def trial_folder(study: Path, trial: int, part: int = 0, parts: int = 1) -> Path:
    """The run folder of a trial, or of one of its runs where it has several."""
    folder = study / TRIALS / f"{trial:04d}"
    return folder if parts == 1 else folder / f"run-{part}"


class StudyFolder:
    """A locked study folder.

    Args:
        path: the folder; made if it does not exist.
        resume: whether it may hold a study, which is to be continued.
        fresh: whether it may hold a study or a run, which is put aside when another study begins.

    Raises:
        MachineError: if another process holds it, if it holds a study and must not, or something else, or if it cannot
            be written.
    """

    def __init__(self, path: Path, resume: bool = False, fresh: bool = False) -> None:
        self.path = path
        self.aside: Path | None = None
        self._clear = True  # whether what the folder holds need not be put aside
        try:
            self._made = not path.exists()
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                sync_folder(folder.parent)
            for link, target in links_out(path, TRIALS):
                raise MachineError(
                    f"{link}: it is a link out of the study folder, to {target}; put what it leads to in its place, "
                    "or remove it"
                )
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            message = "another process is writing to this study folder; wait for it, or name another with --run-dir"
            raise MachineError(f"{path}: {message}") from None
        except OSError as error:
            message = f"the study folder cannot be made: {error.strerror}; name another with --run-dir"
            raise MachineError(f"{path}: {message}") from error
        try:
            self.continues = self._look(resume, fresh)
        except BaseException:
            self._lock.release()
            raise

    def _look(self, resume: bool, fresh: bool) -> bool:
        path = self.path
        names = {name for name in os.listdir(path) if not name.startswith((".lock", OLD))}
        if resume and NAME in names and next(read_events(path / NAME), None) is not None:
            return True
        # A study that was killed before its log had a line left no more than this.
        early = {name for name in names if name.startswith(".")} | {"recipe.toml", "environment.json", NAME}
        if fresh and names and (NAME in names or holds_a_run(path, (*FILES, TRIALS, REFIT))):
            self._clear = False
        elif names - (early if resume else set()):
            message = "the folder is not empty; name a new one with --run-dir"
            if resume:
                message = f"there is no study to continue (no {NAME}), and the folder is not empty"
            elif NAME in names:
                cure = "continue that with --resume, put it aside with --fresh, or name a new one"
                message = f"the folder is not empty, it holds a study: {cure}"
            raise MachineError(f"{path}: {message}")
        return False

    def describe(self, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write what the study is, before its log begins; what the folder holds of another one is put aside."""
        if not self._clear:
            self.aside, self._clear = put_aside(self.path), True
        write_atomically(self.path / "recipe.toml", recipe_toml)
        write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")

    def report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``."""
        write_atomically(self.path / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")

    def reopen(self) -> None:
        """Remove what says that the study is over."""
        for name in ("report.json", "best.toml", WIDER):
            (self.path / name).unlink(missing_ok=True)

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Let other processes in; a folder in which no study began is removed."""
        if self._clear and not (self.path / NAME).exists() and not self.continues:
            for name in ("recipe.toml", "environment.json"):
                with contextlib.suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (self.path / ".lock").unlink(missing_ok=True)
            self._lock.release()
            if self._made:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            return
        self._lock.release()
