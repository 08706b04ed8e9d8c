"""One recipe with ``[ensemble]`` to one ensemble folder: begun, or continued as if it had never stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainkit import rundir
from trainkit.ensemble.asking import Asking
from trainkit.ensemble.base import Base
from trainkit.ensemble.folder import MADE_OF, EnsembleFolder
from trainkit.ensemble.making import made_whole
from trainkit.ensemble.outset import Made, Ready, compared
from trainkit.ensemble.show import EnsembleDisplay
from trainkit.ensemble.training import Stopped, Training
from trainkit.ensemble.workshop import Opened, RecipeWorkshop
from trainkit.environment import environment
from trainkit.errors import MachineError
from trainkit.history import remember
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import Recipe, fill_toml, to_toml, trial_recipe
from trainkit.recipe.paths import users_paths
from trainkit.rundir import write_atomically
from trainkit.search.plan import settled
from trainkit.signals import Signals, StopNow
from trainkit.tables import OF_SEVERAL_RUNS
from trainkit.work import Site


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
    option: str = "--run-dir",
    where: str = "",
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
        option: the one that names the folder on the command line, for what is advised.
        where: the place that the user named for the members, where the recipe's executor takes one.

    Returns:
        How it ended, or that a signal stopped it.

    Raises:
        TrainkitError: whatever kept it from starting, or ended it; all members so far are kept.
    """
    display, signals = display or EnsembleDisplay(-1), signals or Signals()
    recipe = settled(recipe, plugins)
    builder = Builder(recipe, plugins, silent)
    asking = Asking(recipe, plugins, builder.make("ensemble"))  # what it refuses leaves no trace
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with signals, users_paths(recipe, path), EnsembleFolder(path, resume, fresh, option) as place:
        if place.aside is not None:
            display.say(f"note: what was here is kept in {place.aside}; this ensemble starts from the beginning")
        session = _Session(recipe, plugins, place, display, signals, ready or Ready(), accept_drift)
        session.again = again or session.again
        try:
            return session.run(builder, asking, command, modules, without, where)
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
        self.described = self.outdated = False
        self.made_of: dict[str, Any] = {}
        self.command = ""
        self.path = place.path
        self.again = f"trainkit resume {place.path}"

    def run(
        self,
        builder: Builder,
        asking: Asking,
        command: str,
        modules: Sequence[str],
        without: Sequence[str],
        where: str,
    ) -> Made:
        recipe, place = self.recipe, self.place
        single = trial_recipe(recipe, {})
        self.made_of = self.ready.as_dict(single.tables)
        self.outdated = compared(recipe, self.made_of, place, self.note) if place.continues else False
        self.command = command
        name = self.ready.name or recipe.path
        base = Base(single, self.plugins, name=name, progress=self.display.progress, say=self.note)
        alone = to_toml({key: value for key, value in recipe.tables.items() if key not in OF_SEVERAL_RUNS})
        seed = recipe.tables["seed"]
        place_of = place.path, tuple(modules), tuple(without), seed, self.note
        site = Site(*place_of, self.display.measured, recipe=alone, progress=self.display.progress, where=where)
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
        self.begin()
        self.place.begun = True
        if over:
            self.display.say(f"{over} of {total} members are trained already")
        self.display.begin(over, total)

    def begin(self) -> None:
        """Write down what is made here, and remove what an earlier ensemble has left beside its members.

        Called when it is certain that members can be had: what was refused before has changed nothing.
        """
        if self.described:
            return
        self.described = True
        if self.outdated:
            self.place.reopen()
        recipe, path = self.recipe, self.place.path
        versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
        settings = recipe.tables["run"]
        given = recipe.tables["seed"], settings["device"], self.command
        now = environment(*given, versions, settings["precision"], recipe.tables.bases)
        self.place.describe(fill_toml(recipe), now)
        write_atomically(path / MADE_OF, json.dumps(self.made_of, indent=2) + "\n")
        remember(path, "resume" if self.place.continues else "start", 0, self.command)

    def note(self, text: str) -> None:
        """Tell the user, and readers of the report, once."""
        if text not in self.notes:
            self.notes.append(text)
            self.display.say(f"note: {text}")
