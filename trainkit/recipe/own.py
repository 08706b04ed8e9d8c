"""The recipe's own values in the space of its search, and starting points, which may leave values to the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit.recipe.filled import Recipe
from trainkit.recipe.points import path_of
from trainkit.recipe.ranges import LARGEST
from trainkit.recipe.text import Path, did_you_mean, lookup, shown, shown_value
from trainkit.space import Dimension, Space


def base_point(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The recipe's own values of all that counts where they hold.

    What the recipe leaves unset is left out, as is a table that is none of the choices; a number may lie outside its
    range.
    """
    point: dict[str, Any] = {}
    for dimension in space.dimensions:
        if not space.counts(dimension, point):
            continue
        try:
            value = lookup(recipe.tables, path_of(dimension.name))
        except KeyError:
            continue
        if isinstance(value, dict):
            value = _fitting(dimension, space, value)
        if value is not None:
            point[dimension.name] = _typed(dimension, value)
    return point


def usual(dimension: Dimension, own: Mapping[str, Any]) -> Any:
    """The recipe's own value where the search could try it, else the middle of the range, or the first choice."""
    if dimension.name in own and dimension.holds(own[dimension.name]):
        return own[dimension.name]
    return dimension.choices[0] if dimension.kind == "choice" else dimension.at(0.5)


def complete(recipe: Recipe, space: Space, written: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A starting point with every value that counts: its own, else the recipe's, else the `usual` one.

    Raises:
        ValueError: ``message\\ncure``, with the name in single quotes, if a value is not one of the space.
    """
    given = _spread(space, written)
    point: dict[str, Any] = {}
    for dimension in space.dimensions:
        name = dimension.name
        if not space.counts(dimension, point):
            continue
        if name in given:
            value = _typed(dimension, given.pop(name))
            if not dimension.holds(value):
                raise ValueError(f"'{shown(name)}' = {shown_value(value)} lies outside the space\n{_room(dimension)}")
        else:
            value = usual(dimension, own)
        point[name] = value
    for name in given:
        conditions = ", ".join(space[name].when)
        raise ValueError(f"'{shown(name)}' does not count there\nit depends on {conditions}")
    if not space.allows(point):
        raise ValueError("does not meet the constraints\nsee [[search.constraint]]")
    return point


def _spread(space: Space, written: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a start by dimension: a whole table gives those of the ranges inside its choice too."""
    names = [dimension.name for dimension in space.dimensions]
    given: dict[str, Any] = {}
    for name, value in written.items():
        if name not in names:
            cure = did_you_mean(name, names) + f"the search varies: {', '.join(names)}"
            raise ValueError(f"'{shown(name)}' is not varied by the search\n{cure}")
        dimension = space[name]
        if not isinstance(value, dict) or dimension.holds(value):
            given[name] = value
            continue
        choice = _fitting(dimension, space, value, wholly=True)
        if choice is None:
            raise ValueError(f"'{shown(name)}' = {shown_value(value)} lies outside the space\n{_room(dimension)}")
        given[name] = choice
        for inner in _inner(dimension, space, dimension.choices.index(choice)):
            try:
                given[inner.name] = lookup(value, path_of(inner.name)[len(path_of(name)) :])
            except KeyError:
                continue
    return given


def _fitting(dimension: Dimension, space: Space, table: Mapping[str, Any], wholly: bool = False) -> Any:
    """The choice that a table is one of: it has all that the choice fixes, and numbers where that has ranges.

    Args:
        dimension: whose choices are tables.
        space: the space.
        table: the table.
        wholly: whether the table may have nothing else.
    """
    for number, choice in enumerate(dimension.choices):
        inner = {path_of(other.name)[len(path_of(dimension.name)) :] for other in _inner(dimension, space, number)}
        if not isinstance(choice, dict) or not _agrees(choice, table):
            continue
        if wholly and not {path for path in _leaves(table) if path not in inner} <= set(_leaves(choice)):
            continue
        return choice
    return None


def _inner(dimension: Dimension, space: Space, number: int) -> list[Dimension]:
    start = f"{dimension.name}#{number}."
    return [other for other in space.dimensions if other.name.startswith(start)]


def _agrees(choice: Any, table: Any) -> bool:
    if isinstance(choice, dict):
        held = table if isinstance(table, dict) else {}
        return all(key in held and _agrees(item, held[key]) for key, item in choice.items())
    return bool(choice == table) and isinstance(choice, bool) == isinstance(table, bool)


def _leaves(table: Any, path: Path = ()) -> list[Path]:
    if isinstance(table, dict) and table:
        return [leaf for key, item in table.items() for leaf in _leaves(item, (*path, key))]
    return [path]


def _typed(dimension: Dimension, value: Any) -> Any:
    """A value as the dimension's own are: 1 is 1.0 where numbers are floats."""
    if dimension.kind == "float" and not dimension.unit and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    if dimension.kind == "choice" and type(value) is int:
        return next((choice for choice in dimension.choices if type(choice) is float and choice == value), value)
    return value


def _room(dimension: Dimension) -> str:
    if dimension.kind == "choice":
        return f"choices: {', '.join(map(shown_value, dimension.choices))}"
    low, high = dimension.value(dimension.low), dimension.value(dimension.high)
    return f"it goes from {low} to {high}" + (f" in steps of {dimension.step:g}" if dimension.step else "")
