"""The study folder: one writer, and the names of what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.aside import holds_a_run, put_aside
from trainkit.rundir import PAGE, read_text
from trainkit.search.locked import REPORT, LockedFolder
from trainkit.search.log import NAME, read_events
from trainkit.store import step_of

TRIALS = "trials"
REFIT = "refit"
WIDER = "wider.toml"
FILES = ("recipe.toml", "environment.json", NAME, REPORT, "best.toml", WIDER)


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (path / NAME).is_file()


def trial_folder(study: Path, trial: int, part: int = 0, parts: int = 1) -> Path:
    """The run folder of a trial, or of one of its runs where it has several."""
    folder = study / TRIALS / f"{trial:04d}"
    return folder if parts == 1 else folder / f"run-{part}"


def best_checkpoint(run: Path) -> Path | None:
    """The checkpoint of a run's best evaluation, where it has one."""
    try:
        name = json.loads(read_text(run / "best.json"))["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return run / "checkpoints" / name if isinstance(name, str) and step_of(name) is not None else None


class StudyFolder(LockedFolder):
    """A locked study folder: with ``fresh``, a study or a run in it is put aside when another study begins."""

    HOLDS = "a study"
    INSIDE = (TRIALS,)
    EARLY = ("recipe.toml", "environment.json")

    _clear = True  # whether what the folder holds need not be put aside

    def _look(self, names: set[str], resume: bool, fresh: bool) -> bool:
        path = self.path
        if resume and NAME in names and next(read_events(path / NAME), None) is not None:
            return True
        # A study that was killed before its log had a line left no more than this.
        early = {name for name in names if name.startswith(".")} | {*self.EARLY, NAME}
        if fresh and names and (NAME in names or holds_a_run(path, (*FILES, TRIALS, REFIT))):
            self._clear = False
        elif names - (early if resume else set()):
            raise self._refused(resume, NAME in names, f" (no {NAME})")
        return False

    def _counts(self) -> bool:
        return not self._clear or self.continues or (self.path / NAME).exists()

    def describe(self, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write what the study is, before its log begins; what the folder holds of another one is put aside."""
        if not self._clear:
            self.aside, self._clear = put_aside(self.path), True
        super().describe(recipe_toml, environment)

    def reopen(self) -> None:
        """Remove what says that the study is over."""
        for name in (REPORT, "best.toml", WIDER, PAGE):
            (self.path / name).unlink(missing_ok=True)
