"""The folder of the runs of one recipe: one writer, and the names of what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit.arguments import REPEATS
from trainkit.aside import holds_a_run, put_aside
from trainkit.errors import MachineError, UsageError
from trainkit.files import links_out
from trainkit.repeats.plan import Plan, plan_from
from trainkit.rundir import read_text, write_atomically
from trainkit.search.locked import REPORT, LockedFolder

_SHOWN = 12  # runs that are named one by one
FILES = (REPEATS, "recipe.toml", "environment.json", REPORT)


def read_plan(folder: Path) -> Plan:
    """Which runs a folder holds, as its ``repeats.json`` says.

    Raises:
        UsageError: if it does not say.
    """
    file = folder / REPEATS
    try:
        return plan_from(read_text(file), str(file))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error


def runs_of(folder: Path) -> list[Path]:
    """The folders of the runs that a folder holds: itself, where it holds no repeats."""
    if not (folder / REPEATS).is_file():
        return [folder]
    return [folder / repeat.name for repeat in read_plan(folder).repeats]


def check_single(folder: Path, verb: str) -> None:
    """Hold that a folder is that of one run, study or ensemble: a verb has to know which one is meant.

    Raises:
        UsageError: naming those that there are.
    """
    if not (folder / REPEATS).is_file():
        return
    runs = runs_of(folder)
    names = ", ".join(run.name for run in runs[:_SHOWN]) + ", ..." * (len(runs) > _SHOWN)
    raise UsageError(
        f"{folder}: it holds {len(runs)} runs of one recipe: {names}\n  name one: trainkit {verb} {runs[0]}"
    )


class RepeatsFolder(LockedFolder):
    """A locked folder of repeats: with ``fresh``, what it holds is put aside when others begin."""

    HOLDS = "several runs"
    INSIDE = ()
    EARLY = FILES

    _clear = True  # whether what the folder holds need not be put aside
    before = Plan()  # the runs that it holds already

    def _look(self, names: set[str], resume: bool, fresh: bool) -> bool:
        path = self.path
        if resume and REPEATS in names:
            self.before = read_plan(path)
            for link, target in links_out(path, *(repeat.name for repeat in self.before.repeats)):
                raise MachineError(f"{link}: it is a link out of the folder, to {target}; remove it")
            if "recipe.toml" in names:
                return True
        early = {name for name in names if name.startswith(".")} | set(FILES)
        if fresh and names and (REPEATS in names or holds_a_run(path, FILES)):
            self._clear = False
        elif resume and names - early:
            raise MachineError(f"{path}: there are no runs to continue (no {REPEATS}), and the folder is not empty")
        elif names and not resume:
            raise self._refused(resume, REPEATS in names)
        return False

    def holds_runs(self) -> bool:
        """Whether one of the runs has begun."""
        return any((self.path / repeat.name).is_dir() for repeat in self.before.repeats)

    def _counts(self) -> bool:
        return self.holds_runs() or self.continues or not self._clear

    def begin(self, plan: Plan, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write which runs there are to be, then what they are runs of; what is here of others is put aside."""
        if not self._clear:
            self.aside, self._clear = put_aside(self.path), True
        (self.path / REPORT).unlink(missing_ok=True)
        self.before = plan
        write_atomically(self.path / REPEATS, plan.as_json())
        self.describe(recipe_toml, environment)
