"""What the pages of runs, studies and ensembles have in common: recipe, environment, links, intervals."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainkit.page import Cell, Code, Facts, Section
from trainkit.results import read_object
from trainkit.rundir import read_text


def recipe_sections(folder: Path) -> list[Section]:
    """The recipe of a folder as it stands there, and where and by what it was run; less where they cannot be read.

    Args:
        folder: of a run, a study or an ensemble.
    """
    made = []
    with contextlib.suppress(OSError, ValueError):
        made.append(Section("Recipe", [Code(read_text(folder / "recipe.toml"), "recipe.toml")]))
    if environment := read_object(folder / "environment.json", []):
        made.append(Section("Environment", [Facts(list(flat(environment)))]))
    return made


def relative(path: Path, where: Path) -> str:
    """How a page in a folder leads to a file."""
    return os.path.relpath(path.resolve(), where.resolve())


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Cell]]:
    """The values of a table by the keys that lead to them, such as ``plugins trainkit``; ``None`` is left out."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key} ")
        elif value is not None:
            yield f"{before}{key}", value if isinstance(value, int | float | str) else str(value)
