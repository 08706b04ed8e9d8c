"""In which settings recipes differ: a column for each that tells rows apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit.compare.entries import without_chance
from trainkit.compare.rows import Row
from trainkit.diff import leaves
from trainkit.recipe import shown_value
from trainkit.search.naming import short_names

_ITEM = re.compile(r"^(.*?)\[[^\]]*\]")
_LONG = 40  # characters of a value in a table
# What of [data] leaves alone which samples validate.
_SAME_SAMPLES = (
    *("augment", "batch_size", "drop_last", "loading", "sampling", "shuffle", "worker_timeout", "workers", "bag"),
)


class Several(tuple[Any, ...]):
    """The values that a setting has in the runs of one row, such as the winners of a search that was repeated."""

    __slots__ = ()


def differing(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """The settings in which rows differ, with their values; ``None`` where a row does not have one.

    Settings that are another component's, of which a column already says that it is another one, are left out.
    """
    flat = [_settings(row, rows) for row in rows]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    found = {}
    for key in keys:
        values = [settings.get(key) for settings in flat]
        there = [value for settings, value in zip(flat, values, strict=True) if key in settings]
        absent = [settings for settings in flat if key not in settings]
        held = next(settings for settings in flat if key in settings)
        if _count(there) > 1 or any(not _explained(key, held, settings) for settings in absent):
            found[key] = values
    return found


def headers(keys: Sequence[str]) -> list[str]:
    """Short names of settings: ``lr`` for ``optimizer.lr`` where no other one is called so."""
    short = short_names(keys)
    return [short[key] for key in keys]


def cell(value: Any) -> str:
    """A value as tables show it."""
    if isinstance(value, Several):
        return ", ".join(map(cell, value))[:_LONG]
    if value is None:
        return "-"
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else shown_value(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def other_samples(keys: Sequence[str]) -> list[str]:
    """The settings, of those that differ, by which figures are of other samples."""
    return [key for key in keys if key.startswith("data.") and key.split(".")[1] not in _SAME_SAMPLES]


def _settings(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """The values in the recipes of a row's runs by key; of tables that others lack, such as ``[search]``, the name."""
    tables = [_whole_alike(without_chance(entry.tables), rows) for entry in row.entries]
    flat = [dict(leaves(table)) for table in tables]
    found = {}
    for key in dict.fromkeys(key for settings in flat for key in settings):
        values = [settings.get(key) for settings in flat]
        found[key] = values[0] if _count(values) == 1 else Several(_distinct(values))
    return found


def _whole_alike(tables: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    lacking = {key for key in tables for row in rows for entry in row.entries if key not in entry.tables}
    return {
        key: value.get("use", "...") if key in lacking and isinstance(value, Mapping) else value
        for key, value in tables.items()
    }


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _count(values: Sequence[Any]) -> int:
    return len({repr(value) for value in values})


def _explained(key: str, held: Mapping[str, Any], absent: Mapping[str, Any]) -> bool:
    """Whether a row lacks a setting because it has another component in its place, which a column of its own says."""
    if (item := _ITEM.match(key)) and repr(held.get(item[1])) != repr(absent.get(item[1])):
        return True
    parts = key.split(".")
    return any(
        (use := ".".join([*parts[:depth], "use"])) != key and use in held and repr(held[use]) != repr(absent.get(use))
        for depth in range(1, len(parts))
    )
