"""The ensemble folder: one writer, and the names of what is in it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from trainkit.arguments import holds_ensemble
from trainkit.aside import holds_a_run, put_aside
from trainkit.ensemble.artefact import MANIFEST, RECIPES, STATE, WEIGHTS
from trainkit.rundir import RUN_FILES
from trainkit.search.folder import is_study
from trainkit.search.locked import REPORT, LockedFolder

MEMBERS = "members"
LONGER = "longer"
TEACHER = "teacher"  # an ensemble that members learn from; it stays with the students that it has taught
MADE_OF = "made_of.json"
FILES = ("recipe.toml", "environment.json", "history.jsonl", MADE_OF, MANIFEST, STATE, REPORT)


def member_folder(ensemble: Path, number: int) -> Path:
    """The run folder of a member that was trained for the ensemble."""
    return ensemble / MEMBERS / f"{number:04d}"


def digest_of(value: Any) -> str:
    """SHA-256 of plain values, in which order keys do not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class EnsembleFolder(LockedFolder):
    """A locked ensemble folder: with ``fresh``, an ensemble, a study or a run in it is put aside at once."""

    HOLDS = "an ensemble"
    INSIDE = (MEMBERS, LONGER, TEACHER, WEIGHTS, RECIPES)
    EARLY = (*FILES, TEACHER, WEIGHTS, RECIPES)

    begun = False  # whether something is here that took time to make

    def _look(self, names: set[str], resume: bool, fresh: bool) -> bool:
        path = self.path
        seen = {name for name in names if not name.startswith(".")}
        if resume and holds_ensemble(path):
            return True
        if fresh and (holds_ensemble(path) or is_study(path) or (names and holds_a_run(path, (*FILES, *RUN_FILES)))):
            self.aside = put_aside(path)
        elif seen:  # nothing is written before the recipe, or stays without it: it is no part of an ensemble
            raise self._refused(resume, holds_ensemble(path))
        return False

    def _counts(self) -> bool:
        return self.begun or self.continues or (self.path / MANIFEST).exists()

    @property
    def finished(self) -> bool:
        """Whether it is closed."""
        return (self.path / REPORT).is_file() and (self.path / MANIFEST).is_file()

    def reopen(self) -> None:
        """Remove what says what became of the members, and the longer run, which was to cost what they did."""
        for name in (REPORT, MANIFEST, STATE):
            (self.path / name).unlink(missing_ok=True)
        for name in (WEIGHTS, RECIPES, LONGER):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for drawn in [*self.path.glob("*.png"), *self.path.glob("*.html")]:
            drawn.unlink()
