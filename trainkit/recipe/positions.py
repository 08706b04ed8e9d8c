"""The file and line of every key of a recipe, found with tomli's public interface alone.

Each statement is parsed by itself, which costs one pass over the file; inside a statement that spans several lines,
the text is grown line by line, closed, and parsed until the path exists. Nothing is done before a place is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Protocol

import tomli

from trainkit.errors import Place
from trainkit.recipe.scan import scan
from trainkit.recipe.text import Path, lookup, shown

LONGEST_LINE = 160


class Origin(Protocol):
    """Something that gives values to a recipe: a file or an override."""

    @property
    def name(self) -> str:
        """The file as the user named it, or ``command line``."""

    def place(self, path: Path) -> Place:
        """Where the key at ``path`` stands; the nearest table around it where the key is not written."""


@dataclass(frozen=True)
class Override:
    """A ``key=value`` of the command line."""

    text: str
    name: str = "command line"

    def place(self, path: Path) -> Place:
        """The command line, whatever the key."""
        return Place(self.name, 0, shown(self.text, LONGEST_LINE))


@dataclass(frozen=True)
class _Statement:
    """Lines ``start`` to ``end`` (from 0) that hold the keys below ``base``."""

    base: Path
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Source:
    """The text of one recipe file.

    Args:
        name: the file as the user named it; what messages show.
        text: its text.
        file: where it lies; ``None`` for standard input.
        package: the package that ships it, if it was named as ``package:name``.
        tables: what it says.
    """

    name: str
    text: str
    file: FilePath | None = None
    package: str = ""
    tables: dict[str, Any] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Where the key at ``path`` stands; the nearest table around it where the key is not written."""
        for length in range(len(path), 0, -1):
            line = self._line(path[:length])
            if line is not None:
                return self.at(line)
        return Place(self.name)

    def at(self, line: int) -> Place:
        """The place of a line, counted from 0."""
        return Place(self.name, line + 1, shown(self._lines[line].strip(), LONGEST_LINE))

    def _line(self, path: Path) -> int | None:
        first, spans = self._index
        for length in range(len(path), 0, -1):
            statement = spans.get(path[:length])
            if statement is not None:
                inside = self._line_inside(statement, path)
                return inside if inside is not None or length < len(path) else statement.start
        return first.get(path)

    @functools.cached_property
    def _lines(self) -> list[str]:
        # Not splitlines(): TOML knows no other line end, and editors count these.
        return self.text.split("\n")

    @functools.cached_property
    def _scan(self) -> list[Any]:
        return scan(self.text)

    @functools.cached_property
    def _index(self) -> tuple[dict[Path, int], dict[Path, _Statement]]:
        """The line of each path, and the statements that span several lines by the path of their value."""
        first: dict[Path, int] = {}
        spans: dict[Path, _Statement] = {}
        counts: dict[Path, int] = {}
        base: Path = ()
        start = 0
        for end, state in enumerate(self._scan):
            if not state.complete:
                continue
            statement, start = _Statement(base, start, end), end + 1
            content = _parse("\n".join(self._lines[statement.start : end + 1]))
            if not content:
                continue
            if self._lines[statement.start].lstrip().startswith("["):
                base = _enter(content, counts)
                for length in range(1, len(base)):
                    first.setdefault(base[:length], statement.start)
                # A table's own header is its place, even where a table inside it was written before.
                first[base] = statement.start
                continue
            for path in _paths(content):
                first.setdefault(base + path, statement.start)
                if end > statement.start:
                    spans[base + path] = statement
        return first, spans

    def _line_inside(self, statement: _Statement, path: Path) -> int | None:
        """The line at which ``path`` first exists when the statement is grown line by line."""
        wanted = path[len(statement.base) :]
        # Cut only where no string is open; then more lines never take a path away, and a bisection finds the first.
        cuts = [n for n in range(statement.start, statement.end + 1) if not self._scan[n].in_string]
        low, high = 0, len(cuts)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds(statement, cuts[middle], wanted) else (middle + 1, high)
        if low == len(cuts):
            return None
        return cuts[low - 1] + 1 if low else statement.start

    def _holds(self, statement: _Statement, end: int, path: Path) -> bool:
        text = "\n".join(self._lines[statement.start : end + 1])
        try:
            lookup(_parse(f"{text}\n{self._scan[end].closers}"), path)
        except KeyError:
            return False
        return True


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except (ValueError, RecursionError):
        return {}


def _enter(content: dict[str, Any], counts: dict[Path, int]) -> Path:
    """The path that a header opens, with the numbers of the list items that it lies in."""
    path: Path = ()
    node: Any = content
    while node:
        ((key, node),) = node.items()
        path += (key,)
        if isinstance(node, list):  # [[key]]: one more item
            node = None
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if isinstance(value, dict) or isinstance(child, dict | list):
            yield from _paths(child, (*path, key))
