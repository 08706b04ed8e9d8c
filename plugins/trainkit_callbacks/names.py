"""Names of parameters that settings refer to, and the place of those settings in the recipe."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from trainkit import Problem, RecipeError, Run, problem_at


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a parameter's name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def problem(run: Run, component: str, setting: str | tuple[str, ...], message: str, cure: str) -> Problem:
    """A problem at one setting of a callback that is in the recipe once, or at one key of a setting that is a table."""
    tables = run.recipe.get("callback", ())
    index = next((i for i, table in enumerate(tables) if table["use"].rpartition(":")[2] == component), 0)
    inside = (setting,) if isinstance(setting, str) else setting
    return problem_at(run.recipe, ("callback", index, *inside), f"[[callback]] {component}: {message}", cure)


def near_names(pattern: str, names: Sequence[str]) -> str:
    """The names nearest to a pattern that matches none."""
    return ", ".join(difflib.get_close_matches(pattern, names, 3, 0.4) or names[:3])


def refuse_strangers(run: Run, component: str, setting: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse patterns that match none of the names.

    Raises:
        RecipeError: with a problem for each, naming the nearest names.
    """
    problems = []
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            message = f'{setting}: "{pattern}" matches no parameter'
            cure = f"parameters are named like {near_names(pattern, names)}"
            problems.append(problem(run, component, setting, message, cure))
    if problems:
        raise RecipeError(problems)
