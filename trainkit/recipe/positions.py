"""The file and line of every key of a recipe, found with tomli's public interface alone.

Each statement is parsed by itself, and one that spans several lines is walked through bracket by bracket: together one
pass over the file, however many places are asked for. Nothing is done before the first is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Protocol

import tomli

from trainkit.errors import Place
from trainkit.recipe.scan import TOKEN, scan
from trainkit.recipe.text import Path, shown

if TYPE_CHECKING:
    from trainkit.recipe.packed import Pack

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


@dataclass(frozen=True, eq=False)
class Source:
    """The text of one recipe file.

    Args:
        name: the file as the user named it; what messages show.
        text: its text.
        file: where it lies; ``None`` for standard input.
        package: the package that ships it, if it was named as ``package:name``.
        tables: what it says.
        pack: the pack that it is in, if any, which then has its bases too.
        within: what that pack calls it.
    """

    name: str
    text: str
    file: FilePath | None = None
    package: str = ""
    tables: dict[str, Any] = field(default_factory=dict)
    pack: Pack | None = None
    within: str = ""

    def place(self, path: Path) -> Place:
        """Where the key at ``path`` stands; the nearest table around it where the key is not written."""
        for length in range(len(path), 0, -1):
            line = self._index.get(path[:length])
            if line is not None:
                return self.at(line)
        return Place(self.name)

    def at(self, line: int) -> Place:
        """The place of a line, counted from 0."""
        # Cut first: a line of 60 KB that has a thousand problems is shown a thousand times.
        return Place(self.name, line + 1, shown(self._lines[line].strip()[: LONGEST_LINE + 1], LONGEST_LINE))

    @functools.cached_property
    def _lines(self) -> list[str]:
        # Not splitlines(): TOML knows no other line end, and editors count these.
        return self.text.split("\n")

    @functools.cached_property
    def _index(self) -> dict[Path, int]:
        """The line at which each path is first written."""
        first: dict[Path, int] = {}
        counts: dict[Path, int] = {}
        base: Path = ()
        start = 0
        for end, state in enumerate(scan(self.text)):
            if not state.complete:
                continue
            lines, line, start = self._lines[start : end + 1], start, end + 1
            text = "\n".join(lines)
            if len(lines) > 1:
                for path, further in _walk(text):
                    first.setdefault(base + path, line + further)
                continue
            content = _parse(text)
            if text.lstrip().startswith("["):
                if not content:
                    continue
                base = _enter(content, counts)
                for length in range(1, len(base)):
                    first.setdefault(base[:length], line)
                # A table's own header is its place, even where a table inside it was written before.
                first[base] = line
                continue
            for path in _paths(content):
                first.setdefault(base + path, line)
        return first


@dataclass
class _Open:
    """A bracket that is open in a value.

    Args:
        path: the path of its list or table; that of the statement's own table is empty.
        items: how many items of the list have begun; ``None`` in a table.
        key: what stands before the next equals sign of the table.
        at: the path of the value that is being written; ``None`` before an equals sign and between items.
    """

    path: Path
    items: int | None = None
    key: str = ""
    at: Path | None = None


def _walk(text: str) -> Iterator[tuple[Path, int]]:
    """Every path that one statement sets, in the order of the text, and how many lines further down it begins."""
    line = 0
    stack = [_Open(())]
    for match in TOKEN.finditer(text):
        token, inner = match[0], stack[-1]
        if token.isspace() or token.startswith("#"):
            pass
        elif token == ",":
            inner.key, inner.at = "", None
        elif token in "]}":
            if len(stack) > 1:
                stack.pop()
        elif inner.at is None and inner.items is None and token != "=":
            inner.key += token
        elif inner.at is None:
            parts: Path = _key(inner.key) if inner.items is None else (inner.items,)
            for length in range(1, len(parts) + 1):
                yield (*inner.path, *parts[:length]), line
            inner.at = (*inner.path, *parts)
            inner.items = inner.items if inner.items is None else inner.items + 1
        if token in "[{" and inner.at is not None:
            stack.append(_Open(inner.at, 0 if token == "[" else None))
        line += token.count("\n")


def _key(text: str) -> Path:
    """The parts of a dotted key."""
    path: Path = ()
    node: Any = _parse(f"{text} = 0")
    while isinstance(node, dict) and node:
        ((key, node),) = node.items()
        path += (key,)
    return path


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
