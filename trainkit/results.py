"""What the folders of runs, studies and ensembles hold, read without torch and without trust.

A folder may be a stranger's, a run may still be going on or have been killed: what cannot be read beside its recipe is
left out and noted.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainkit.arguments import REPEATS, STUDY_LOG, holds_ensemble
from trainkit.errors import UsageError
from trainkit.files import Unfit, open_regular
from trainkit.forms import object_in
from trainkit.recipe import parse_toml
from trainkit.rundir import check_links, read_text
from trainkit.thinned import Thinned

MAX_DEPTH = 16  # of the tables and lists in a file of a run folder
LONGEST_LINE = 1 << 20  # characters; a line that a run writes has some hundred
LONGEST_FILE = 1 << 40  # bytes
AXES = ("step", "epoch", "time")  # what a curve can be drawn against, in the order of the points' numbers


@dataclass
class Result:
    """What one folder holds.

    Args:
        name: as the user named it.
        folder: where it lies.
        kind: ``run``, ``study``, ``ensemble`` or ``repeats``.
        tables: its recipe as it stands there: filled, but not checked again.
        environment: what ``environment.json`` says.
        report: what ``report.json`` says; empty while a run goes on, and of one that was killed.
        notes: what a reader should know, such as a file that cannot be read.
    """

    name: str
    folder: Path
    kind: str
    tables: Mapping[str, Any]
    environment: Mapping[str, Any]
    report: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)


def read_result(folder: Path, name: str = "") -> Result:
    """Read a folder that ``run`` or ``ensemble`` made.

    Args:
        folder: the folder.
        name: as the user named it; the folder's path if not given.

    Raises:
        UsageError: if it holds no run, study or ensemble, or its recipe cannot be read.
        MachineError: if a name in it leads out of it.
    """
    name = name or str(folder)
    kind = kind_of(folder)
    file = folder / "recipe.toml"
    if not file.is_file():
        raise UsageError(f"{name}: it holds no run, study or ensemble (there is no {file}); name one that 'run' made")
    check_links(folder)
    try:
        text = read_text(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    notes: list[str] = []
    environment = read_object(folder / "environment.json", notes)
    return Result(
        name, folder, kind, parse_toml(text, str(file)), environment, read_object(folder / "report.json", notes), notes
    )


def kind_of(folder: Path) -> str:
    """What a folder holds: ``run``, ``study``, ``ensemble`` or ``repeats``."""
    if (folder / REPEATS).is_file():
        return "repeats"
    if (folder / STUDY_LOG).is_file():
        return "study"
    return "ensemble" if holds_ensemble(folder) else "run"


def read_object(file: Path, notes: list[str]) -> dict[str, Any]:
    """What a JSON file of a run folder holds; nothing where there is none, as while a run goes on.

    Args:
        file: the file.
        notes: takes a line where it cannot be read.
    """
    if not file.exists():
        return {}
    try:
        found = object_in(read_text(file).encode())
        _check(found, MAX_DEPTH)
        return found
    except (OSError, ValueError, Unfit) as error:
        notes.append(f"{file.name} cannot be read: {error}")
        return {}


def _check(value: Any, depth: int) -> None:
    """Raises Unfit if a value is nested deeper, or holds a number that no arithmetic can take, such as ``1e999``."""
    if isinstance(value, dict | list):
        if depth < 0:
            raise Unfit(f"it is nested more than {MAX_DEPTH} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
    elif isinstance(value, int | float) and abs(value) > sys.float_info.max:
        raise Unfit("a number in it is too large")


def lines_of(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, while it goes on too: whole ones, of the form that runs write.

    Each has ``step``, ``epoch`` and ``time`` (seconds since the run began) as numbers, and ``split`` as text; its other
    values are what it measured. They are read one by one: a long run has millions.
    """
    try:
        number, _ = open_regular(folder / "metrics.jsonl", LONGEST_FILE)
    except (OSError, ValueError):
        return
    with os.fdopen(number, encoding="utf-8", errors="replace") as file:
        while text := file.readline(LONGEST_LINE):
            if (line := line_in(text)) is not None:
                yield line


def line_in(text: str) -> Mapping[str, Any] | None:
    """What a line of ``metrics.jsonl`` holds; ``None`` if it is not whole, or of no form that runs write."""
    try:
        line = json.loads(text) if text.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and _is_line(line) else None


def _is_line(line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("split"), str) and all(_is_number(line.get(key)) for key in AXES)


def _is_number(value: Any) -> bool:
    # Not math.isfinite: it fails at whole numbers that no float can hold.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def curves_of(lines: Iterable[Mapping[str, Any]], most: int = 2048) -> dict[str, Thinned]:
    """The curves of a run by name: ``train.loss``, ``val.accuracy``, and ``lr/0`` and the like as the run logged them.

    Args:
        lines: of its ``metrics.jsonl``; gone through once.
        most: a curve that has more points than this is thinned out, to twice as many at the most.

    Returns:
        Points ``(step, epoch, time, value)``; values that are not finite, which are written as null, are left out.
    """
    found: defaultdict[str, Thinned] = defaultdict(lambda: Thinned(most))
    for line in lines:
        for name, value in values_in(line):
            found[name].add(*(float(line[axis]) for axis in AXES), value)
    return dict(found)


def values_in(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What a line measured, by the names that `curves_of` gives; what is not finite is left out."""
    for key, value in line.items():
        if key not in AXES and key != "split" and _is_number(value):
            yield key if "/" in key else f"{line['split']}.{key}", float(value)
