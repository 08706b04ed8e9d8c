"""``[[search.constraint]]``: what the values of several settings must meet together."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Mapping
from typing import Any, Literal, cast

from trainkit.clock import Span
from trainkit.errors import Problem
from trainkit.recipe.filled import Recipe
from trainkit.recipe.points import path_of
from trainkit.recipe.ranges import LARGEST
from trainkit.recipe.text import Path, did_you_mean, dotted, lookup, shown, shown_value
from trainkit.space import Dimension, Limit, Space

LEFT = ("setting", "sum", "product")
RELATIONS = ("at_most", "at_least", "below", "above")
# Points that are drawn to see whether constraints leave any: one in a thousand is found nearly always.
DRAWN = 5000


def read_limits(recipe: Recipe, space: Space, written: list[Any]) -> tuple[Space, list[Problem]]:
    """The space with its constraints, and what is wrong with them."""
    reader = _Reader(recipe, space)
    for number, table in enumerate(written):
        try:
            reader.read(table)
        except _Wrong as wrong:
            path: Path = ("search", "constraint", number, *([wrong.key] if wrong.key else []))
            said = f"[[search.constraint]] {wrong.message}"
            reader.problems.append(Problem(recipe.tables.place(path), said, wrong.cure))
    limited = dataclasses.replace(space, limits=tuple(reader.limits), fixed=reader.fixed)
    if reader.limits and not reader.problems and not _any(limited):
        message = f"the constraints leave nothing: none of {DRAWN} points of the space meets them"
        place = recipe.tables.place(("search", "constraint", 0))
        reader.problems.append(Problem(place, f"[[search.constraint]] {message}", "widen the ranges or the limits"))
    return limited, reader.problems


class _Wrong(Exception):
    def __init__(self, key: str, message: str, cure: str) -> None:
        super().__init__(message)
        self.key, self.message, self.cure = key, message, cure


class _Reader:
    def __init__(self, recipe: Recipe, space: Space) -> None:
        self.recipe, self.space = recipe, space
        self.limits: list[Limit] = []
        self.fixed: dict[str, float] = {}
        self.problems: list[Problem] = []

    def read(self, table: Mapping[str, Any]) -> None:
        """Read one table.

        Raises:
            _Wrong: if it is no constraint.
        """
        known = (*LEFT, *RELATIONS, "factor")
        for key in table:
            if key not in known:
                raise _Wrong(key, f"has no '{shown(key)}'", did_you_mean(key, known) + f"it takes: {', '.join(known)}")
        left = [key for key in LEFT if key in table]
        relations = [key for key in RELATIONS if key in table]
        if len(left) != 1:
            cure = 'such as setting = "model.depth", or sum = ["data.a", "data.b"]'
            raise _Wrong(left[1] if left else "", f"needs one of {', '.join(LEFT)}", cure)
        if len(relations) != 1:
            cure = 'such as at_most = 64, or below = "model.depth"'
            raise _Wrong(relations[1] if relations else "", f"needs one of {', '.join(RELATIONS)}", cure)
        factor = table.get("factor", 1.0)
        if not _is_number(factor):
            raise _Wrong("factor", f"factor must be a number, got {shown_value(factor)}", "such as factor = 0.5")
        names = [table[left[0]]] if left[0] == "setting" else table[left[0]]
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            cure = 'such as "optimizer.lr", or a list of names for sum and product'
            raise _Wrong(left[0], f"{left[0]} must name settings, got {shown_value(table[left[0]])}", cure)
        terms = [self._meant(left[0], name) for name in names]
        right = table[relations[0]]
        rights: list[Any] = [right]
        if isinstance(right, str):
            rights = list(self._meant(relations[0], right))
        elif not _is_number(right):
            message = f"{relations[0]} must be a number or a setting, got {shown_value(right)}"
            raise _Wrong(relations[0], message, 'such as at_most = 64, or below = "model.depth"')
        by: Literal["sum", "product"] = "product" if left[0] == "product" else "sum"
        relation = cast("Literal['at_most', 'at_least', 'below', 'above']", relations[0])
        for chosen in itertools.product(*terms, rights):
            self.limits.append(Limit(tuple(chosen[:-1]), by, relation, chosen[-1], float(factor)))
        said = {name for group in terms for name in group} | {name for name in rights if isinstance(name, str)}
        if said <= set(self.fixed):
            raise _Wrong(left[0], "names nothing that the search varies", "leave it out, or vary one of its settings")

    def _meant(self, key: str, name: str) -> list[str]:
        """The dimensions that a name means, or the recipe's own number of that name."""
        dimensions = self.space.dimensions
        found = [one for one in dimensions if one.name == name]
        try:
            path = path_of(name)
        except ValueError:
            path = ()
        found = found or [one for one in dimensions if path_of(one.name) == path]
        if found:
            for one in found:
                if one.kind == "choice" and not all(_is_number(choice) for choice in one.choices):
                    cure = "constraints are about numbers"
                    raise _Wrong(key, f"'{shown(name)}' is not a number: it is one of {_listed(one)}", cure)
            return [one.name for one in found]
        try:
            value = lookup(self.recipe.tables, path) if path else None
        except KeyError:
            value = None
        number = _number(value)
        if number is None:
            if value is not None:
                raise _Wrong(key, f"'{shown(name)}' = {shown_value(value)} is not a number", "name another setting")
            names = [one.name for one in dimensions]
            cure = did_you_mean(name, names) + f"the search varies: {', '.join(names)}"
            raise _Wrong(key, f"there is no setting '{shown(name)}'", cure)
        self.fixed[dotted(path)] = number
        return [dotted(path)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _number(value: Any) -> float | None:
    if _is_number(value):
        return float(value)
    if isinstance(value, str):
        try:
            return float(Span.parse(value).amount)
        except (ValueError, OverflowError):
            return None
    return None


def _listed(dimension: Dimension) -> str:
    return ", ".join(map(shown_value, dimension.choices))


def _any(space: Space) -> bool:
    draw = random.Random(0)
    return any(space.allows(space.at([draw.random() for _ in space.dimensions])) for _ in range(DRAWN))
