"""What may change between two processes of one study: it may become wider, and be carried out in another way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import changes
from trainkit.environment import drift
from trainkit.errors import MachineError, UsageError
from trainkit.recipe import Recipe, fill_toml, parse_toml
from trainkit.rundir import read_text
from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Study

# What changes no result of a trial: where trials are trained, when the search stops, what comes after it.
FREE = (
    "search.executor",
    "search.time_limit",
    "search.refit",
    "search.test",
    "ensemble",
    "run.keep",
    "run.log_every",
    "run.save_in_background",
    "run.save_pause",
    "logger",
)


def check_values(study: Study, objectives: Sequence[Objective], parts: int) -> None:
    """Hold that the value of a trial is what it was: no acceptance makes others of those that the log has.

    Args:
        study: as its log has it.
        objectives: what the recipe now wants.
        parts: how many runs a trial now has.

    Raises:
        UsageError: if it is not.
    """
    was, now = (", ".join(f"{one.figure} ({one.mode})" for one in some) for some in (study.objectives, objectives))
    wrong = [f"the objective is {now}, was {was}"] if was != now else []
    if study.parts != parts:
        wrong.append(f"a trial (search.folds, search.repeats) has {parts} runs, had {study.parts}")
    if wrong:
        cure = "  what a trial's value is cannot change within a study; put it back, or begin a new one"
        raise UsageError("\n".join([f"{study.folder}: the study was not continued", *(f"  {w}" for w in wrong), cure]))


def check_changes(path: Path, recipe: Recipe, accept: bool) -> dict[str, tuple[str, str]]:
    """Compare a recipe with the one that the study has: ``{key: (was, is)}``.

    Raises:
        UsageError: with each change that would make another study of it, if ``accept`` is not given.
    """
    try:
        before = parse_toml(read_text(path / "recipe.toml"), "recipe.toml")
    except (OSError, ValueError) as error:
        raise MachineError(f"{path / 'recipe.toml'}: cannot be read: {error}") from error
    found = changes.compare(before, parse_toml(fill_toml(recipe), "the recipe"), recipe)
    refused = [change for change in found if not _may(change)]
    if refused and not accept:
        lines = [f"{path}: the study was not continued, as its recipe has changed and its trials would not compare"]
        lines += [f"  {change.key} = {change.now} (was {change.was})" for change in refused]
        lines += ["  put it back, begin a new study, or go on with --accept-drift; more trials, wider ranges, another"]
        lines += ["  executor and time limit are welcome"]
        raise UsageError("\n".join(lines))
    return {change.key: (change.was, change.now) for change in found}


def _may(change: changes.Change) -> bool:
    """Whether a key may change; of trials and ranges, `check_wider` decides."""
    if change.key.startswith("search.space") or change.key == "search.trials":
        return True
    return any(change.key == key or change.key.startswith(f"{key}.") for key in FREE)


def check_wider(path: Path, had: Space, has: Space, begun: int, trials: int, accept: bool) -> None:
    """Hold that a study became wider, if anything.

    Args:
        path: the study folder.
        had: the space that its trials were drawn from.
        has: the one that it is to go on with.
        begun: how many trials have been begun.
        trials: how many may be.
        accept: whether other ranges are accepted.

    Raises:
        UsageError: naming what became narrower.
    """
    if trials < begun:
        raise UsageError(f"{path}: search.trials = {trials}, and {begun} trials have been begun; write at least that")
    old, new = ({dimension.name: dimension for dimension in space.dimensions} for space in (had, has))
    wrong = [f"{name} is no longer varied" for name in old if name not in new]
    wrong += [f"{name} was not varied before" for name in new if name not in old]
    wrong += [f"{name}: {why}" for name in old if name in new and (why := narrower(old[name], new[name]))]
    if had.limits != has.limits:
        wrong.append("search.constraint has changed")
    if wrong and not accept:
        cure = "ranges may become wider, and choices may be added at the end; or go on with --accept-drift"
        raise UsageError("\n".join([f"{path}: the study was not continued", *(f"  {w}" for w in wrong), f"  {cure}"]))


def narrower(old: Dimension, new: Dimension) -> str:
    """Why a dimension is not the old one or a wider one; ``""`` if it is."""
    if (old.kind, old.scale, old.step, old.unit, dict(old.when)) != (
        new.kind, new.scale, new.step, new.unit, dict(new.when),
    ):  # fmt: skip
        return "its kind, scale, step, unit or condition has changed"
    if old.kind == "choice":
        same = list(map(repr, new.choices[: len(old.choices)])) == list(map(repr, old.choices))
        return "" if same else f"its choices {list(new.choices)} do not begin with {list(old.choices)}"
    if new.low > old.low or new.high < old.high:
        return f"{new.low:g} to {new.high:g} is narrower than {old.low:g} to {old.high:g}"
    return ""


def check_environment(
    path: Path, now: Mapping[str, Any], changed: Mapping[str, Any], accept: bool
) -> dict[str, tuple[Any, Any]]:
    """What has changed outside the recipe and may change numbers: ``{key: (was, is)}``.

    Raises:
        MachineError: if there is anything and ``accept`` is not given.
    """
    try:
        differs = drift(json.loads(read_text(path / "environment.json")), now, changed)
    except (OSError, ValueError, RecursionError, AttributeError):
        differs = {"environment.json": ("not readable", "written anew")}
    if differs and not accept:
        said = [f"  {key} is {_shown(has)}, was {_shown(had)}" for key, (had, has) in differs.items()]
        cure = "  later trials may not compare with earlier ones; put it back, or go on with --accept-drift"
        raise MachineError(
            "\n".join([f"{path}: the study was not continued: the environment has changed", *said, cure])
        )
    return differs


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)
