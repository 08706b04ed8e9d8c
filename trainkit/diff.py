"""``trainkit diff``: what differs between two recipes, packs, runs, studies or ensembles; torch is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.diff_table import Change, Diff, Part
from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe, toml_key
from trainkit.results import read_result
from trainkit.trial_results import results_of

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_ASIDE = ("command", "seed")  # of an environment: what the user typed, and what the recipe says


@dataclass
class Side:
    """One of the two things that are compared.

    Args:
        name: as the user named it.
        kind: ``recipe``, ``pack``, ``run``, ``study`` or ``ensemble``.
        tables: its recipe, filled.
        environment: what is known of where it was run, or packed; of a recipe what it asks for.
        result: what came of it, by name; ``None`` where nothing did.
        notes: what a reader should know.
    """

    name: str
    kind: str
    tables: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def diff(one: str, other: str, plugins: Plugins) -> Diff:
    """Compare two things that are recipes, or have one.

    Args:
        one: a recipe, ``package:name``, a pack, or a run, study or ensemble folder.
        other: another one.
        plugins: the plugins that fill recipes.

    Raises:
        RecipeError: if one is a recipe that has problems.
        UsageError: if one is a folder that holds no run.
    """
    sides = a, b = [_side(name, plugins) for name in (one, other)]
    notes = [f"{side.name}: {note}" for side in sides for note in side.notes]
    result = None
    if a.result is not None and b.result is not None:
        result = _part(a.result, b.result)
        if a.kind == b.kind == "run" and any(change.change is not None for change in result.changed):
            notes.append("one run each: how much another seed would change is not known from them")
    elif a.result is not None or b.result is not None:
        notes.append(f"{(b if b.result is None else a).name}: it has no result to compare")
    names = sorted(a.environment.keys() & b.environment.keys())
    unknown = {
        side.name: lacking
        for side, against in ((a, b), (b, a))
        if (lacking := sorted(against.environment.keys() - side.environment.keys()))
    }
    environment = compare(*({name: side.environment[name] for name in names} for side in sides))
    recipe = compare(*_recipes(a.tables, b.tables))
    return Diff((a.name, b.name), (a.kind, b.kind), recipe, environment, result, unknown, notes)


def compare(one: Mapping[str, Any], other: Mapping[str, Any]) -> Part:
    """Compare two sets of values, however deep; what is unset is not there."""
    return _part(*(dict(leaves(value)) for value in (one, other)))


def _part(a: Mapping[str, Any], b: Mapping[str, Any]) -> Part:
    changed = [Change(key, a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)]
    return Part(changed, len(a.keys() | b.keys()) - len(changed))


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a value with their keys; items of a list that name components have these names in their keys."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, f"{key}.{toml_key(str(name))}" if key else toml_key(str(name)))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        names: list[str] = []
        for number, item in enumerate(value):
            use = item.get("use")
            name = use if isinstance(use, str) else str(number)
            again = sum(before == name for before in names)
            names.append(name)
            inner = {part: held for part, held in item.items() if part != "use" or not isinstance(use, str)}
            yield from leaves(inner, f"{key}[{name}]" if not again else f"{key}[{name} {again + 1}]")
        yield key, names
    elif value is not None and value != []:
        yield key, value


def _recipes(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of both recipes; of a table that one of them has not, such as ``[search]``, the name alone."""
    made = []
    for tables, others in ((one, other), (other, one)):
        alone = {key for key, value in tables.items() if isinstance(value, Mapping) and key not in others}
        named = {key: tables[key].get("use", "...") for key in alone}
        made.append({key: named.get(key, value) for key, value in tables.items() if key != "requires"})
    return made


def _side(name: str, plugins: Plugins) -> Side:
    if Path(name).is_dir():
        return _folder(name, plugins)
    notes: list[str] = []
    recipe = load_recipe(name, [], plugins, notes.append)
    if recipe.pack is None:
        return Side(name, "recipe", recipe.tables, _asked(recipe))
    pack = recipe.pack
    data = {"sha256": pack.data.fingerprint or None, **pack.data.sizes}
    return Side(name, "pack", recipe.tables, {**pack.environment, "data": data, **_asked(recipe)}, notes=notes)


def _asked(recipe: Recipe) -> dict[str, Any]:
    """What belongs to the environment of a recipe: what must be installed, and what it extends."""
    return {"requires": _by_name(recipe.tables["requires"]), "bases": recipe.tables.bases}


def _by_name(requires: Any) -> dict[str, str]:
    """Requirements by the name of their distribution; those of a recipe that was not checked may be anything."""
    found = {}
    for text in requires if isinstance(requires, list) else ():
        name = _NAME.match(str(text))
        found[name[0] if name else str(text)] = str(text)[name.end() if name else 0 :].strip() or "any"
    return found


def _folder(name: str, plugins: Plugins) -> Side:
    found = read_result(Path(name))
    notes = list(found.notes)
    try:
        recipe = load_recipe(found.folder / "recipe.toml", [], plugins)
        tables: Mapping[str, Any] = recipe.tables
    except RecipeError as error:
        tables = found.tables
        why = error.problems[0].message.splitlines()[0]
        notes.append(f"its recipe is compared as it stands there, since it cannot be checked here: {why}")
    known = {key: value for key, value in found.environment.items() if key not in _ASIDE}
    requires = _by_name(tables.get("requires"))
    result = results_of(found.kind, found.report) or None
    return Side(name, found.kind, tables, {**known, "requires": requires}, result, notes)
