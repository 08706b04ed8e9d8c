"""Searches and ensembles that are repeated: one after the other, since each trains many runs at once itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.ensemble.command import ensemble_alone, search_and_ensemble
from trainkit.ensemble.outset import EnsembleFinished
from trainkit.ensemble.ready import check_ensembler
from trainkit.ensemble.training import Stopped
from trainkit.errors import Exit, MachineError, TrainkitError
from trainkit.recipe import Recipe
from trainkit.repeats.show import RepeatsDisplay
from trainkit.search.begin import StudyFinished
from trainkit.search.command import search
from trainkit.signals import Signals

if TYPE_CHECKING:
    from trainkit.manager import Plugins


class WholeRuns:
    """Makes studies or ensembles of one recipe.

    Args:
        plugins: the plugins of this process.
        args: the options of the command.
        signals: what stops it.
        display: told of each.
    """

    def __init__(self, plugins: Plugins, args: Any, signals: Signals, display: RepeatsDisplay) -> None:
        self._plugins = plugins
        self._args = args
        self._signals = signals
        self._display = display

    def run(self, folders: Mapping[str, tuple[Path, Recipe]], total: int, command: str) -> dict[str, str]:
        """Make each, or go on with what its folder has.

        Args:
            folders: folder and recipe of each that is not over, by name.
            total: how many there are, with those that are over.
            command: what the user typed.

        Returns:
            Why those that failed did, by name.

        Raises:
            Stopped: if a signal or a time limit came.
            TrainkitError: if the first met what all others would.
        """
        failed: dict[str, str] = {}
        done = total - len(folders)
        any_done = done > 0
        for number, (name, (folder, recipe)) in enumerate(folders.items(), done + 1):
            if self._signals.name:
                raise Stopped(f"signal {self._signals.name}")
            self._display.say(f"{name}  ({number} of {total})")
            try:
                code = self._one(recipe, folder, f"{command} # {name}")
            except (StudyFinished, EnsembleFinished):
                code = Exit.DONE
            except MachineError:
                raise
            except TrainkitError as error:
                if not any_done and error.exit_code in (Exit.RECIPE, Exit.ENVIRONMENT, Exit.DEFECT):
                    raise
                failed[name] = str(error)
                self._display.failed(name, "failed", str(error))
                continue
            if code == Exit.STOPPED:
                raise Stopped(f"signal {self._signals.name}" if self._signals.name else f"{name} was stopped")
            if code == Exit.DONE:
                any_done = True
            else:
                failed[name] = "no trial is done"
        return failed

    def _one(self, recipe: Recipe, folder: Path, command: str) -> int:
        make: Callable[..., int] = ensemble_alone
        if recipe.search is not None:
            make = search
            if "ensemble" in recipe.tables:
                check_ensembler(recipe)  # what it refuses would be found days later
                make = search_and_ensemble
        return make(recipe, self._plugins, folder, self._args, self._signals, command, True)
