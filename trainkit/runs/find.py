"""The folders below a folder that hold runs, and what is in their files; no link is followed, nothing trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainkit.arguments import ENSEMBLE, REPEATS, STUDY_LOG
from trainkit.errors import RecipeError
from trainkit.files import Unfit, open_regular, read_regular
from trainkit.runs.entry import UNFINISHED, UNREADABLE, Entry

MOST_DEEP = 8  # folders below the one that was asked for: STUDY/ensemble/members/NAME within a folder or four
_RECIPE, _REPORT, _LINES = "recipe.toml", "report.json", "metrics.jsonl"
_WATCHED = (_RECIPE, _REPORT, _LINES, STUDY_LOG, REPEATS, ENSEMBLE)
_LONGEST = 16 * 1024**2  # of a recipe or a report, in bytes
_TAIL = 16 * 1024  # of a run that goes on: bytes of metrics.jsonl, enough for its newest lines
_KINDS = ((REPEATS, "repeats"), (STUDY_LOG, "study"), (ENSEMBLE, "ensemble"))
_NO_RUNS = ("checkpoints", "mlruns", "tensorboard", "wandb")  # folders of many files that hold none
_NO_FIGURES = ("step", "epoch", "split", "time")
_NO_RESULTS = ("status", "weights_sha256", "ensemble_sha256")

Stamp = list[list[Any]]  # name, time and length of each file that an entry follows from


@dataclass(slots=True)
class Place:
    """A folder that holds a run.

    Args:
        name: its path below the folder that was asked for.
        path: where it lies.
        stamp: by which a change of its files is seen.
        newest: when the newest of these files was written, in nanoseconds since 1970.
    """

    name: str
    path: str
    stamp: Stamp
    newest: int


def places(root: Path, trials: bool) -> Iterator[Place]:
    """The folders below ``root`` that hold a run, a study, an ensemble or repeats.

    Args:
        root: the folder; where it holds one itself, those within it.
        trials: whether those within studies, ensembles and repeats count, too.
    """
    yield from _below(str(root), "", trials, MOST_DEEP)


def _below(folder: str, name: str, trials: bool, depth: int) -> Iterator[Place]:
    files: dict[str, os.DirEntry[str]] = {}
    inner: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in _WATCHED:
                    files[entry.name] = entry
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
    except OSError:
        return  # somebody else's, or gone
    is_run = bool(name) and _RECIPE in files
    if is_run:
        stamp, newest = _stamp(files)
        yield Place(name, folder, stamp, newest)
    several = not is_run or STUDY_LOG in files or REPEATS in files or "members" in inner
    if depth and several and (trials or not is_run):
        for part in sorted(inner):
            if part not in _NO_RUNS:
                yield from _below(f"{folder}/{part}", f"{name}/{part}" if name else part, trials, depth - 1)


def _stamp(files: dict[str, os.DirEntry[str]]) -> tuple[Stamp, int]:
    """The files that tell of a run. Of one that has ended, the log of a study and its lines follow no more."""
    stamp: Stamp = []
    newest = 0
    for name in _WATCHED:
        if name not in files:
            continue
        if name in (_LINES, STUDY_LOG) and _REPORT in files:
            stamp.append([name])  # that it is there says what the folder holds
            continue
        try:
            seen = files[name].stat(follow_symlinks=False)
        except OSError:
            continue
        stamp.append([name, seen.st_mtime_ns, seen.st_size, seen.st_ino])
        newest = max(newest, seen.st_mtime_ns)
    return stamp, newest


def read(place: Place) -> Entry:
    """Look at what a folder holds; what cannot be read is noted."""
    from trainkit.diff import leaves
    from trainkit.recipe import parse_toml
    from trainkit.trial_results import results_of

    path, names = Path(place.path), {part[0] for part in place.stamp}
    kind = next((kind for file, kind in _KINDS if file in names), "run")
    note, tables, report = "", {}, {}
    try:
        tables = parse_toml(_text(path / _RECIPE), _RECIPE)
        recipe = {key: value for key, value in leaves(tables) if _is_plain(value)}
    except (OSError, ValueError, RecipeError, RecursionError) as error:
        note, recipe = f"{_RECIPE} cannot be read: {_first_line(error)}", {}
    if kind == "run" and "ensemble" in tables:
        kind = "ensemble"  # on the way, or stopped: a recipe of a single run has no such table
    if _REPORT in names:
        try:
            report = json.loads(_text(path / _REPORT))
            if not isinstance(report, dict):
                raise ValueError("it holds no object")
        except (OSError, ValueError, RecursionError) as error:
            note, report = note or f"{_REPORT} cannot be read: {_first_line(error)}", {}
    results = {key: value for key, value in results_of(kind, report).items() if key not in _NO_RESULTS}
    if not report and _LINES in names:
        results = _newest_figures(path / _LINES)
    status = report.get("status")
    if not isinstance(status, str):
        # Ensembles are written when they are whole, and their reports say nothing of it.
        status = "finished" if report else UNREADABLE if note else UNFINISHED
    return Entry(place.name, kind, status, place.newest / 1e9, recipe, results, note)


def _text(path: Path) -> str:
    return read_regular(path, _LONGEST).decode()


def _first_line(error: BaseException) -> str:
    if isinstance(error, RecipeError):
        return error.problems[0].message.splitlines()[0]
    return (str(error) or type(error).__name__).splitlines()[0]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, bool | int | float | str) for item in value)
    return isinstance(value, bool | int | float | str)


def _newest_figures(path: Path) -> dict[str, Any]:
    """What a run that has no report measured last, from the end of its lines."""
    try:
        number, length = open_regular(path, 1 << 40)
    except (OSError, Unfit):
        return {}
    with os.fdopen(number, "rb") as file:
        file.seek(max(0, length - _TAIL))
        lines = file.read(_TAIL).split(b"\n")
    found: dict[str, Any] = {}
    for raw in lines[1 if length > _TAIL else 0 : -1]:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if not isinstance(line, dict) or not isinstance(line.get("split"), str):
            continue
        for key, value in line.items():
            if key not in _NO_FIGURES and "/" not in key and isinstance(value, int | float):
                found[f"{line['split']}.{key}"] = value
        for name, key in (("steps", "step"), ("epochs", "epoch"), ("seconds", "time")):
            if isinstance(line.get(key), int | float):
                found[name] = line[key]
    return found
