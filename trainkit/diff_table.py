"""What differs between two runs or recipes, as lines, as Markdown and as one JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.console import aligned
from trainkit.recipe import shown, shown_value

_ABSENT = "-"
_MARKS = re.compile(r"[\\`*~\[\]<>|&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # a _ within a word stands for itself
_LONG = 12  # characters of a SHA-256 that are shown


@dataclass(frozen=True)
class Change:
    """A value that differs.

    Args:
        key: its name.
        a: the value on one side; ``None`` where there is none.
        b: the value on the other side.
    """

    key: str
    a: Any
    b: Any

    @property
    def change(self) -> float | None:
        """By how much two numbers differ; ``None`` where these are no numbers."""
        numbers = [value for value in (self.a, self.b) if type(value) is float or _is_whole(value)]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None


@dataclass(frozen=True)
class Part:
    """The recipe, the environment or the result.

    Args:
        changed: what differs, in the order of the recipe.
        equal: how many values do not.
    """

    changed: Sequence[Change]
    equal: int


@dataclass(frozen=True)
class Diff:
    """What differs between two things.

    Args:
        names: as the user named them.
        kinds: ``recipe``, ``pack``, ``run``, ``study`` or ``ensemble``.
        recipe: in their filled recipes.
        environment: in what both say of where they were run.
        result: in what came of them; ``None`` where there is nothing to compare.
        unknown: by name, what of the other's environment it does not say.
        notes: what a reader should know.
    """

    names: tuple[str, str]
    kinds: tuple[str, str]
    recipe: Part
    environment: Part
    result: Part | None
    unknown: dict[str, list[str]]
    notes: list[str]

    @property
    def parts(self) -> dict[str, Part]:
        """The parts that could be compared, by name."""
        parts = {"recipe": self.recipe, "environment": self.environment}
        return parts if self.result is None else {**parts, "result": self.result}

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        sides = {key: {"name": self.names[i], "kind": self.kinds[i]} for i, key in enumerate("ab")}
        parts = {
            name: {
                "equal": part.equal,
                "changed": [{"key": change.key, "a": change.a, "b": change.b} for change in part.changed],
            }
            for name, part in self.parts.items()
        }
        return {**sides, "result": None, **parts, "unknown": self.unknown, "notes": self.notes}

    def lines(self) -> Iterator[str]:
        """As a person reads it."""
        yield from aligned(self._sides())
        for name, part in self.parts.items():
            yield ""
            yield f"{name}: {self._count(part)}"
            if part.changed:
                yield from aligned([_cells(change, name) for change in part.changed], "  ")
        yield from ([""] if self.notes else [])
        yield from (f"note: {text}" for text in self.notes)

    def markdown(self) -> Iterator[str]:
        """As Markdown."""
        yield from (f"- {' '.join(map(escaped, row))}" for row in self._sides())
        for name, part in self.parts.items():
            yield from ("", f"## {name}", "", self._count(part))
            if part.changed:
                yield from ("", "| | A | B | |", "| --- | --- | --- | --- |")
                yield from (f"| {' | '.join(map(escaped, _cells(change, name)))} |" for change in part.changed)
        yield from ([""] if self.notes else [])
        yield from (f"- {escaped(text)}" for text in self.notes)

    def _sides(self) -> list[tuple[str, str, str]]:
        return [(letter, kind, name) for letter, kind, name in zip("AB", self.kinds, self.names, strict=True)]

    def _count(self, part: Part) -> str:
        return f"{len(part.changed) or 'nothing'} differ{'s' * (len(part.changed) < 2)}, {part.equal} equal"


def _cells(change: Change, part: str) -> tuple[str, str, str, str]:
    by = change.change
    digest = "sha256" in change.key or change.key.startswith("bases.")
    a, b = (_shown(value, part, digest) for value in (change.a, change.b))
    return change.key, a, b, "" if by is None else f"{by:+.6g}"


def _shown(value: Any, part: str, digest: bool) -> str:
    if value is None:
        return _ABSENT
    if digest and isinstance(value, str):
        return shown(value[:_LONG])
    # What a recipe says is shown to its last digit, what was measured is not.
    return f"{value:.6g}" if part == "result" and isinstance(value, float) else shown_value(value)


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of a size that no float overflows at."""
    return type(value) is int and abs(value) < 2**63


def escaped(text: str) -> str:
    """Text that no Markdown reads as anything else: no picture, link, table cell or emphasis of a stranger's."""
    return _MARKS.sub(r"\\\g<0>", text.replace("\n", " "))
