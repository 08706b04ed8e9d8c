"""What is compared: from the folders that a user names to one entry for each run that was trained.

Nothing here trusts what a folder holds: a run may go on, have failed, be a stranger's. What is missing becomes a note.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainkit.arguments import REPEATS, run_folder
from trainkit.errors import MachineError, RecipeError, UsageError
from trainkit.protocols import Progress, silent
from trainkit.results import Result, curves_of, kind_of, lines_of, read_object, read_result
from trainkit.rundir import check_links
from trainkit.search.folder import TRIALS, trial_folder
from trainkit.search.ledger import read_ledger
from trainkit.thinned import Thinned
from trainkit.trial_results import ENDED, results_of

_ENDINGS = {"unfinished": "it goes on, or was killed", "failed": "it failed", "interrupted": "it was interrupted"}
MISSING = "missing"  # of a part of a folder of several, of which there is nothing to compare yet
_LARGEST = 1e100  # of a figure; sums and squares of what is larger overflow
_POINTS = 1024  # bunches of a curve: a picture is no wider
# What says nothing of how a run is trained: which distributions were installed, what is kept and logged of it.
_ASIDE = ("requires", "logger")
_ASIDE_RUN = ("keep", "log_every", "save_best", "save_every", "save_in_background", "save_pause", "threads")


@dataclass
class Entry:
    """One trained run, or one ensemble.

    Args:
        name: as the user named it; of a folder of several, with the part's name behind it.
        folder: where it lies.
        kind: ``run``, ``study`` or ``ensemble``: what the user named, or the folder of several runs holds.
        tables: the recipe of the run, as it stands there; of a study that of its winner.
        own: the recipe of the whole: of a study its own, else the same.
        status: what its report says; ``unfinished`` where it has none: it goes on, or was killed; ``missing`` where
            there is nothing of it yet.
        seed: what it was seeded with.
        fold: which fold it was measured on; ``None`` without folds.
        folds: into how many parts its samples were cut; 0 without folds.
        curves: see `trainkit.results.curves_of`.
        last: its figures at its end, or so far; not a number where one is not finite.
        seconds: how long it took; ``None`` where that is not known.
        steps: updates made.
        environment: where it was run.
        within: the study or the folder of several runs that it is part of, as the user named it.
        notes: what a reader should know.
    """

    name: str
    folder: Path
    kind: str
    tables: Mapping[str, Any]
    own: Mapping[str, Any]
    status: str = "unfinished"
    seed: Any = None
    fold: Any = None
    folds: int = 0
    curves: Mapping[str, Thinned] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    steps: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    within: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether its last figures are those of its end."""
        return self.status in ENDED

    @property
    def recipe_key(self) -> str:
        """What is the same of all runs of one recipe that differ in seed or fold alone."""
        return f"{self.kind} {json.dumps(without_chance(self.own), sort_keys=True, default=str)}"


def without_chance(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its seed and its fold, which say which run of the recipe it is, and what is kept of the run."""
    rest = {key: value for key, value in tables.items() if key not in ("seed", *_ASIDE)}
    for name, left_out in (("data", ("fold",)), ("run", _ASIDE_RUN)):
        table = rest.get(name)
        if isinstance(table, Mapping):
            rest[name] = {key: value for key, value in table.items() if key not in left_out}
    return rest


def read_entries(words: Sequence[str], say: Callable[[str], None], progress: Progress = silent) -> list[Entry]:
    """Read everything that the user has named.

    Args:
        words: run, study and ensemble folders, and folders of several runs of one recipe.
        say: told of what holds no run; a shell's ``runs/*`` names other things too.
        progress: shows how far reading has come: long runs have written millions of lines.

    Raises:
        UsageError: if there is no such folder, or nothing in all of them that can be compared.
        MachineError: if a name in a folder leads out of it.
    """
    found: list[Entry] = []
    left_out: list[str] = []
    seen: set[str] = set()
    for number, word in enumerate(words):
        progress(number, len(words), "reading runs")
        folder = Path(word) if os.path.exists(word) else run_folder(word)
        try:
            if not folder.is_dir():
                raise UsageError(f"{word}: it is a file; name the folder of a run")
            for entry in _entries(folder, word):
                if (place := os.path.realpath(entry.folder)) not in seen:
                    seen.add(place)
                    found.append(entry)
        except (UsageError, RecipeError) as error:
            left_out.append(str(error))
    progress(len(words), len(words), "")
    if not found:
        raise UsageError(
            "\n".join(left_out) or "compare takes one run folder or more, such as: trainkit compare runs/*"
        )
    for text in left_out:
        say(f"left out: {text}")
    return found


def _entries(folder: Path, name: str) -> Iterator[Entry]:
    kind = kind_of(folder)
    if kind == "repeats":
        yield from _repeated(folder, name)
    elif kind == "study":
        yield from _winner(folder, name)
    elif kind == "ensemble":
        yield _ensemble(read_result(folder, name))
    else:
        if not (folder / "recipe.toml").is_file() and any(folder.glob("*/recipe.toml")):
            raise UsageError(f"{name}: it holds no run itself, but folders of runs; write: trainkit compare {name}/*")
        yield _run(read_result(folder, name))


def _repeated(folder: Path, name: str) -> Iterator[Entry]:
    """All runs of a folder of several; those of which nothing can be compared yet last, as missing ones of the row."""
    check_links(folder)
    notes: list[str] = []
    named = read_object(folder / REPEATS, notes).get("runs")
    parts = [part for part in named if _is_part(part)] if isinstance(named, list) else []
    if not parts:
        raise UsageError(f"{name}: its {REPEATS} names no runs{''.join(f' ({note})' for note in notes)}")
    called = name.rstrip(os.sep)
    like: Entry | None = None
    missing: dict[str, str] = {}
    for part in parts:
        inside = folder / part
        if not (inside / "recipe.toml").is_file():
            missing[part] = "it has not been begun"
        elif kind_of(inside) == "repeats":
            missing[part] = "it holds several runs itself"
        else:
            try:
                for entry in _entries(inside, f"{called}/{part}"):
                    entry.within = name
                    like = entry
                    yield entry
            except (UsageError, RecipeError) as error:
                missing[part] = str(error).removeprefix(f"{called}/{part}: ")
    if like is None:
        part, why = next(iter(missing.items()))
        raise UsageError(f"{name}: none of its {len(parts)} runs can be compared: {part}: {why}")
    whys = [*missing.values()]
    for place, (part, why) in enumerate(missing.items()):
        made = like.kind, like.tables, like.own, MISSING
        entry = Entry(f"{called}/{part}", folder / part, *made, folds=like.folds, within=name)
        if whys.index(why) == place:  # said of the first alone: a thousand seeds may have been asked for
            entry.notes = [f"{why}, as {whys.count(why) - 1} more" if whys.count(why) > 1 else why]
        yield entry


def _is_part(part: Any) -> bool:
    return isinstance(part, str) and part not in ("", ".", "..") and not set(part) & {"/", "\\", "\0"}


def _run(result: Result) -> Entry:
    """A single run, which may go on."""
    entry = _entry(result, "run")
    measured = results_of("run", result.report)
    _fill(entry, result.report, measured)
    return entry


def _entry(result: Result, kind: str) -> Entry:
    tables = result.tables
    data = tables.get("data")
    data = data if isinstance(data, Mapping) else {}
    folds = data.get("folds")
    fold = data.get("fold", 0)
    folds = folds if type(folds) is int and folds > 1 else 0
    seed, status = tables.get("seed"), result.report.get("status")
    return Entry(
        *(result.name, result.folder, kind, tables, tables),
        status=status if isinstance(status, str) and status in (*ENDED, *_ENDINGS) else "unfinished",
        seed=seed if isinstance(seed, int | str) else None,
        fold=fold if folds and type(fold) is int else None,
        folds=folds,
        environment=result.environment,
        notes=list(result.notes),
    )


def _fill(entry: Entry, report: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Put in what a run has measured: its curves, and its figures at its end."""
    newest: dict[str, Any] = {}
    lost: dict[str, float] = {}
    entry.curves = curves_of(_watched(lines_of(entry.folder), newest, lost), _POINTS)
    for name, curve in entry.curves.items():
        if "/" not in name and abs(curve.last[-1]) <= _LARGEST:
            entry.last[name] = math.nan if lost.get(name, -1) > curve.last[0] else curve.last[-1]
    entry.last |= dict.fromkeys((name for name in lost if name not in entry.curves), math.nan)
    figures = report.get("metrics")
    for name, value in (figures if isinstance(figures, Mapping) else {}).items():
        if value is None or is_figure(value):
            entry.last[str(name)] = math.nan if value is None else float(value)
    steps = measured.get("steps", newest.get("step"))
    entry.steps = int(steps) if is_figure(steps) else None
    seconds = measured.get("seconds", newest.get("time"))
    entry.seconds = float(seconds) if is_figure(seconds) and seconds >= 0 else None
    if not entry.done:
        at = f" at update {entry.steps}" if entry.steps is not None else " before its first line"
        reason = report.get("reason")
        why = f": {reason.splitlines()[0]}" if isinstance(reason, str) and reason.strip() else ""
        says = f"{_ENDINGS[entry.status]}{why}"
        entry.notes.append(f"{says}; its figures are those{at}" if entry.last else f"{says}; it has no figures")
    for name in sorted(name for name, value in entry.last.items() if math.isnan(value)):
        entry.notes.append(f"its {name} is not finite at its end")


def _watched(
    lines: Iterable[Mapping[str, Any]], newest: dict[str, Any], lost: dict[str, float]
) -> Iterator[Mapping[str, Any]]:
    """The same lines; keeps of the newest where it stands, and where figures were last not finite, which are null."""
    for line in lines:
        newest.update(step=line["step"], time=line["time"])
        lost.update({f"{line['split']}.{key}": line["step"] for key, value in line.items() if value is None})
        yield line


def _winner(folder: Path, name: str) -> Iterator[Entry]:
    """The runs of a study's best trial: one, or one for each fold and repeat."""
    whole = read_result(folder, name)
    try:
        study = read_ledger(folder).study
    except MachineError as error:
        raise UsageError(f"{name}: its log cannot be read: {error}") from error
    best = study.best()
    if best is None:
        raise UsageError(f"{name}: no trial of this study is done; there is nothing to compare yet")
    count = sum(record.trial.status == "done" for record in study.records)
    figure = study.objectives[0].figure
    told = f"its winner is trial {best.trial.number}, the best of {count} by {figure}: chosen by that figure, which is"
    told += " therefore better than another run of it would be"
    mine = _entry(whole, "study")
    if not mine.done:  # another trial may win yet
        told = f"{_ENDINGS[mine.status]}; {told}"
    check_links(folder / TRIALS)
    for part in range(study.parts):
        inside = trial_folder(folder, best.trial.number, part, study.parts)
        if (inside / "recipe.toml").is_file():
            entry = _run(read_result(inside, name if study.parts == 1 else f"{name}/run-{part}"))
        else:  # its folder was not kept
            entry = replace(_entry(whole, "study"), folder=inside, status="finished")
            figures = best.parts[part] if part < len(best.parts) else best.metrics
            entry.last = {key: float(value) for key, value in figures.items() if is_figure(value)}
        entry.kind, entry.own, entry.within = "study", whole.tables, name
        entry.status = entry.status if mine.done else mine.status
        if study.parts == 1:
            entry.seed = mine.seed
            tested = study.winner.get("test")
            if isinstance(tested, Mapping):
                entry.last |= {f"test.{key}": float(value) for key, value in tested.items() if is_figure(value)}
        entry.notes += [*whole.notes, told] if part == 0 else []
        yield entry


def _ensemble(result: Result) -> Entry:
    """An ensemble: the figures that its report has, without curves."""
    entry = _entry(result, "ensemble")
    for name, value in results_of("ensemble", result.report).items():
        if name.partition(".")[0] in ("val", "test") and is_figure(value):
            entry.last[name] = float(value)
    if not entry.last:
        entry.notes.append("its report has no figures: it is not finished")
    return entry


def is_figure(value: Any) -> bool:
    """Whether a value that a stranger may have written is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
