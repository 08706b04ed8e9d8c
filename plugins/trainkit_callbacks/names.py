"""Patterns of parameter names, and the place of a callback's own settings in the recipe."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

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
