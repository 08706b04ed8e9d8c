"""From a point of a search to the recipe of its trial, and whether the space holds such recipes at all."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

from trainkit.errors import Problem, RecipeError
from trainkit.recipe.check import check_recipe
from trainkit.recipe.compose import compose
from trainkit.recipe.conditions import contexts
from trainkit.recipe.filled import FilledTables, Recipe
from trainkit.recipe.merge import Composed
from trainkit.recipe.own import base_point, usual
from trainkit.recipe.points import laid
from trainkit.recipe.read import parse
from trainkit.recipe.searching import SearchPlan
from trainkit.recipe.values import plain
from trainkit.recipe.write import fill_toml
from trainkit.space import Dimension, Point, Space

# Points that are drawn to find one that constraints allow.
DRAWN = 200
# Recipes that are checked for one dimension: in more surroundings or choices than that, the rest is left to the trials.
MOST = 256


def search_of(recipe: Recipe) -> SearchPlan:
    """What the ``[search]`` of a checked recipe says.

    Raises:
        ValueError: if it has none.
    """
    if recipe.search is None:
        raise ValueError(f"{recipe.path} has no [search] table")
    return recipe.search


def trial_recipe(recipe: Recipe, point: Point, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The checked recipe of one run, such as a trial, without ``[search]`` and ``[ensemble]``.

    Args:
        recipe: the recipe that is searched, or that members of an ensemble are trained from.
        point: values of the trial by dimension; the recipe's own count for the rest.
        changes: other settings by dotted key, such as ``{"run.duration": "1ep"}``; they win.

    Raises:
        RecipeError: if the values do not fit together.
        PluginDefect: if a plugin's own check fails.
    """
    composed = laid(recipe.tables.composed, point, recipe.plugins)
    if changes:
        composed = laid(composed, changes, recipe.plugins)
    return check_recipe(composed, [], recipe.plugins)


def ensemble_recipe(recipe: Recipe, point: Point, changes: Mapping[str, Any] | None = None) -> Recipe:
    """As `trial_recipe`, with the ``[ensemble]`` that the recipe has: members are trained from the rest.

    Raises:
        RecipeError: if the values do not fit together.
        PluginDefect: if a plugin's own check fails.
    """
    whole, name = recipe.tables.composed, "ensemble"
    composed = laid(whole, point, recipe.plugins)
    if changes:
        composed = laid(composed, changes, recipe.plugins)
    if name in whole.tables:
        composed.tables[name] = plain(whole.tables[name])
        composed.marks |= {path: list(marks) for path, marks in whole.marks.items() if path[0] == name}
    return check_recipe(composed, [], recipe.plugins)


class Written(str):
    """A filled recipe as TOML. Sent to another process it is plain text, which is read and checked there.

    Args:
        recipe: the checked recipe; it is of one run, which is trained in this process or another one.
    """

    _recipe: Recipe

    def __new__(cls, recipe: Recipe) -> Written:
        """Write the recipe."""
        text = super().__new__(cls, fill_toml(recipe))
        text._recipe = recipe
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        """What is sent, or copied, is the text alone."""
        return str, (str(self),)

    def checked(self, name: str) -> Recipe:
        """The recipe that reading and checking the text would give: places are those in the text.

        Args:
            name: what messages call it.
        """
        plugins = self._recipe.plugins

        def composed() -> Composed:
            return compose(parse(self.encode(), name), [], plugins)[0]

        return dataclasses.replace(self._recipe, tables=FilledTables(self._recipe.tables, composed), path=name)


def check_trials(recipe: Recipe) -> list[Problem]:
    """Check the recipes at both ends of each range and of each choice, where each counts, and of starting points."""
    if recipe.search is None:
        return []
    space = recipe.search.space
    own = base_point(recipe, space)
    problems: dict[tuple[Any, str], Problem] = {}
    seen: list[Point] = []
    for dimension in space.dimensions:
        for probe in itertools.islice(_probes(space, dimension, own), MOST):
            if probe in seen:
                continue
            seen.append(probe)
            try:
                trial_recipe(recipe, probe)
            except RecipeError as error:
                for problem in error.problems:
                    problems.setdefault((problem.place, problem.message), problem)
    if not problems:
        for number, point in enumerate(recipe.search.starts):
            place = recipe.tables.place(("search", "start", number))
            try:
                trial_recipe(recipe, point)
            except RecipeError as error:
                for problem in error.problems:
                    said = f"[[search.start]] {problem.message}"
                    problems[place, said] = dataclasses.replace(problem, place=place, message=said)
    return list(problems.values())


def _probes(space: Space, dimension: Dimension, own: Point) -> Iterator[dict[str, Any]]:
    before = space.dimensions[: space.dimensions.index(dimension)]
    number = dimension.kind != "choice"
    ends = tuple(map(dimension.value, (dimension.low, dimension.high))) if number else dimension.choices
    draw = random.Random(0)
    for surroundings in contexts(dimension, before):
        for value in ends:
            forced = {**surroundings, dimension.name: value}
            point = _filled(space, forced, own)
            for _ in range(DRAWN):
                if space.allows(point):
                    break
                others = {one.name: one.at(draw.random()) for one in space.dimensions}
                point = _filled(space, forced, others)
            if space.allows(point):
                yield point


def _filled(space: Space, forced: Point, own: Point) -> dict[str, Any]:
    """A whole point: values that are set, else the `usual` ones."""
    point: dict[str, Any] = {}
    for dimension in space.dimensions:
        if space.counts(dimension, point):
            point[dimension.name] = forced[dimension.name] if dimension.name in forced else usual(dimension, own)
    return point
