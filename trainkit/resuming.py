"""Continuing a run: which checkpoint, and what has changed since it was saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit import changes, checkpoint
from trainkit.clock import Span
from trainkit.distributed import ONE, Group
from trainkit.distributed.sharding import divides
from trainkit.environment import drift
from trainkit.errors import CheckpointError, MachineError, PluginError, UsageError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, load_recipe, parse_toml
from trainkit.restore import Continued
from trainkit.run import Run
from trainkit.rundir import RunFolder, check_links, read_text
from trainkit.stateful import hooked, mute
from trainkit.verified import fitting


def recipe_of(
    path: Path,
    overrides: Sequence[str],
    plugins: Plugins,
    extend: str = "",
    show: Callable[[str], None] | None = None,
) -> Recipe:
    """The recipe that a run folder holds, with changes, for ``trainkit resume``.

    Args:
        path: the run folder.
        overrides: changes, as ``key=value``.
        plugins: the plugins of this process.
        extend: how much longer the run is to be, such as ``20ep``; schedules keep the old length unless ``overrides``
            or the recipe say another ``run.on_length_change``.
        show: shown what of a recipe of an older format is read as something else.

    Raises:
        UsageError: if it is no run folder, or ``extend`` fits neither the run nor the other changes.
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
        _check_none_lost(path)
        raise CheckpointError(
            f"{path}: the run ended before its first checkpoint; start it again with\n"
            f"  trainkit run {file} --run-dir {path} --resume"
        )
    if extend:
        overrides = [*overrides, *_longer(load_recipe(file, overrides, plugins), overrides, extend)]
    return load_recipe(file, overrides, plugins, show=show)


def _longer(recipe: Recipe, overrides: Sequence[str], extend: str) -> list[str]:
    """The changes that make a run longer.

    Raises:
        UsageError: if that cannot be said in the unit of ``run.duration``.
    """
    settings = recipe.tables["run"]
    before = Span.parse(settings["duration"])
    try:
        more = Span.parse(extend)
    except ValueError as error:
        raise UsageError(f"--extend {extend}: {error}") from error
    if any(change.replace(" ", "").startswith("run.duration=") for change in overrides):
        raise UsageError("--extend adds to run.duration, which is given as well: name one of them")
    if not more.amount:
        raise UsageError(f"--extend {extend}: write more than nothing")
    if more.unit not in (before.unit, "dur"):
        raise UsageError(f'--extend {extend}: run.duration is "{before}"; write {before.unit}, or a share of it in dur')
    amount = before.amount + (before.amount * more.amount if more.unit == "dur" else more.amount)
    word = settings["on_length_change"]
    return [f"run.duration={Span(amount, before.unit)}", *(["run.on_length_change=keep"] if word == "error" else [])]


Newest = tuple[Path, Mapping[str, Tensor], dict[str, Any], dict[Path, str]]
_FRESH = "  to begin again, and keep what is there aside: --fresh"


def newest_for_all(place: RunFolder, recipe: Recipe, group: Group) -> Newest | None:
    """The newest checkpoint that verifies, where the processes of a group divide the model and look for it together.

    Its tensors stay on the disk, which all processes must reach, until each knows the rows that it needs. ``None``
    where there is no checkpoint, and where the first process looks for one alone.

    Raises:
        CheckpointError: if there are checkpoints and none can be used.
    """
    if not divides(recipe.tables["run"]["strategy"], group):
        return None
    from trainkit import sharded

    here = checkpoint.newest_first(place.path / "checkpoints") if place.continues else []
    refused: dict[Path, str] = {}
    folders = group.from_first(here)
    for folder in folders:
        try:
            return folder, *sharded.find(folder, group), refused
        except CheckpointError as error:
            refused[folder] = str(error)
    if folders:
        raise CheckpointError("\n".join([f"{folders[0].parent}: no usable checkpoint", *refused.values(), _FRESH]))
    return None


def find(place: RunFolder, recipe: Recipe, group: Group = ONE, newest: Newest | None = None) -> Continued | None:
    """The checkpoint that a run folder's run goes on from; ``None`` if it never saved one.

    The number of threads becomes that of the checkpoint unless the recipe says one: results on the CPU depend on it.
    Where another number of processes goes on, each keeps its own: they are rounded in other places anyway.

    Args:
        place: the run folder.
        recipe: the recipe that the run goes on with.
        group: the processes that go on with it.
        newest: the checkpoint, where `newest_for_all` has found it.

    Raises:
        CheckpointError: if there are checkpoints and none can be used.
        RecipeError: if the recipe asks for what a checkpoint's state cannot fit.
    """
    parent = place.path / "checkpoints"
    if not checkpoint.newest_first(parent):
        _check_none_lost(place.path)
        return None
    try:
        folder, tensors, state, refused = newest or checkpoint.find_newest(parent)
    except CheckpointError as error:
        raise CheckpointError(f"{error}\n{_FRESH}") from error
    with fitting(folder):
        found = Continued(folder, tensors, state, recipe)
    found.refused.update(refused)
    try:
        before = parse_toml(read_text(place.path / "recipe.toml"), "recipe.toml")
    except (OSError, ValueError) as error:
        raise MachineError(f"{place.path / 'recipe.toml'}: cannot be read: {error}") from error
    found.changes += changes.compare(before, parse_toml(fill_toml(recipe), "the recipe"), recipe)
    changes.refuse(found.changes, before, recipe)
    found.notes += changes.lines(found.changes)
    if (before_it := state.get("processes", 1)) != group.size:
        found.notes.append(
            f"{group.size} process{'es go' if group.size > 1 else ' goes'} on where {before_it} trained: figures agree "
            "with theirs to rounding"
        )
    _take_threads(state, recipe, group)
    return found


def _take_threads(state: Mapping[str, Any], recipe: Recipe, group: Group) -> None:
    if recipe.tables["run"]["threads"] is None and state.get("processes", 1) == group.size:
        torch.set_num_threads(state["threads"])


def found_by_first(
    group: Group, found: Continued | None, recipe: Recipe, newest: Newest | None = None
) -> Continued | None:
    """What the first process has found, in every process of a group.

    Only the first needs to see the run folder, unless all have looked at the ``newest`` checkpoint together.
    """
    given = group.from_first(None if found is None else (str(found.folder), found.state))
    if given is None:
        return None
    name, state = given
    tensors = group.tensors_from_first(None if found is None else found.tensors) if newest is None else newest[1]
    if found is None:
        with fitting(Path(name)):
            found = Continued(Path(name), tensors, state, recipe)
        _take_threads(state, recipe, group)
    return found


def over(folder: Path) -> dict[str, Any] | None:
    """The report of a run that is over: finished, or stopped for a reason that its recipe asked for."""
    try:
        report: dict[str, Any] = json.loads(read_text(folder / "report.json"))
        return report if report["status"] in ("finished", "stopped") else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


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


def check_environment(
    place: RunFolder, found: Continued, now: Mapping[str, Any], accept: bool
) -> dict[str, tuple[Any, Any]]:
    """What has changed outside the recipe since the run's last process and may change numbers: ``{key: (was, is)}``.

    Raises:
        MachineError: if there is anything and ``accept`` is not given.
    """
    changed = {change.key: change for change in found.changes}
    try:
        before = json.loads(read_text(place.path / "environment.json"))
        differs = drift(before, now, changed)
    except (OSError, ValueError, RecursionError, AttributeError):
        differs = {"environment.json": ("not readable", "written anew")}
    said = [
        f"the environment has changed: {key} is {_shown(has)}, was {_shown(had)}" for key, (had, has) in differs.items()
    ]
    if said and not accept:
        cure = "results may differ from those of the uninterrupted run; put it back, or go on with --accept-drift"
        raise MachineError(
            "\n".join([f"{place.path}: the run was not continued", *(f"  {line}" for line in said), f"  {cure}"])
        )
    found.notes[:0] = said
    return differs


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)


def check_state(run: Run, found: Continued, plugins: Plugins, accept: bool) -> None:
    """Refuse to lose state: whatever sees the training must save what it holds, or say that it holds nothing.

    Raises:
        PluginError: naming plugins and objects, if ``accept`` is not given.
    """
    lost, unsaved = mute(run), found.state.get("unsaved", [])
    if not lost and not unsaved:
        return
    text = lost_state(run, plugins, lost) if lost else _unsaved(run, plugins, unsaved)
    if not accept:
        raise PluginError(f"{text}\n  to go on without what it holds: --accept-drift")
    found.notes.append(text)


def _unsaved(run: Run, plugins: Plugins, names: Sequence[str]) -> str:
    use = run.recipe["optimizer"]["use"]
    owners = ", ".join(str(plugins.owner(component)) for component in plugins.find("optimizer", use))
    return (
        f"a continued run would lose state of the optimizer '{use}' of {owners}: {', '.join(map(str, names))} changes "
        "while it trains, outside its state and groups, and it has no hooks trainkit_save and trainkit_restore"
    )


def lost_state(run: Run, plugins: Plugins, labels: Sequence[str]) -> str:
    """Name what would lose its state, with the plugin that it comes from."""
    parts, named = dict(hooked(run.hook)), []
    for label in labels:
        module = getattr(parts[label], "__name__", None) or type(parts[label]).__module__
        owner = next((plugin for plugin in plugins.plugins if plugin.package == module.split(".")[0]), None)
        named.append(f"{label} of {owner}" if owner else label)
    return (
        f"a continued run would lose the state of {', '.join(named)}: it has hooks that see the training, and neither "
        "saves what it holds (trainkit_save, trainkit_restore) nor says stateless = True"
    )


def begin(place: RunFolder, found: Continued | None, say: Callable[[str], None]) -> None:
    """Say what has changed, and clear the folder of what does not count, when it is certain that the run goes on.

    Args:
        place: the run folder.
        found: what the run goes on from; ``None`` if it begins again.
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
    for note in found.notes:
        say(note)
    say(f"the run goes on from update {found.position}")
    place.log(found.matched)


def _check_none_lost(path: Path) -> None:
    """A run without checkpoints begins again; one that had some and lost them does not.

    Raises:
        CheckpointError: naming what shows that there were checkpoints.
    """
    lines = [f"{folder}: was refused before" for folder in sorted((path / "checkpoints").glob("refused-step-*"))]
    if (path / "best.json").exists():
        lines.append(f"{path / 'best.json'}: names a checkpoint, which is not there")
    try:
        status = json.loads(read_text(path / "report.json"))["status"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        status = "failed"  # before its first checkpoint, or with no report at all
    if status != "failed":
        lines.append(f"{path / 'report.json'}: the run is {status}, and its checkpoints are not there")
    if lines:
        cure = f"  to begin again, and keep what is there aside: --run-dir {path} --fresh"
        raise CheckpointError("\n".join([f"{path / 'checkpoints'}: no usable checkpoint", *lines, cure]))
