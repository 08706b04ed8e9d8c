"""Names of parameters and of figures that settings refer to, and the place of those settings in the recipe."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainkit import Problem, RecipeError, Run, problem_at


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a parameter's name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def problem(run: Run, component: str, setting: str, message: str, cure: str) -> Problem:
    """A problem at one setting of a callback that is in the recipe once."""
    tables = run.recipe.get("callback", ())
    index = next((i for i, table in enumerate(tables) if table["use"].rpartition(":")[2] == component), 0)
    return problem_at(run.recipe, f"callback.{index}.{setting}", f"[[callback]] {component}: {message}", cure)


def refuse_strangers(run: Run, component: str, setting: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse patterns that match none of the names.

    Raises:
        RecipeError: with a problem for each, naming the nearest names.
    """
    problems = []
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, 3, 0.4) or names[:3]
            message = f'{setting}: "{pattern}" matches no parameter'
            problems.append(problem(run, component, setting, message, f"parameters are named like {', '.join(near)}"))
    if problems:
        raise RecipeError(problems)


def unknown_figures(recipe: Mapping[str, Any]) -> list[Problem]:
    """A problem for each early_stop that waits for a figure which nothing in the recipe gives."""
    metrics = [table["use"].rpartition(":")[2] for table in recipe["metric"]]
    figures = [f"{split}.{name}" for split in ("val", "train") for name in ("loss", *metrics)]
    several = tuple(f"{split}.{name}{mark}" for split in ("val", "train") for name in metrics for mark in "._")
    problems = []
    for index, table in enumerate(recipe["callback"]):
        if table["use"] not in ("early_stop", "trainkit_callbacks:early_stop"):
            continue
        monitor = table["monitor"]
        if monitor in figures or monitor.startswith(several):  # a metric may give several figures, named after it
            continue
        near = difflib.get_close_matches(monitor, figures, 1)
        cure = (f"did you mean '{near[0]}'?  " if near else "") + f"figures of this recipe: {', '.join(figures)}"
        message = f"[[callback]] early_stop: nothing gives the figure '{monitor}'"
        problems.append(problem_at(recipe, f"callback.{index}.monitor", message, cure))
    return problems
