"""One recipe with ``[ensemble]`` to one ensemble folder: begun, or continued as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit import changes, rundir
from trainkit.aside import put_aside
from trainkit.ensemble.artefact import MANIFEST
from trainkit.ensemble.asking import Asking
from trainkit.ensemble.base import Base
from trainkit.ensemble.folder import MADE_OF, EnsembleFolder, digest_of
from trainkit.ensemble.making import made_whole
from trainkit.ensemble.members import Source
from trainkit.ensemble.show import EnsembleDisplay
from trainkit.ensemble.training import FREE, Stopped, Training
from trainkit.ensemble.workshop import Opened, RecipeWorkshop
from trainkit.environment import environment
from trainkit.errors import MachineError, UsageError
from trainkit.history import remember
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, fill_toml, parse_toml, to_toml, trial_recipe
from trainkit.recipe.paths import users_paths
from trainkit.rundir import read_text, write_atomically
from trainkit.search.plan import settled
from trainkit.signals import Signals, StopNow
from trainkit.tables import OF_SEVERAL_RUNS
from trainkit.work import Site


@dataclass(frozen=True)
class Ready:
    """What an ensemble is made of beside its recipe.

    Args:
        given: the finished runs that the user named.
        trials: the done trials of a search, the best first.
        name: what messages call the base: the recipe, run or study whose data counts.
    """

    given: Sequence[Source] | None = None
    trials: Sequence[Source] | None = None
    name: str = ""

    def as_dict(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """What ``made_of.json`` says of it."""
        named = {
            key: None
            if sources is None
            else [{"name": source.name, "paths": [str(path.absolute()) for path in source.paths]} for source in sources]
            for key, sources in (("given", self.given), ("trials", self.trials))
        }
        return {"recipe": digest_of(recipe), "base": self.name, **named}


def given_before(folder: Path) -> Ready | None:
    """The finished runs that the ensemble in a folder was to be made of; ``None`` if its members are trained."""
    try:
        found = json.loads(read_text(folder / MADE_OF))
        given = found["given"]
        if given is None:
            return None
        sources = [Source(str(one["name"]), tuple(map(Path, one["paths"]))) for one in given]
        return Ready(given=sources, name=str(found["base"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class EnsembleFinished(UsageError):
    """The ensemble is there, and its recipe asks for no other."""


@dataclass
class Made:
    """How the making of an ensemble ended.

    Args:
        folder: the ensemble folder.
        status: ``finished``, or ``interrupted`` by a signal, to be continued.
        reason: why, in words.
        report: what ``report.json`` has; empty where it was interrupted.
        notes: what a reader should know.
    """

    folder: Path
    status: str
    reason: str
    report: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What is shown as JSON."""
        return {"status": self.status, "reason": self.reason, **self.report, "folder": str(self.folder)}


def make_ensemble(
    recipe: Recipe,
    plugins: Plugins,
    folder: Path | None = None,
    *,
    ready: Ready | None = None,
    modules: Sequence[str] = (),
    without: Sequence[str] = (),
    display: EnsembleDisplay | None = None,
    command: str = "",
    resume: bool = False,
    fresh: bool = False,
    accept_drift: bool = False,
    signals: Signals | None = None,
    again: str = "",
) -> Made:
    """Make an ensemble as a recipe says: train its members or open them, choose, calibrate, freeze, measure, report.

    Args:
        recipe: the checked recipe, with ``[ensemble]``.
        plugins: the plugins of this process.
        folder: the ensemble folder; a new one under `rundir.runs_root` if not given.
        ready: finished runs that it is made of.
        modules: plugins given with ``-p``, for the processes that train.
        without: plugins left out with ``--without``, for the same.
        display: shows what is done; nobody does if not given.
        command: what the user typed, kept in ``environment.json``.
        resume: continue the ensemble that ``folder`` holds; where it holds none, begin it.
        fresh: put what ``folder`` holds aside, and begin anew.
        accept_drift: let members go on also where what they run on has changed.
        signals: what catches signals already; by default they are caught until all is done.
        again: the command that goes on; ``""``: ``trainkit resume`` and the folder.

    Returns:
        How it ended, or that a signal stopped it.

    Raises:
        TrainkitError: whatever kept it from starting, or ended it; all members so far are kept.
    """
    display, signals = display or EnsembleDisplay(-1), signals or Signals()
    recipe = settled(recipe, plugins)
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with signals, users_paths(recipe), EnsembleFolder(path, resume, fresh) as place:
        if place.aside is not None:
            display.say(f"note: what was here is kept in {place.aside}; this ensemble starts from the beginning")
        session = _Session(recipe, plugins, place, display, signals, ready or Ready(), accept_drift)
        session.again = again or session.again
        try:
            return session.run(command, modules, without)
        except (Stopped, StopNow) as stop:
            return Made(path, "interrupted", str(stop), notes=session.notes)
        except OSError as error:
            raise MachineError(
                f"{error.filename or path}: {error.strerror or error}\n"
                f"  all members so far are kept; make room, or put it right, and go on: {session.again}"
            ) from error


class _Session:
    """One process of an ensemble."""

    def __init__(
        self,
        recipe: Recipe,
        plugins: Plugins,
        place: EnsembleFolder,
        display: EnsembleDisplay,
        signals: Signals,
        ready: Ready,
        accept_drift: bool,
    ) -> None:
        self.recipe = recipe
        self.plugins = plugins
        self.place = place
        self.display = display
        self.signals = signals
        self.ready = ready
        self.accept_drift = accept_drift
        self.notes: list[str] = []
        self.path = place.path
        self.again = f"trainkit resume {place.path}"

    def run(self, command: str, modules: Sequence[str], without: Sequence[str]) -> Made:
        recipe, place = self.recipe, self.place
        builder = Builder(recipe, self.plugins, silent)
        asking = Asking(recipe, self.plugins, builder.make("ensemble"))
        single = trial_recipe(recipe, {})
        self._compare(single)
        base = Base(single, self.plugins, name=self.ready.name or recipe.path, say=self.note)
        alone = to_toml({key: value for key, value in recipe.tables.items() if key not in OF_SEVERAL_RUNS})
        seed = recipe.tables["seed"]
        site = Site(place.path, tuple(modules), tuple(without), seed, self.note, recipe=alone)
        training = Training(
            lambda: builder.make("ensemble", "executor"),
            site,
            self.signals,
            self.accept_drift,
            self._training,
            self.display.rested,
        )
        opened = [
            None if sources is None else Opened(sources, base, self._look)
            for sources in (self.ready.given, self.ready.trials)
        ]
        workshop = RecipeWorkshop(
            single, recipe, base, place.path, training, self.note, opened[0], opened[1], self.accept_drift
        )
        try:
            self._describe(single, command)
            report = made_whole(asking, workshop, base, self)
            report["notes"] = self.notes
            self.place.report(report)
        finally:
            self.display.close()
            training.close()
            base.close()
        return Made(place.path, "finished", "all members are there", report, self.notes)

    def _look(self) -> None:
        if self.signals.name:
            raise Stopped(f"signal {self.signals.name}")

    def at_once(self) -> contextlib.AbstractContextManager[None]:
        """Within this a signal ends what is done at once: it can be done again in seconds or minutes."""
        self._look()
        return self.signals.at_once("while the ensemble was put together; its members are kept")

    def _training(self, over: int, total: int) -> None:
        self.place.begun = True
        if over:
            self.display.say(f"{over} of {total} members are trained already")
        self.display.begin(over, total)

    # ------------------------------------------------------------ what was here

    def _compare(self, single: Recipe) -> None:
        """Look whether what the folder holds is of this recipe and these runs; what no longer counts goes.

        Raises:
            UsageError: if its members are of another recipe, or it is finished.
        """
        place = self.place
        if not place.continues:
            return
        path = place.path
        try:
            before = parse_toml(read_text(path / "recipe.toml"), "recipe.toml")
        except (OSError, ValueError) as error:
            raise MachineError(f"{path / 'recipe.toml'}: cannot be read: {error}") from error
        found = changes.compare(before, parse_toml(fill_toml(self.recipe), "the recipe"), self.recipe)
        ours = [change for change in found if change.key.startswith("ensemble")]
        refused = [c for c in found if c not in ours and not any(c.key == f or c.key.startswith(f"{f}.") for f in FREE)]
        if refused and self.ready.trials is not None:  # of a search that has another winner now
            aside = put_aside(path)
            place.continues = False
            self.note(f"the search has another winner: the ensemble that was here is kept in {aside}")
            return
        if refused:
            lines = [f"{path}: the ensemble was not continued, as its members are of another recipe"]
            lines += [f"  {change.key} = {change.now} (was {change.was})" for change in refused[:12]]
            lines += ["  put it back, or name a new folder; settings of [ensemble] may change"]
            raise UsageError("\n".join(lines))
        meaning = [change for change in ours if not change.key.startswith("ensemble.executor")]
        other_runs = self._was_made_of() != self.ready.as_dict(single.tables)
        if place.finished and not meaning and not other_runs:
            raise EnsembleFinished(
                f"{path}: the ensemble is finished; its report is {path / 'report.json'}\n"
                f"  to make another one of the same members, change [ensemble]: trainkit resume {path} ensemble=greedy"
            )
        if (meaning or other_runs) and (path / MANIFEST).is_file():
            if place.finished:
                self.note(
                    "an ensemble was made here before, and measured on the test samples; what is chosen now because of "
                    "that proves nothing"
                )
            place.reopen("longer")

    def _was_made_of(self) -> Any:
        try:
            return json.loads(read_text(self.place.path / MADE_OF))
        except (OSError, ValueError, RecursionError):
            return None

    def _describe(self, single: Recipe, command: str) -> None:
        recipe, path = self.recipe, self.place.path
        versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
        settings = recipe.tables["run"]
        now = environment(recipe.tables["seed"], settings["device"], command, versions, settings["precision"])
        self.place.describe(fill_toml(recipe), now)
        write_atomically(path / MADE_OF, json.dumps(self.ready.as_dict(single.tables), indent=2) + "\n")
        remember(path, "resume" if self.place.continues else "start", 0, command)

    def note(self, text: str) -> None:
        """Tell the user, and readers of the report, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.display.say(f"note: {text}")
