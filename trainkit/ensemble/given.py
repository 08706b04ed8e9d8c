"""``trainkit ensemble``: one model of finished runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit import rundir
from trainkit.console import emit_json
from trainkit.ensemble.command import ensemble, exit_code
from trainkit.ensemble.members import check_sources
from trainkit.ensemble.outset import Ready
from trainkit.ensemble.sources import sources_of
from trainkit.errors import MachineError, UsageError
from trainkit.finished import folder_of
from trainkit.recipe import Recipe, load_recipe, parse_toml

if TYPE_CHECKING:
    from trainkit.manager import Plugins
    from trainkit.signals import Signals


# What of a run's [data] says which samples it was trained on: each member has its own.
_OWN_CUT = ("folds", "fold", "fold_by", "train_on", "bag")


def ensemble_of_runs(
    paths: Sequence[Path], settings: Sequence[str], plugins: Plugins, args: Any, signals: Signals, command: str
) -> int:
    """Make an ensemble of finished runs, and show how it ended; the exit code.

    Args:
        paths: run folders, checkpoints, studies.
        settings: those of ``[ensemble]``, as ``key=value``.
        plugins: the plugins of this process.
        args: the options of the verb.
        signals: what catches signals.
        command: what the user typed.

    Raises:
        UsageError: if a path is none of these, or its run is not finished.
        RecipeError: if there is no such ensembler, or it has no such setting.
        MachineError: if the folder is in use.
    """
    folder = Path(args.out) if args.out else rundir.runs_root() / rundir.new_folder_name(f"{args.use} ensemble")
    _require_free(folder)
    sources = sources_of(paths)
    check_sources(sources)
    first = folder_of(sources[0].paths[0])
    recipe = recipe_for(first, args.use, settings, plugins)
    ready = Ready(given=sources, name=str(first))
    made = ensemble(recipe, plugins, folder, args, signals, command, False, ready, option="--out")
    if args.json:
        emit_json(made.as_dict())
    return exit_code(made)


def recipe_for(run: Path, use: str, settings: Sequence[str], plugins: Plugins) -> Recipe:
    """The recipe of a finished run with an ``[ensemble]``: its data, loss and metrics are those of the ensemble.

    The samples are those that the data component itself chooses, whichever of them the run was trained on.

    Args:
        run: the run folder.
        use: the ensembler.
        settings: as ``members=5`` or ``ensemble.members=5``.
        plugins: the plugins of this process.

    Raises:
        UsageError: if a setting is of another table.
        RecipeError: if it makes no recipe.
    """
    keys = []
    for setting in settings:
        key, _, value = setting.partition("=")
        key = key.strip().removeprefix("ensemble.")
        if key == "use":
            raise UsageError(f"{setting}: name the ensembler with --use {value.strip()}")
        keys.append(f"ensemble.{key}={value}")
    source = run / "recipe.toml"
    written = parse_toml(rundir.read_text(source), str(source)).get("data")
    cut = [f"data.{key}" for key in _OWN_CUT if isinstance(written, dict) and key in written]
    drop = [f"drop={json.dumps(cut)}"] if cut else []
    return load_recipe(source, [*drop, f"ensemble.use={_text(use)}", *keys], plugins)


def _text(word: str) -> str:
    """A word as TOML text, whatever else it could be read as."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _require_free(folder: Path) -> None:
    """Refuse a folder that holds something before anything is read."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise MachineError(f"{folder}: there is a file of this name; name a new folder with --out")
    if any(name != ".lock" for name in os.listdir(folder)):
        raise MachineError(f"{folder}: the folder is not empty; name a new one with --out")
