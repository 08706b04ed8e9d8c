"""``[search]`` of a recipe, read: what is varied, what is made good, what is tried first, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from trainkit.component import own_figures
from trainkit.errors import Problem
from trainkit.recipe.dimensions import SpaceReader
from trainkit.recipe.filled import Recipe
from trainkit.recipe.limits import read_limits
from trainkit.recipe.own import base_point, complete
from trainkit.recipe.text import Path, did_you_mean, shown, shown_value
from trainkit.space import Point, Space
from trainkit.trial import FAILURES, Objective, TrialStatus

Policy = Literal["worst", "drop", "stop", "retry"]
# What may be done where trials fail, the default first.
POLICIES: Mapping[TrialStatus, tuple[Policy, ...]] = {
    "nan": ("worst", "drop", "stop"),
    "oom": ("worst", "drop", "stop"),
    "timeout": ("worst", "drop", "stop"),
    "killed": ("retry", "drop", "stop"),
    "error": ("drop", "worst", "stop"),
}
# What a trial gives beside its metrics.
COSTS = ("parameters", "seconds")


@dataclass(frozen=True)
class SearchPlan:
    """What ``[search]`` of a checked recipe says.

    Args:
        space: what is varied.
        objectives: what is made good, in order.
        starts: points that are tried first, after the recipe as written; each has every value that counts there.
        fail: what is done where trials fail, for each of `FAILURES`.
        settings: the filled table, such as ``settings["trials"]``.
    """

    space: Space
    objectives: tuple[Objective, ...]
    starts: tuple[Point, ...]
    fail: Mapping[TrialStatus, Policy]
    settings: Mapping[str, Any]


def read_search(recipe: Recipe) -> tuple[SearchPlan, list[Problem]]:
    """Read the filled ``[search]`` of a recipe whose other tables may have problems."""
    table: Mapping[str, Any] = recipe.tables["search"]
    problems: list[Problem] = []
    written = table.get("space")
    space = Space(())
    if isinstance(written, dict):
        reader = SpaceReader(recipe.tables.composed, recipe.plugins)
        space = reader.read(written)
        problems += reader.problems
        if not written:
            cure = 'such as "optimizer.lr" = { low = 0.001, high = 0.1, scale = "log" }'
            problems.append(Problem(recipe.tables.place(("search", "space")), "[search.space] is empty", cure))
    objectives = _objectives(recipe, table, problems)
    problems += _settings(recipe, table, space)
    fail = _fail(recipe, table, problems)
    starts: tuple[Point, ...] = ()
    if not problems:  # limits and starts are about a space that is right
        space, faults = read_limits(recipe, space, table.get("constraint") or [])
        problems += faults
        starts = tuple(_starts(recipe, space, table.get("start") or [], problems))
    return SearchPlan(space, objectives, starts, fail, table), problems


def _objectives(recipe: Recipe, table: Mapping[str, Any], problems: list[Problem]) -> tuple[Objective, ...]:
    at = recipe.tables.place
    several, modes = table.get("objectives") or [], table.get("modes") or []
    if several:
        for key in ("objective", "mode"):
            if table.get(key) is not None:
                message = f"[search] {key} is for one objective, and objectives names {len(several)}"
                problems.append(Problem(at(("search", key)), message, "leave one of the two out"))
        if modes and len(modes) != len(several):
            message = f"[search] modes has {len(modes)} for {len(several)} objectives"
            problems.append(Problem(at(("search", "modes")), message, "write one for each, or leave modes out"))
        if len(set(several)) < len(several):
            message = "[search] objectives names a figure twice"
            problems.append(Problem(at(("search", "objectives")), message, "leave one out"))
        _need_weighing(recipe, len(several), problems)
        asked: list[tuple[Path, str, str | None]] = [
            (("search", "objectives", n), figure, modes[n] if n < len(modes) else None)
            for n, figure in enumerate(several)
        ]
    else:
        if modes:
            problems.append(Problem(at(("search", "modes")), "[search] modes is for objectives", "write mode"))
        named = table.get("objective")
        where: Path = ("search", "objective") if named is not None else ("run", "monitor")
        figure = named if named is not None else recipe.tables.get("run", {}).get("monitor")
        asked = [(where, figure, table.get("mode"))] if isinstance(figure, str) else []
    found = []
    for place, figure, mode in asked:
        if (problem := _unknown(recipe, place, figure)) is not None:
            problems.append(problem)
        elif (better := mode or _better(recipe, figure)) is None:
            message = f"[search] nothing says whether a lower or a higher '{shown(figure)}' is better"
            cure = 'write modes = ["min", ...]' if several else 'write mode = "min" or mode = "max"'
            problems.append(Problem(at(place), message, cure))
        else:
            found.append(Objective(figure, cast("Literal['min', 'max']", better)))
    return tuple(found)


def _need_weighing(recipe: Recipe, count: int, problems: list[Problem]) -> None:
    """Several objectives need a searcher that weighs them, itself or in one inside it."""
    searchers = [part for path, part in recipe.components.items() if path[0] == "search" and part.kind == "searcher"]
    if count > 1 and searchers and not any(part.capabilities.get("multi_objective") for part in searchers):
        known = [
            name
            for name, found in recipe.plugins.components("searcher").items()
            if any(part.capabilities.get("multi_objective") for part in found)
        ]
        message = f"[search] {searchers[0].name} cannot weigh {count} objectives against each other"
        cure = f"searchers that can: {', '.join(known) or 'none'}; or write one objective"
        problems.append(Problem(recipe.tables.place(("search", "objectives")), message, cure))


def _metrics(recipe: Recipe) -> list[str]:
    return [part.name for path, part in recipe.components.items() if part.kind == "metric" and len(path) == 2]


def _unknown(recipe: Recipe, place: Path, figure: str) -> Problem | None:
    """What is wrong with an objective's figure."""
    if figure in COSTS:
        return None
    split, _, name = figure.partition(".")
    own = own_figures(recipe.components.values())
    known = [f"val.{name}" for name in ("loss", *dict.fromkeys(_metrics(recipe)), *own)]
    at = recipe.tables.place(place)
    label = "[search] " + ("objectives" if place[1] == "objectives" else "objective")
    if split in ("test", "train") and name:
        why = {
            "test": "the test samples are for the winner alone, once; what is chosen by them proves nothing",
            "train": "it says how well a trial has learnt its samples by heart",
        }[split]
        return Problem(at, f"{label} cannot be '{shown(figure)}': {why}", f'write objective = "val.{name}"')
    several = tuple(f"{other}{mark}" for other in known if other != "val.loss" for mark in "._")
    if figure in known or figure.startswith(several):
        return None
    cure = did_you_mean(figure, known) + f"figures of this recipe: {', '.join((*known, *COSTS))}"
    return Problem(at, f"{label}: nothing gives the figure '{shown(figure)}'", cure)


def _better(recipe: Recipe, figure: str) -> str | None:
    if figure in (*COSTS, "val.loss"):
        return "min"
    name = figure.partition(".")[2]
    for path, part in recipe.components.items():
        if (
            part.kind == "metric"
            and len(path) == 2
            and (name == part.name or name.startswith((f"{part.name}.", f"{part.name}_")))
        ):
            higher = part.capabilities.get("higher_is_better")
            return None if higher is None else "max" if higher else "min"
    own = own_figures(recipe.components.values()).get(name)
    return None if own is None else "max" if own else "min"


def _settings(recipe: Recipe, table: Mapping[str, Any], space: Space) -> Iterator[Problem]:
    """Settings of ``[search]`` that do not go together."""
    at = recipe.tables.place
    folds, repeats = table.get("folds"), table.get("repeats")
    if folds is None and table.get("fold_by") not in ("auto", None):
        message = f'[search] fold_by = "{table["fold_by"]}" says how folds are made, and there are none'
        yield Problem(at(("search", "fold_by")), message, "write folds = 5 too, or leave fold_by out")
    if folds is not None:
        held = recipe.tables.get("data", {})
        for key in ("folds", "fold"):  # a recipe that is filled names fold 0, and says nothing by it
            if held.get(key):
                message = f"[search] folds = {folds} makes folds of its own, and [data] {key} says which is held out"
                yield Problem(at(("search", "folds")), message, f"leave {key} out of [data]")
                break
    if recipe.tables.get("data", {}).get("train_on") == "train+val":
        message = '[data] train_on = "train+val" leaves a search no samples to compare trials on'
        yield Problem(at(("data", "train_on")), message, "leave it out; refit = true trains the winner so")
    if isinstance(repeats, int) and repeats > 1 and any(dimension.name == "seed" for dimension in space.dimensions):
        message = f"[search] repeats = {repeats} gives each trial several seeds, and [search.space] varies seed too"
        yield Problem(at(("search", "repeats")), message, "leave one of the two out")


def _fail(recipe: Recipe, table: Mapping[str, Any], problems: list[Problem]) -> dict[TrialStatus, Policy]:
    policies: dict[TrialStatus, Policy] = {status: POLICIES[status][0] for status in FAILURES}
    written = table.get("fail")
    for status, policy in (written if isinstance(written, dict) else {}).items():
        place = recipe.tables.place(("search", "fail", status))
        if status not in POLICIES:
            cure = did_you_mean(status, POLICIES) + f"statuses: {', '.join(POLICIES)}"
            problems.append(Problem(place, f"[search.fail] has no status '{shown(status)}'", cure))
        elif policy not in POLICIES[status]:
            known = ", ".join(POLICIES[status])
            message = f"[search.fail] {status} must be one of {known}, got {shown_value(policy)}"
            problems.append(Problem(place, message, did_you_mean(str(policy), POLICIES[status]).strip()))
        else:
            policies[status] = policy
    return policies


def _starts(recipe: Recipe, space: Space, starts: list[Any], problems: list[Problem]) -> Iterator[Point]:
    own = base_point(recipe, space)
    for number, start in enumerate(starts):
        try:
            point = complete(recipe, space, start, own)
        except ValueError as error:
            message, _, cure = str(error).partition("\n")
            name = next((key for key in start if f"'{key}'" in message), None)
            path: Path = ("search", "start", number, *([name] if name else []))
            problems.append(Problem(recipe.tables.place(path), f"[[search.start]] {message}", cure))
            continue
        yield point
