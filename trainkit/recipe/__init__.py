"""Recipes: read safely, put together, checked whole, filled; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from trainkit.errors import Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.bases import open_recipe, packaged_recipes
from trainkit.recipe.check import check_parts, check_recipe
from trainkit.recipe.compose import compose
from trainkit.recipe.filled import FilledTables, Origin, Recipe, named_tables, problem_at
from trainkit.recipe.lock import check_in_use, check_installed, check_locked
from trainkit.recipe.merge import Composed
from trainkit.recipe.migrate import renewed
from trainkit.recipe.own import base_point
from trainkit.recipe.pack_drift import changed_defaults, chosen_anew, meet
from trainkit.recipe.packed import Pack
from trainkit.recipe.paths import data_roots
from trainkit.recipe.positions import Source
from trainkit.recipe.read import parse, parse_text
from trainkit.recipe.requires import check_requires
from trainkit.recipe.schema import json_schema
from trainkit.recipe.searching import SearchPlan
from trainkit.recipe.text import shown, shown_value, toml_key
from trainkit.recipe.trials import Written, check_trials, ensemble_recipe, search_of, trial_recipe
from trainkit.recipe.write import fill_toml, origin_lines, to_toml

__all__ = [
    "FilledTables",
    "Origin",
    "Recipe",
    "SearchPlan",
    "Written",
    "base_point",
    "data_roots",
    "ensemble_recipe",
    "fill_toml",
    "json_schema",
    "load_recipe",
    "named_tables",
    "origin_lines",
    "packaged_recipes",
    "parse_toml",
    "parts_from_text",
    "problem_at",
    "recipe_from_text",
    "search_of",
    "shown",
    "shown_value",
    "to_toml",
    "toml_key",
    "trial_recipe",
]


def load_recipe(
    source: str | Path,
    overrides: Sequence[str],
    plugins: Plugins,
    tell: Callable[[str], None] | None = None,
    *,
    show: Callable[[str], None] | None = None,
    locked: bool = False,
) -> Recipe:
    """Read a recipe with its bases, lay the overrides over it, check it and fill its defaults.

    Args:
        source: a file, a pack, ``package:name`` for one that a package ships, or ``-`` for standard input.
        overrides: ``key=value`` of the command line.
        plugins: the plugins whose components it may name.
        tell: told what has changed since a pack was made; if not given, that is a problem.
        show: shown what of files of an older format is read as something else.
        locked: hold bases and distributions to the lock file beside the recipe.

    Raises:
        RecipeError: with every problem found, sorted by place.
        PluginDefect: if a plugin fails while it checks the recipe.
    """
    opened = open_recipe(str(source), plugins)
    try:
        composed, problems = compose(opened, overrides, plugins, show)
    except RecipeError as error:
        if locked and any(problem.environment for problem in error.problems):
            check_installed(opened)  # which knows the versions
        raise
    if locked:
        check_locked(composed, plugins)
    if opened.pack is None:
        recipe = _checked(composed, problems, plugins)
        if locked:
            check_in_use(recipe)
        return recipe
    return _unpacked(opened.pack, composed, problems, plugins, tell)


def _unpacked(
    pack: Pack, composed: Composed, problems: list[Problem], plugins: Plugins, tell: Callable[[str], None] | None
) -> Recipe:
    """The checked recipe of a pack: what is not installed is one problem, whatever else that entails."""
    if lacking := check_requires(composed):
        raise RecipeError(lacking)
    recipe = _checked(composed, problems, plugins)
    recipe.pack, pack.tell = pack, tell
    meet(pack, changed_defaults(recipe, pack))
    if key := chosen_anew(recipe, pack):
        recipe.notes.append(f"{key} is not that of the pack, so that the data is not compared with the pack's")
    return recipe


def recipe_from_text(text: str, name: str, overrides: Sequence[str], plugins: Plugins) -> Recipe:
    """As `load_recipe`, of a recipe that is in no file.

    Args:
        text: the recipe; one that this process has checked and `Written` is not checked again.
        name: what messages call it.
        overrides: as ``key=value``.
        plugins: the plugins whose components it may name.

    Raises:
        RecipeError: as `load_recipe`.
        PluginDefect: as `load_recipe`.
    """
    if isinstance(text, Written) and not overrides:
        return text.checked(name)
    composed, problems = compose(parse(text.encode(), name), overrides, plugins)
    return _checked(composed, problems, plugins)


def parts_from_text(text: str, name: str, names: Collection[str], plugins: Plugins) -> Recipe:
    """A few tables of a filled recipe, see `check_parts`; they can be built alone.

    Args:
        text: the recipe.
        name: what messages call it.
        names: the tables that name components.
        plugins: the plugins whose components it may name.

    Raises:
        RecipeError: with every problem of these tables.
    """
    composed, problems = compose(parse(text.encode(), name), [], plugins)
    if problems:
        raise RecipeError(problems)
    return check_parts(composed, names, plugins)


def _checked(composed: Composed, problems: list[Problem], plugins: Plugins) -> Recipe:
    recipe = check_recipe(composed, problems, plugins)
    if found := check_trials(recipe):
        raise RecipeError(found)
    return recipe


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Read TOML as recipes are read: its form is looked at before it is parsed, its meaning is not checked.

    What is of an older format comes in the newest one.

    Args:
        text: the text.
        name: what messages call it.

    Raises:
        RecipeError: if it is not TOML, asks too much of the reader, or has a newer format.
    """
    source = Source(name, text)
    source.tables.update(parse_text(source))
    return renewed(source).tables
