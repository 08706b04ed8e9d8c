"""A filled recipe as TOML that reads back to the same tables, and the list of where each value comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from trainkit.recipe.filled import Origin, Recipe
from trainkit.recipe.needs import requirements
from trainkit.recipe.text import Path, dotted, show_key, shown_value, toml_key
from trainkit.tables import COMPONENT_TABLES

# Searchers go by the order of the settings, and TOML wants the values of a table before the tables in it: each setting
# stands on a line, a range as much as a list of choices.
_SPACE = ("search", "space")


def fill_toml(recipe: Recipe) -> str:
    """The whole recipe with all its defaults: this text alone gives the same recipe again, or says what it lacks."""
    tables = {**recipe.tables, "requires": requirements(recipe)}
    top = {key: value for key, value in tables.items() if not _is_tables(key, value)}
    for key, value in tables.items():
        # An empty list is said where leaving it out would bring a default back.
        if value == [] and key in COMPONENT_TABLES and COMPONENT_TABLES[key].default:
            top[key] = value
    rest = {key: value for key, value in tables.items() if key not in top and value != []}
    return "\n".join(_table({**top, **rest}, (), ()))


def to_toml(tables: Mapping[str, Any]) -> str:
    """Write plain tables as TOML; ``None`` and numbers that are not finite, which are defaults alone, are left out."""
    return "\n".join(_table(tables, (), ()))


def origin_lines(recipe: Recipe) -> list[str]:
    """One line for each value: what it is, where it was written, what it was before, and the default."""
    rows = []
    for path in _leaves(recipe.tables, ()):
        origin = recipe.origin(path)
        rows.append((f"{dotted(path)} = {shown_value(origin.value)}", _history(origin)))
    width = min(48, max((len(key) for key, _ in rows), default=0))
    return [f"{key:<{width}}    {history}" for key, history in rows]


def _history(origin: Origin) -> str:
    if origin.place is None:
        return "default"
    before = [f"was {shown_value(value)}, {place}" for value, place in origin.earlier]
    if origin.has_default:
        before.append(f"default {shown_value(origin.default)}")
    return f"{origin.place}  ({'; '.join(before)})" if before else str(origin.place)


def _leaves(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path


def _is_tables(key: str, value: Any) -> bool:
    if key in COMPONENT_TABLES:
        return True
    return isinstance(value, dict) or _is_list_of_tables(value)


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _table(table: Mapping[str, Any], path: Path, header: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table: its values, then the tables inside it, each under its header."""
    later = []
    if header:
        yield ""
        yield header[0]
    for key, value in table.items():
        if path == _SPACE and (text := _value(value)) is not None:
            yield f"{toml_key(key)} = {text}"
        elif isinstance(value, dict):
            later.append(((key,), value, "[{}]"))
        elif _is_list_of_tables(value):
            later.extend(((key,), item, "[[{}]]") for item in value)
        elif (text := _value(value)) is not None:
            yield f"{toml_key(key)} = {text}"
    for inside, value, form in later:
        yield from _table(value, path + inside, (form.format(dotted(path + inside)),))
    if not path:
        yield ""


def _value(value: Any) -> str | None:
    """A value on one line; ``None`` where there is nothing to write."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return show_key(value)
    if isinstance(value, dict):
        pairs = [f"{toml_key(key)} = {text}" for key, item in value.items() if (text := _value(item)) is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    items = [text for item in value if (text := _value(item)) is not None]
    return f"[{', '.join(items)}]"
