"""One run, study, ensemble or repeats folder as ``trainkit runs`` shows it: values by name, from recipe and results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("run", "study", "ensemble", "repeats")
UNFINISHED, UNREADABLE = "unfinished", "unreadable"
ITSELF = ("name", "kind", "status", "changed")  # what is known of every folder


@dataclass(slots=True)
class Entry:
    """What one folder holds.

    Args:
        name: its path below the folder that was asked for.
        kind: one of `KINDS`.
        status: what its report says; `UNFINISHED` where it has none yet, of a run that goes on or was killed.
        modified: when its report, or else its recipe or newest figures, were written, in seconds since 1970.
        recipe: the values of its recipe by dotted key; of a list of components each one's by its name, as
            ``callback[ema].decay``, and the names, as ``callback``.
        results: what came of it, by name, such as ``val.accuracy``.
        note: why it cannot be read whole.
    """

    name: str
    kind: str
    status: str
    modified: float
    recipe: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def changed(self) -> str:
        """When it was written, as text that sorts by time."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.modified))

    def value(self, key: str) -> Any:
        """A value by its name; ``None`` where it has none."""
        if key in ITSELF:
            return getattr(self, key)
        found = self.results.get(key)
        return self.recipe.get(key) if found is None else found

    def keys(self) -> set[str]:
        """The names of all values."""
        return {*ITSELF, *self.results, *self.recipe}

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as ``--json`` prints it."""
        return {
            **{key: self.value(key) for key in ITSELF},
            "results": dict(self.results),
            "recipe": dict(self.recipe),
            "note": self.note,
        }
