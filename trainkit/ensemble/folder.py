"""The ensemble folder: one writer, and the names of what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock

from trainkit.arguments import holds_ensemble
from trainkit.aside import OLD, holds_a_run, put_aside
from trainkit.ensemble.artefact import MANIFEST, RECIPES, STATE, WEIGHTS
from trainkit.errors import MachineError
from trainkit.files import links_out, sync_folder
from trainkit.rundir import RUN_FILES, write_atomically
from trainkit.search.folder import is_study

MEMBERS = "members"
LONGER = "longer"
REPORT = "report.json"
MADE_OF = "made_of.json"
FILES = ("recipe.toml", "environment.json", "history.jsonl", MADE_OF, MANIFEST, STATE, REPORT)
FOLDERS = (MEMBERS, LONGER, WEIGHTS, RECIPES)


def member_folder(ensemble: Path, number: int) -> Path:
    """The run folder of a member that was trained for the ensemble."""
    return ensemble / MEMBERS / f"{number:04d}"


def digest_of(value: Any) -> str:
    """SHA-256 of plain values, in which order keys do not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class EnsembleFolder:
    """A locked ensemble folder.

    Args:
        path: the folder; made if it does not exist.
        resume: whether it may hold an ensemble, which is to be continued.
        fresh: whether it may hold an ensemble, a study or a run, which is put aside.
        option: the one that names the folder on the command line, for what is advised.

    Raises:
        MachineError: if another process holds it, if it holds an ensemble and must not, or something else, or if it
            cannot be written.
    """

    def __init__(self, path: Path, resume: bool = False, fresh: bool = False, option: str = "--run-dir") -> None:
        self.path = path
        self._option = option
        self.aside: Path | None = None
        self.begun = False  # whether something is here that took time to make
        try:
            self._made = not path.exists()
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            for folder in missing:
                sync_folder(folder.parent)
            for link, target in links_out(path, *FOLDERS):
                raise MachineError(
                    f"{link}: it is a link out of the ensemble folder, to {target}; put what it leads to in its place, "
                    "or remove it"
                )
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            message = f"another process is writing to this ensemble folder; wait for it, or name another with {option}"
            raise MachineError(f"{path}: {message}") from None
        except OSError as error:
            message = f"the ensemble folder cannot be made: {error.strerror}; name another with {option}"
            raise MachineError(f"{path}: {message}") from error
        try:
            self.continues = self._look(resume, fresh)
        except BaseException:
            self._lock.release()
            raise

    def _look(self, resume: bool, fresh: bool) -> bool:
        path = self.path
        names = {name for name in os.listdir(path) if not name.startswith((".lock", OLD))}
        seen = {name for name in names if not name.startswith(".")}
        if resume and holds_ensemble(path):
            return True
        if fresh and (holds_ensemble(path) or is_study(path) or (names and holds_a_run(path, (*FILES, *RUN_FILES)))):
            self.aside = put_aside(path)
        # One that was killed before a member began leaves no more than what says what it was to be.
        elif seen - ({*FILES, WEIGHTS, RECIPES} if resume and MANIFEST not in seen else set()):
            message = f"the folder is not empty; name a new one with {self._option}"
            if resume:
                message = "there is no ensemble to continue, and the folder is not empty"
            elif holds_ensemble(path):
                cure = "continue that with --resume, put it aside with --fresh, or name a new one"
                message = f"the folder is not empty, it holds an ensemble: {cure}"
            raise MachineError(f"{path}: {message}")
        return False

    def describe(self, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write what the ensemble is to be, before any member begins."""
        write_atomically(self.path / "recipe.toml", recipe_toml)
        write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")

    def report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``, which closes the ensemble."""
        write_atomically(self.path / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")

    @property
    def finished(self) -> bool:
        """Whether it is closed."""
        return (self.path / REPORT).is_file() and (self.path / MANIFEST).is_file()

    def reopen(self, *more: str) -> None:
        """Remove what says what became of the members, and folders of runs that do not count any longer."""
        for name in (REPORT, MANIFEST, STATE):
            (self.path / name).unlink(missing_ok=True)
        for name in (WEIGHTS, RECIPES, *more):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for drawn in self.path.glob("*.png"):
            drawn.unlink()

    def __enter__(self) -> EnsembleFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Let other processes in; a folder in which nothing began is removed."""
        if not self.begun and not self.continues and not (self.path / MANIFEST).exists():
            for name in FILES:
                with contextlib.suppress(OSError):
                    (self.path / name).unlink(missing_ok=True)
            for name in (WEIGHTS, RECIPES):
                shutil.rmtree(self.path / name, ignore_errors=True)
            with contextlib.suppress(OSError):
                (self.path / ".lock").unlink(missing_ok=True)
            self._lock.release()
            if self._made:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            return
        self._lock.release()
