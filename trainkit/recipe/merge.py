"""Laying recipes over each other while every key remembers who set it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainkit.errors import Place
from trainkit.recipe.positions import Origin, Source
from trainkit.recipe.text import Path, lookup
from trainkit.tables import BY_NAME, COMPONENT_TABLES


class Mark(NamedTuple):
    """That ``origin`` set a key to ``value``; a table's value is not kept."""

    origin: Origin
    value: Any


@dataclass
class Composed:
    """Tables put together from several origins.

    Args:
        name: the recipe as the user named it.
        tables: the keys, without ``extends`` and ``drop``.
        marks: for each key and table, everyone who set it, the last of whom counts.
        sources: the texts it was put together from, the recipe's own first, then its bases as they were read.
    """

    name: str
    tables: dict[str, Any] = field(default_factory=dict)
    marks: dict[Path, list[Mark]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Where the key at ``path`` was set; for a key that nobody set, the table that it belongs to."""
        for length in range(len(path), 0, -1):
            if marks := self.marks.get(path[:length]):
                return marks[-1].origin.place(path)
        return Place(self.name)

    def header(self, path: Path) -> Place:
        """Where the table at ``path`` begins: in the file that chose its component, if it names one."""
        marks = self.marks.get((*path, "use")) or self.marks.get(path)
        return marks[-1].origin.place(path) if marks else self.place(path)

    def forget(self, path: Path) -> None:
        """Remove the marks of everything inside ``path``."""
        depth = len(path)
        for inside in [marked for marked in self.marks if len(marked) > depth and marked[:depth] == path]:
            del self.marks[inside]

    def put(self, origin: Origin, tables: dict[str, Any]) -> None:
        """Lay one origin's tables over these."""
        marks: dict[Path, list[Mark]] = {}
        _mark(origin, tables, (), marks)
        self.lay(Composed(self.name, copy.deepcopy(tables), marks))

    def lay(self, over: Composed) -> None:
        """Lay other tables over these: tables merge key by key, everything else replaces what was there."""
        self._lay(self.tables, over.tables, over, ())

    def _lay(self, under: dict[str, Any], over: dict[str, Any], marked: Composed, path: Path) -> None:
        if "use" in over and "use" in under and over["use"] != under["use"]:
            self._afresh(under, path)
        elif path[:2] == ("search", "space") and len(path) == 3 and _other_range(under, over):
            self._afresh(under, path)  # choices instead of a range, or the other way round
        for key, value in over.items():
            here = (*path, key)
            self.marks.setdefault(here, []).extend(marked.marks.get(here, ()))
            before = under.get(key)
            if isinstance(value, dict) and isinstance(before, dict):
                self._lay(before, value, marked, here)
                continue
            # Looking through all marks for those inside costs as much as there are: only where there can be any.
            if isinstance(before, dict | list) and before:
                self.forget(here)
            if isinstance(value, dict):
                under[key] = {}
                self._lay(under[key], value, marked, here)
                continue
            under[key] = value
            self._copy_marks(value, marked, here)

    def _copy_marks(self, value: Any, marked: Composed, path: Path) -> None:
        """Take over the marks of everything inside a value that is taken over."""
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in inside:
            here = (*path, key)
            if marks := marked.marks.get(here):
                self.marks[here] = list(marks)
            self._copy_marks(child, marked, here)

    def _afresh(self, table: dict[str, Any], path: Path) -> None:
        """Empty a table whose component is another one now; what is the core's may stay, and who chose it before."""
        kind = COMPONENT_TABLES.get(str(path[0])) if len(path) == 1 else None
        stay = {setting.name for setting in kind.added} if kind is not None and kind.keeps else set()
        for key in [key for key in table if key not in stay]:
            del table[key]
            self.forget((*path, key))
            if key != "use":
                self.marks.pop((*path, key), None)

    def drop(self, path: Path) -> None:
        """Remove a key and everything inside it.

        Raises:
            KeyError: if there is none, or it is not a key of a table.
        """
        table = lookup(self.tables, path[:-1])
        if not isinstance(table, dict) or path[-1] not in table:
            raise KeyError(path[-1])
        del table[str(path[-1])]
        self.forget(path)
        self.marks.pop(path, None)


def _other_range(under: dict[str, Any], over: dict[str, Any]) -> bool:
    """Whether a range is laid over choices, or choices over a range."""
    ends = {"low", "high"}
    return ("choices" in over and not ends.isdisjoint(under)) or ("choices" in under and not ends.isdisjoint(over))


def spelled_out(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with names that stand for tables written as those: `BY_NAME`."""
    for name, key in BY_NAME:
        table = tables.get(name)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            tables = {**tables, name: {**table, key: {"use": table[key]}}}
    return tables


def _mark(origin: Origin, value: Any, path: Path, marks: dict[Path, list[Mark]]) -> None:
    if path:
        marks[path] = [Mark(origin, None if isinstance(value, dict) else value)]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        _mark(origin, child, (*path, key), marks)
