"""What the driver makes of a recipe: the keys that a search adds, the parts of a trial, and the recipe of each run."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.branch import begin_from
from trainkit.errors import MachineError
from trainkit.lines import Lines
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, Written, base_point, search_of, trial_recipe
from trainkit.recipe.check import check_recipe
from trainkit.recipe.overrides import apply_overrides
from trainkit.recipe.searching import Policy
from trainkit.space import Point
from trainkit.trial import Trial, TrialStatus
from trainkit.work import Measured, Outcome

_NO_FIGURES = ("split", "step", "epoch", "time")


@dataclass(frozen=True)
class Plan:
    """What the driver needs to know of a recipe.

    Args:
        trials: how many trials may be begun.
        given: points that are tried before the searcher's own: the recipe's first.
        write: gives the recipe of one of a trial's runs as TOML; raises `RecipeError` where a point makes none.
        objectives: the figures that are made good.
        parts: runs a trial.
        batch: trials asked for before any of their results are told; 0: they are told as they come.
        take: ``last`` or ``best``.
        timeout: seconds that a run may take; 0 for no limit.
        fail: what is done where trials fail.
        branch: makes a run folder that stands where another one's newest checkpoint does; nothing where it is made.
        evaluations: all that a run has measured, as its folder has it.
    """

    trials: int
    given: Sequence[Point]
    write: Callable[[Trial, int], str]
    objectives: tuple[str, ...]
    parts: int = 1
    batch: int = 0
    take: str = "last"
    timeout: float = 0.0
    fail: Mapping[TrialStatus, Policy] = field(default_factory=dict)
    branch: Callable[[Path, Path], None] = lambda parent, folder: None
    evaluations: Callable[[Path, Outcome], list[Measured]] = lambda folder, outcome: []


def settled(recipe: Recipe, plugins: Plugins) -> Recipe:
    """The recipe with what a search or an ensemble sets in its runs, where nobody wrote it.

    It is what the study or ensemble folder keeps: whoever reads it there finds these keys written.
    """
    written, search = recipe.tables.composed.marks, recipe.tables.get("search", {})
    rungs = search.get("checkpoints") == "rungs"
    added: dict[tuple[str, ...], str] = {
        ("run", "threads"): "1",
        **({("run", "save_every"): '"1dur"'} if rungs else {}),
        # A winner whose best evaluation counts is measured on the test samples as it was there.
        **({("run", "save_best"): "false"} if rungs and search["take"] == "last" else {}),
        ("logger",): "[]",
    }
    known = recipe.tables["run"]
    lines = [
        f"{'.'.join(path)}={value}"
        for path, value in added.items()
        if path not in written and (path[0] != "run" or path[1] in known)
    ]
    if not lines:
        return recipe
    composed = copy.deepcopy(recipe.tables.composed)
    return check_recipe(composed, apply_overrides(composed, lines), plugins)


def parts_of(search: Mapping[str, Any]) -> int:
    """How many runs a trial has."""
    return int(search["folds"] or 1) * int(search["repeats"])


def plan_of(recipe: Recipe) -> Plan:
    """The plan of a study, from its recipe, `settled`."""
    search = search_of(recipe)
    settings = search.settings

    def write(trial: Trial, part: int) -> str:
        return run_recipe(recipe, trial, part)

    return Plan(
        trials=settings["trials"],
        given=[base_point(recipe, search.space), *search.starts],
        write=write,
        objectives=tuple(objective.figure for objective in search.objectives),
        parts=parts_of(settings),
        batch=settings["batch"] or 0,
        take=settings["take"],
        timeout=settings["trial_timeout"],
        fail=search.fail,
        branch=begin_from,
        evaluations=evaluations,
    )


def evaluations(folder: Path, outcome: Outcome) -> list[Measured]:
    """What a run measured on the way, from its ``metrics.jsonl``."""
    if not outcome.trained or not outcome.steps:
        return []
    total, lines = round(outcome.steps / outcome.trained), Lines(folder / "metrics.jsonl")
    with contextlib.suppress(OSError, MachineError):
        lines.take_in((folder / "metrics.jsonl").stat().st_size)
    found = []
    for line in lines:
        if line["split"] == "val":
            figures = {f"val.{name}": value for name, value in line.items() if name not in _NO_FIGURES}
            found.append(Measured(line["step"] / total, {k: v for k, v in figures.items() if v is not None}))
    return found


def part_values(recipe: Recipe, trial: Trial, part: int) -> dict[str, Any]:
    """The settings beside its point in which one run of a trial differs from the recipe."""
    search, seed = recipe.tables["search"], recipe.tables["seed"]
    folds, values = search["folds"] or 1, dict(trial.changes)
    if folds > 1:
        values |= {"data.folds": folds, "data.fold": part % folds, "data.fold_by": search["fold_by"]}
    if search["repeats"] > 1:
        values["seed"] = seed + part // folds
    if (search["repeats"] > 1 or "seed" in trial.point) and recipe.tables["data"].get("seed") is None:
        values["data.seed"] = seed  # so that all see the same splits
    return values


def run_recipe(recipe: Recipe, trial: Trial, part: int | None, more: Mapping[str, Any] | None = None) -> str:
    """The recipe of one run of a trial as TOML; it reruns alone, and in this process it need not be checked again.

    Args:
        recipe: the study's.
        trial: the trial.
        part: which of its runs; ``None``: one that is neither a fold nor a repeat.
        more: settings beside.

    Raises:
        RecipeError: if its values make no recipe.
    """
    values = dict(trial.changes) if part is None else part_values(recipe, trial, part)
    return Written(trial_recipe(recipe, trial.point, {**values, **(more or {})}))
