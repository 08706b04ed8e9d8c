"""A whole comparison: rows, the figures that are shown, what differs, what is proven, what was required."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.compare.differ import differing, other_samples
from trainkit.compare.entries import read_entries
from trainkit.compare.pairs import Test, remarks, tests_of
from trainkit.compare.require import Answer, answers_of, check_known, parse
from trainkit.compare.rows import BEST, GAP, SECONDS, SPEED, SPLITS, Row, make_rows
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent

_MOST = 4  # figures that are shown where the user names none
_MACHINE = ("device", "device_name", "cpu", "threads", "torch", "precision")


@dataclass
class Comparison:
    """What there is to say of runs beside each other.

    Args:
        rows: one for each recipe, in the order in which they were named.
        figures: those that are shown, such as ``val.loss``.
        differing: settings in which the rows differ: the value in each.
        tests: of rows that have seeds or folds in common, by each figure that is shown.
        answers: to what was required.
        notes: what a reader should know.
    """

    rows: list[Row]
    figures: list[str]
    differing: dict[str, list[Any]]
    tests: list[Test]
    answers: list[Answer]
    notes: list[str]

    @property
    def met(self) -> bool:
        """Whether everything that was required is so."""
        return all(answer.met for answer in self.answers)

    @property
    def gap(self) -> str:
        """The figure by which the overfit gap is told: the first one of validation samples that has one, or ``""``."""
        named = [f"{GAP}{name}" for name in (*self.figures, "val.loss") if name.startswith("val.")]
        return next((name for name in named if any(row.by_pair(name) for row in self.rows)), "")

    @property
    def columns(self) -> list[str]:
        """The figures of the table, in order; those that no row has are left out."""
        named = [column for name in self.figures for column in (name, f"{BEST}{name}")]
        wanted = [*named, self.gap, SECONDS, SPEED]
        return [
            name for name in wanted if name and (name in self.figures or any(row.by_pair(name) for row in self.rows))
        ]


def compare_runs(
    words: Sequence[str],
    plugins: Plugins,
    say: Callable[[str], None],
    metrics: Sequence[str] = (),
    required: Sequence[str] = (),
    progress: Progress = silent,
) -> Comparison:
    """Compare what lies in some folders.

    Args:
        words: see `trainkit.compare.entries.read_entries`.
        plugins: know of metrics which way is better.
        say: told of what is left out.
        metrics: figures to show; by default those of validation samples.
        required: see `trainkit.compare.require.parse`.
        progress: shows how far reading has come.

    Raises:
        UsageError: if there is nothing to compare, or no run has a figure that is asked for.
    """
    requirements = parse(required)
    rows = make_rows(read_entries(words, say, progress), plugins)
    known = {name for row in rows for entry in row.entries for name in entry.last}
    for name in metrics:
        check_known("--metric", name, known)
    figures = list(dict.fromkeys(metrics)) or _shown(rows)
    every = {*known, *(f"{mark}{name}" for mark in (BEST, GAP) for name in known), SECONDS, SPEED}
    if all(entry.done for row in rows for entry in row.entries):  # else it may be measured yet
        for requirement in requirements:
            check_known(f"--require {requirement.text}:", requirement.figure, every)
    settings = differing(rows)
    tests = tests_of(rows, figures)
    notes = _notes(rows, figures, settings, known) + remarks(rows, tests)
    return Comparison(rows, figures, settings, tests, answers_of(requirements, rows), notes)


def _shown(rows: Sequence[Row]) -> list[str]:
    """The figures of validation samples, else of test samples, else of training samples; the loss first."""
    names = list(dict.fromkeys(name for row in rows for entry in row.entries for name in entry.last))
    for split in SPLITS:
        found = [name for name in names if name.startswith(f"{split}.")]
        if found:
            # What most rows have comes first, and what few have not at all: an ensemble measures much that no run does.
            common = {name: sum(any(name in entry.last for entry in row.entries) for row in rows) for name in found}
            found = [name for name in found if 2 * common[name] >= len(rows)] or found
            return sorted(found, key=lambda name: (not name.endswith(".loss"), -common[name]))[:_MOST]
    return []


def _notes(rows: Sequence[Row], figures: Sequence[str], settings: Mapping[str, Any], known: set[str]) -> list[str]:
    said = []
    for row in rows:
        said += [f"{row.name}: {note}" for note in row.notes]
    for name in figures:
        without = [row.name for row in rows if not row.by_pair(name)]
        if without:
            said.append(f"{name} is not known of: {', '.join(without)}")
    if samples := other_samples(list(settings)):
        said.append(f"their recipes differ in {', '.join(samples)}: their figures may be of other samples")
    environments = [entry.environment for row in rows for entry in row.counted if entry.seconds is not None]
    unlike = [key for key in _MACHINE if len({repr(known[key]) for known in environments if key in known}) > 1]
    if unlike:
        said.append(f"they were not run alike ({', '.join(unlike)}): seconds and updates/s cannot be compared")
    shown = figures[0].partition(".")[0] if figures else ""
    more = sorted(name for name in known if name.partition(".")[0] == shown and name not in figures)
    if more:
        said.append(f"also measured, and shown with --metric NAME: {', '.join(more)}")
    return said
