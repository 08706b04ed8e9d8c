"""A recipe with other values: a point of a search's space laid over it, as the command line is."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainkit.errors import Place, Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.filled import key_path
from trainkit.recipe.merge import Composed
from trainkit.recipe.overrides import lay_value
from trainkit.recipe.reach import Unreachable, reach
from trainkit.recipe.text import Path, lookup
from trainkit.recipe.values import plain
from trainkit.settings import REQUIRED
from trainkit.tables import OF_SEVERAL_RUNS

_NUMBERED = re.compile(r"#\d+(?=\.|$)")


@functools.lru_cache(4096)
def path_of(name: str) -> Path:
    """Where the value of a dimension goes: ``optimizer#0.betas.1`` is ``("optimizer", "betas", 1)``.

    Raises:
        ValueError: if it is not a key.
    """
    return key_path(_NUMBERED.sub("", name))


@dataclass(frozen=True)
class Tried:
    """The origin of a value that a search tries: it stands where the search says so.

    Args:
        at: gives the place.
        name: as in messages.
    """

    at: Callable[[], Place]
    name: str = "search"

    def place(self, path: Path) -> Place:
        """The same for each key inside the value."""
        return self.at()


def of_one_run(composed: Composed) -> Composed:
    """A copy of a composed recipe to lay values over, without ``[search]`` and ``[ensemble]``."""
    kept = {key: plain(value) for key, value in composed.tables.items() if key not in OF_SEVERAL_RUNS}
    marks = {path: list(marks) for path, marks in composed.marks.items() if path[0] not in OF_SEVERAL_RUNS}
    return Composed(composed.name, kept, marks)


def laid(composed: Composed, values: Mapping[str, Any], plugins: Plugins) -> Composed:
    """The recipe of one run with other values, as by `of_one_run`; its settings are not looked at yet.

    Args:
        composed: the recipe, with ``[search]`` for the places.
        values: by the dimension's name, or any dotted key.
        plugins: where the components come from whose defaults are changed in part.

    Raises:
        RecipeError: if a key leads nowhere.
    """
    trial = of_one_run(composed)
    problems: list[Problem] = []
    for name, value in in_order(values):
        problems += _lay(trial, name, plain(value), composed, plugins)
    if problems:
        raise RecipeError(problems)
    return trial


def in_order(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Components and whole tables first, the outer ones before the inner ones: they start their tables afresh."""
    return sorted(values.items(), key=lambda item: (not _first(*item), len(path_of(item[0]))))


def _first(name: str, value: Any) -> bool:
    return isinstance(value, dict) or path_of(name)[-1] == "use"


def _lay(trial: Composed, name: str, value: Any, composed: Composed, plugins: Plugins) -> list[Problem]:
    path = path_of(name)
    origin = Tried(functools.partial(place_of, composed, name, value))
    if isinstance(path[-1], int) or (len(path) > 2 and isinstance(path[-2], int)):
        _write_whole(trial, path, origin, plugins)
    return lay_value(trial, origin, path, value)


def place_of(composed: Composed, name: str, value: Any = None) -> Place:
    """Where ``[search.space]`` says that a setting is varied, or that it may have this value."""
    head, *inner = re.split(r"#(\d+)(?=\.|$)", name)
    path: Path = ("search", "space", head)
    while inner:
        number, rest, *inner = inner
        path = (*path, "choices", int(number), *(key_path(rest[1:]) if rest else ()))
    written = None
    for step in (path, (*path, "choices")):
        try:
            written = lookup(composed.tables, step)
        except KeyError:
            continue
        path = step
    if isinstance(written, list) and value in written:
        path = (*path, written.index(value))
    return composed.place(path)


def _write_whole(trial: Composed, path: Path, origin: Tried, plugins: Plugins) -> None:
    """Write out the default that a part of is changed: the list around an item has to be there."""
    try:
        found = reach(plugins, trial.tables, path)
    except Unreachable:
        return
    if found.of is REQUIRED or found.of is None or found.whole == path:
        return
    try:
        lookup(trial.tables, found.whole)
    except KeyError:
        lay_value(trial, origin, found.whole, plain(found.of))
