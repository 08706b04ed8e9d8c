"""From runs to rows: those of one recipe, which differ in seed or fold alone, are one; and how rows are called."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainkit.compare.entries import MISSING, Entry, is_figure
from trainkit.component import own_figures
from trainkit.errors import TrainkitError
from trainkit.evidence import Spread, spread
from trainkit.manager import Plugins

BEST, GAP = "best ", "gap "  # before the name of a figure: its best value so far, and what training samples have ahead
SECONDS, SPEED = "seconds", "updates/s"
SPLITS = ("val", "test", "train")
_LOWER = ("loss", "nll", "brier", "ece", "mse", "rmse", "mae", "error")  # what every run or ensemble measures
_WORD = re.compile(r"[^\W\d_]+$")
_CUT = re.compile(r"[-_.= ]+(seed|fold)?[-_.= ]*$")


@dataclass
class Row:
    """All runs of one recipe.

    Args:
        name: how tables and legends call it.
        entries: the runs, each seed and fold once.
        higher: by figure whether a higher value is a better one; without those of which nobody knows.
        notes: what a reader should know.
    """

    name: str
    entries: list[Entry]
    higher: Mapping[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counted(self) -> list[Entry]:
        """The runs that its figures are of: those that are done; where none is, all that have begun."""
        done = [entry for entry in self.entries if entry.done]
        return done or [entry for entry in self.entries if entry.status != MISSING] or self.entries

    @property
    def folds(self) -> int:
        """Into how many parts samples were cut, where the runs are of several of them; else 0."""
        kept = self.counted
        return kept[0].folds if len({entry.fold for entry in kept}) > 1 else 0

    @property
    def over(self) -> str:
        """How many runs its figures are of, in words."""
        kept = self.counted
        if len(kept) == 1 and kept[0].kind != "run":
            return {"study": "1 winner", "ensemble": "1 ensemble"}[kept[0].kind]
        seeds, folds = (len({getattr(entry, name) for entry in kept}) for name in ("seed", "fold"))
        if len(kept) != seeds * folds:
            return f"{len(kept)} runs"
        if folds == 1:
            return f"{seeds} seeds" if seeds > 1 else "1 seed"
        return f"{folds} folds" if seeds == 1 else f"{seeds} seeds x {folds} folds"

    @property
    def status(self) -> str:
        """How its runs ended."""
        unlike = [entry for entry in self.entries if not entry.done]
        if len(self.entries) == 1 or not unlike:
            return self.entries[0].status if unlike else "finished"
        return f"{len(self.entries) - len(unlike)} of {len(self.entries)} finished"

    def by_pair(self, figure: str) -> dict[tuple[Any, Any], float]:
        """A figure by seed and fold; of runs that have it, where it is finite."""
        found = {(entry.seed, entry.fold): value_of(entry, figure, self.higher) for entry in self.counted}
        return {pair: value for pair, value in found.items() if value is not None and math.isfinite(value)}

    def spread(self, figure: str) -> Spread | None:
        """A figure over its runs; nothing where none has it."""
        values = list(self.by_pair(figure).values())
        return spread(values, self.folds) if values else None


def value_of(entry: Entry, figure: str, higher: Mapping[str, bool]) -> float | None:
    """A figure of a run: ``val.loss`` at its end, ``best val.loss``, ``gap val.loss``, ``seconds``, ``updates/s``."""
    if figure == SECONDS:
        return entry.seconds
    if figure == SPEED:
        return entry.steps / entry.seconds if entry.steps and entry.seconds else None
    if figure.startswith(BEST):
        return _best(entry, figure.removeprefix(BEST), higher)
    if figure.startswith(GAP):
        name = figure.removeprefix(GAP)
        ours = entry.last.get(name)
        theirs = entry.last.get(f"train.{name.partition('.')[2]}")
        if ours is None or theirs is None or name not in higher:
            return None
        return theirs - ours if higher[name] else ours - theirs
    return entry.last.get(figure)


def _best(entry: Entry, name: str, higher: Mapping[str, bool]) -> float | None:
    if name not in higher:
        return None
    values = [point[-1] for point in entry.curves[name].points] if name in entry.curves else []
    if name in entry.last:
        values.append(entry.last[name])
    values = [value for value in values if is_figure(value) and math.isfinite(value)]
    return (max if higher[name] else min)(values, default=None)


def make_rows(entries: Sequence[Entry], plugins: Plugins) -> list[Row]:
    """Put runs of one recipe into one row, in the order in which they were named.

    Args:
        entries: the runs.
        plugins: know of metrics which way is better.
    """
    together: dict[str, list[Entry]] = {}
    for entry in entries:
        together.setdefault(entry.recipe_key, []).append(entry)
    higher = _directions(entries, plugins)
    groups = list(together.values())
    names = _names(
        [_name(group, [entry for other in groups if other is not group for entry in other]) for group in groups]
    )
    rows = []
    for name, group in zip(names, groups, strict=True):
        kept, notes = _each_once(group)
        notes += [f"{_last(entry)}: {note}" if len(kept) > 1 else note for entry in kept for note in entry.notes]
        row = Row(name, kept, higher, notes)
        if (lost := len(kept) - len(row.counted)) > 0 and row.counted[0].done:
            row.notes.append(f"its figures are those of the {len(row.counted)} that finished: {lost} did not")
        rows.append(row)
    return rows


def _each_once(group: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Each seed and fold once: the same run made twice is no second sample."""
    kept: dict[tuple[Any, Any], Entry] = {}
    again: dict[tuple[Any, Any], list[Entry]] = {}
    for entry in group:
        pair = (entry.seed, entry.fold) if entry.status != MISSING else (entry.name, MISSING)
        first = kept.setdefault(pair, entry)
        if first is entry:
            continue
        if entry.done and not first.done:
            kept[pair], entry = entry, first
        again.setdefault(pair, []).append(entry)
    notes = []
    for pair, entries in again.items():
        if len(entries) == 1:
            told = f"{entries[0].name} has the recipe and the seed of {kept[pair].name}: it is not counted again"
        else:
            told = f"{len(entries)} more have the recipe and the seed of {kept[pair].name}: they are not counted again"
        notes.append(told)
    return list(kept.values()), notes


def _last(entry: Entry) -> str:
    """A run's own name, without the folders that it lies in."""
    return os.path.basename(entry.name.rstrip(os.sep))


def _directions(entries: Iterable[Entry], plugins: Plugins) -> dict[str, bool]:
    """By figure whether higher is better, as the metrics' plugins say."""
    entries = list(entries)
    names = {name.partition(".")[2] for entry in entries for name in entry.last if name.partition(".")[0] in SPLITS}
    uses: dict[str, bool | None] = {}
    for entry in entries:
        metrics = entry.tables.get("metric")
        for table in metrics if isinstance(metrics, list) else ():
            use = table.get("use") if isinstance(table, Mapping) else None
            if isinstance(use, str) and use not in uses:
                uses[use] = _asked(use, plugins)
    own = _own_figures(entries, plugins)
    found: dict[str, bool] = {}
    for name in names:
        known = False if name in _LOWER else True if name == "accuracy" else None
        for use, says in uses.items():
            bare = use.rpartition(":")[2]
            if says is not None and (name == bare or name.startswith((f"{bare}.", f"{bare}_"))):
                known = says
        known = own.get(name, known)
        if known is not None:
            found |= {f"{split}.{name}": known for split in SPLITS}
    return found


def _own_figures(entries: Iterable[Entry], plugins: Plugins) -> dict[str, bool]:
    """What the runs' callbacks measure themselves, as their plugins say."""
    callbacks = [entry.tables.get("callback") for entry in entries]
    tables = [table for some in callbacks if isinstance(some, list) for table in some if isinstance(table, Mapping)]
    found: dict[str, bool] = {}
    for use in {table["use"] for table in tables if isinstance(table.get("use"), str)}:
        with contextlib.suppress(TrainkitError):  # a plugin that cannot be imported here
            found |= own_figures(plugins.find("callback", use)[:1])
    return found


def _asked(use: str, plugins: Plugins) -> bool | None:
    try:
        for component in plugins.find("metric", use):
            says = component.capabilities.get("higher_is_better")
            if isinstance(says, bool):
                return says
    except TrainkitError:  # a plugin that cannot be imported here: the metric's figures are shown all the same
        pass
    return None


def _name(group: Sequence[Entry], others: Sequence[Entry]) -> str:
    """What the user would call some runs: the folder of all, or what the names of their folders have in common."""
    names = list(dict.fromkeys((entry.within or entry.name).rstrip(os.sep) for entry in group))
    if len(names) == 1:
        return names[0]
    letters = itertools.takewhile(lambda some: len(set(some)) == 1, zip(*names, strict=False))
    alike = "".join(some[0] for some in letters)
    # No number and no word is cut in the middle: what runs 10 to 12 have in common is no 1.
    if any(name[len(alike) :][:1].isalpha() for name in names):
        alike = _WORD.sub("", alike)
    shared = _CUT.sub("", alike.rstrip("0123456789"))
    if len(os.path.basename(shared)) > 1 and os.path.basename(shared) not in ("seed", "fold"):
        return shared
    above = {os.path.dirname(name.rstrip(os.sep)) for name in names}
    if (
        len(above) == 1
        and (folder := above.pop())
        and not any(entry.name.startswith(folder + os.sep) for entry in others)
    ):
        return folder
    return f"{names[0]} and {len(names) - 1} more"


def _names(long: Sequence[str]) -> list[str]:
    """Names without the folders that all have in common, each another one."""
    parts = [os.path.normpath(name).split(os.sep) for name in long]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    names: list[str] = []
    for part in parts:
        name = free = os.sep.join(part[shared:])
        count = 1
        while free in names:
            count += 1
            free = f"{name} ({count})"
        names.append(free)
    return names
