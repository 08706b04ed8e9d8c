"""Continuing a run: which checkpoint, and what has changed since it was saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainkit import checkpoint
from trainkit.clock import Span
from trainkit.errors import CheckpointError, MachineError, RecipeError, UsageError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, load_recipe, parse_toml, problem_at
from trainkit.restore import Continued
from trainkit.run import Run
from trainkit.rundir import RunFolder, check_links, read_text
from trainkit.verified import fitting

_SHOWN = 12  # differences that are named one by one
_FREE = {"command"}  # of the environment: nothing depends on it


def recipe_of(path: Path, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """The recipe that a run folder holds, with changes, for ``trainkit resume``.

    Raises:
        UsageError: if it is no run folder.
        CheckpointError: if the run has no checkpoint yet.
        RecipeError: if the recipe, as changed, has problems.
    """
    file = path / "recipe.toml"
    if not file.is_file():
        where = path.parent.parent if path.parent.name == "checkpoints" else None
        cure = f"resume takes the run folder: {where}" if where else "name a folder that 'run' made"
        raise UsageError(f"{path}: not a run folder (there is no {file}); {cure}")
    check_links(path)
    if not checkpoint.newest_first(path / "checkpoints"):
        raise CheckpointError(
            f"{path}: the run ended before its first checkpoint; start it again with\n"
            f"  trainkit run {file} --run-dir {path} --resume"
        )
    return load_recipe(file, overrides, plugins)


def find(place: RunFolder, recipe: Recipe) -> Continued | None:
    """The checkpoint that a run folder's run goes on from; ``None`` if it never saved one.

    The number of threads becomes that of the checkpoint unless the recipe says one: results on the CPU depend on it.

    Raises:
        CheckpointError: if there are checkpoints and none can be used.
        RecipeError: if the recipe asks for what a checkpoint's state cannot fit.
    """
    parent = place.path / "checkpoints"
    if not checkpoint.newest_first(parent):
        return None
    folder, tensors, state, refused = checkpoint.find_newest(parent)
    with fitting(folder):
        found = Continued(folder, tensors, state, recipe)
    found.refused.update(refused)
    try:
        before = parse_toml(read_text(place.path / "recipe.toml"), "recipe.toml")
    except (OSError, ValueError) as error:
        raise MachineError(f"{place.path / 'recipe.toml'}: cannot be read: {error}") from error
    _check_fixed(before, recipe)
    found.notes += _changes(before, parse_toml(fill_toml(recipe), "the recipe"))
    if recipe.tables["run"]["threads"] is None:
        torch.set_num_threads(state["threads"])
    return found


def _check_fixed(before: Mapping[str, Any], recipe: Recipe) -> None:
    """What no checkpoint can be continued with: another optimizer, another seed.

    Raises:
        RecipeError: naming what has changed.
    """
    problems = []
    now = recipe.tables
    if now["seed"] != before.get("seed"):
        began = f"the run began with {before.get('seed')}"
        message = f"seed = {now['seed']}, and {began}: the order of samples follows from it"
        problems.append(problem_at(now, "seed", message, "keep the seed, or start a new run"))
    had, has = list(_uses(before.get("optimizer", {}))), list(_uses(now["optimizer"]))
    if had != has:
        message = f"the optimizer is {' with '.join(has)}; the checkpoint holds the state of {' with '.join(had)}"
        problems.append(problem_at(now, "optimizer.use", message, "keep the optimizer, or start a new run"))
    if problems:
        raise RecipeError(problems)


def _uses(table: Any) -> Iterator[str]:
    """Every component that a table names, in order."""
    if isinstance(table, Mapping):
        if isinstance(table.get("use"), str):
            yield f"'{table['use']}'"
        for value in table.values():
            yield from _uses(value)
    elif isinstance(table, list):
        for item in table:
            yield from _uses(item)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each key of a recipe that is new, gone or has another value."""
    had, has = dict(_leaves(before, ())), dict(_leaves(now, ()))
    lines = []
    for key in dict.fromkeys([*has, *had]):
        if had.get(key) != has.get(key):
            was = json.dumps(had[key]) if key in had else "unset"
            now_is = json.dumps(has[key]) if key in has else "unset"
            lines.append(f"the recipe has changed: {key} = {now_is} (was {was})")
    rest = len(lines) - _SHOWN
    return lines if rest <= 0 else [*lines[:_SHOWN], f"the recipe has changed in {rest} more keys"]


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, str(number)))
    else:
        yield ".".join(path), value


def refuse_finished(place: RunFolder, found: Continued, run: Run) -> None:
    """End here if the run is over and the recipe asks for no more.

    Raises:
        UsageError: saying how to lengthen it.
    """
    try:
        status = json.loads(read_text(place.path / "report.json"))["status"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # without its report a run is not over: the test may not be measured yet
    if status == "finished" and found.position >= run.total_updates:
        span = Span.parse(run.recipe["run"]["duration"])
        longer = Span(2 * span.amount, span.unit)
        raise UsageError(
            f"{place.path}: the run is finished, all {run.total_updates} updates are made; to go on, lengthen it and "
            "say what its schedules do:\n"
            f"  trainkit resume {place.path} run.duration={longer} run.on_length_change=rescale"
        )


def environment_changes(place: RunFolder, now: Mapping[str, Any]) -> list[str]:
    """One line for each thing outside the recipe that has changed since the run's last process."""
    try:
        before = json.loads(read_text(place.path / "environment.json"))
    except (OSError, ValueError, RecursionError):
        return ["environment.json cannot be read: what has changed outside the recipe is not known"]
    had, has = dict(_leaves(before, ())), dict(_leaves(now, ()))
    return [
        f"the environment has changed: {key} is {has.get(key, 'absent')}, was {had.get(key, 'absent')}"
        for key in dict.fromkeys([*has, *had])
        if had.get(key) != has.get(key) and key not in _FREE
    ]


def begin(
    place: RunFolder, found: Continued | None, environment: Mapping[str, Any], say: Callable[[str], None]
) -> None:
    """Say what has changed, and clear the folder of what does not count, when it is certain that the run goes on.

    Args:
        place: the run folder.
        found: what the run goes on from; ``None`` if it begins again.
        environment: as it is now.
        say: tells the user.
    """
    parent = place.path / "checkpoints"
    checkpoint.tidy(parent)
    if found is None:
        say("no checkpoint had been saved: the run starts from the beginning")
        place.cut(0)
        (place.path / "best.json").unlink(missing_ok=True)
        return
    for folder, why in found.refused.items():
        say(f"a checkpoint is refused, and renamed to {checkpoint.set_aside(folder).name}: {why}")
    for note in [*environment_changes(place, environment), *found.notes]:
        say(note)
    say(f"the run goes on from update {found.position}")
    place.log(found.matched)
