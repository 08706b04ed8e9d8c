"""The page of a comparison: tables to sort, curves to look into, what is proven, and the recipes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from trainkit.compare.bands import Band, band_of
from trainkit.compare.comparison import Comparison
from trainkit.compare.differ import cell, headers
from trainkit.compare.pairs import verdict
from trainkit.compare.plot import RATE, far_apart
from trainkit.compare.rows import GAP, Row
from trainkit.compare.table import LEVEL_TEXT, names_of, over_text, pair_table, rounded, shown_tests
from trainkit.console import write_file
from trainkit.errors import MachineError
from trainkit.page import Bars, Block, Cell, Code, Curves, Line, Section, Table, Text, render
from trainkit.rundir import PAGE, read_text

_POINTS = 40_000  # of all curves together, about: a page stays below 2 MB
_LEAST = 64
_FEW = 256  # points of a scheduled value, up to which it is drawn in steps
_MOST_RECIPES = 12
_MOST_TESTS = 300  # pairs; of more recipes those with the best one of each figure
_MOST_RATES = 6  # other scheduled values


def write_page(found: Comparison, file: Path, by: str = "epoch") -> None:
    """Write the page, one file that needs no network.

    Args:
        found: the comparison.
        file: where to.
        by: what curves are drawn against at first: ``epoch``, ``step`` or ``time``.

    Raises:
        MachineError: if it cannot be written.
    """
    if file.is_dir():
        raise MachineError(f"{file}: cannot be written: it is a folder; name a file in it")
    text = render(f"Comparison of {names_of(found.rows)}", sections_of(found, file.parent, by), _subtitle(found))
    write_file(str(file), text)


def sections_of(found: Comparison, beside: Path | None = None, by: str = "epoch") -> list[Section]:
    """What the page is made of.

    Args:
        found: the comparison.
        beside: the folder of the page, from which it leads to the runs' own pages.
        by: the axis that comes first.
    """
    named = list(dict.fromkeys(name for row in found.rows for entry in row.entries for name in entry.curves))
    figures = [name for name in found.figures if name in named]
    training = [name for name in named if name.startswith("train.") and name not in figures]
    rates = [name for name in named if "/" in name]
    rest = [name for name in named if name not in (*figures, *training, *rates)]
    groups = {
        "Curves": figures,
        "Learning rate": [name for name in rates if name == RATE],
        "On training samples": training,
        "Other figures": rest,
        "Other scheduled values": [name for name in rates if name != RATE][:_MOST_RATES],
    }
    drawn = sum(map(len, groups.values())) * len(found.rows)
    most = max(_LEAST, _POINTS // max(1, drawn))
    everything: dict[str, list[Block]] = {"Result": list(_result(found, beside))}
    for title, names in groups.items():
        blocks = [_curves(found.rows, name, by, most) for name in names]
        everything[title] = [block for block in blocks if block is not None]
        if title == "Learning rate":
            everything["Evidence"] = list(_evidence(found))
    everything["Recipes"] = list(_recipes(found))
    return [Section(title, blocks) for title, blocks in everything.items() if blocks]


def _subtitle(found: Comparison) -> str:
    runs = sum(len(row.entries) for row in found.rows)
    return f"{runs} run{'s' * (runs != 1)} of {len(found.rows)} recipe{'s' * (len(found.rows) != 1)}"


def _result(found: Comparison, beside: Path | None) -> Iterator[Block]:
    for answer in found.answers:
        says = "met" if answer.met else "not met"
        yield Text(f"Required: {answer.requirement.text}: {says}. {answer.words}", "good" if answer.met else "bad")
    spreads = [name for name in found.columns if any((s := row.spread(name)) and s.n > 1 for row in found.rows)]
    several = ["of"] * any(len(row.entries) > 1 for row in found.rows)
    head, lines = ["run", *several, *headers(list(found.differing))], []
    for name in found.columns:
        head += [name, f"sd of {name}"] if name in spreads and name in found.figures else [name]
    ended = any(row.status != "finished" for row in found.rows)
    for place, row in enumerate(found.rows):
        line: list[Cell] = [
            row.name,
            *([row.over] * len(several)),
            *(_setting(values[place]) for values in found.differing.values()),
        ]
        for name in found.columns:
            s = row.spread(name)
            line.append(None if s is None else rounded(s.mean))
            if name in spreads and name in found.figures:
                line.append(None if s is None or s.sd is None else rounded(s.sd))
        lines.append([*line, *([row.status] * ended)])
    links = [_link(row, beside) for row in found.rows]
    names = [row.name for row in found.rows]
    yield Table([*head, *(["status"] * ended)], lines, links=links if any(links) else (), colours=names)
    if found.gap:
        figure = found.gap.removeprefix(GAP)
        yield Text(f"The gap says by how much {figure} is worse than the same figure on training samples: overfitting.")
    if found.notes:
        yield Text("\n".join(found.notes), "note")


def _setting(value: object) -> Cell:
    return value if isinstance(value, int | float) else cell(value)


def _link(row: Row, beside: Path | None) -> str:
    """The way to the page of a row's run, or of the folder of its runs, where there is one."""
    entry = row.entries[0]
    folder = Path(entry.within) if entry.within else entry.folder
    file = folder / PAGE
    if beside is None or not file.is_file():
        return ""
    try:
        return Path(os.path.relpath(file.resolve(), beside.resolve())).as_posix()
    except ValueError:  # on another drive
        return ""


def _evidence(found: Comparison) -> Iterator[Block]:
    for name in found.figures:
        spreads = [(row.name, s) for row in found.rows if (s := row.spread(name)) is not None and s.low is not None]
        if spreads:
            yield Bars(
                f"{name}: means, with their {LEVEL_TEXT} intervals",
                [row for row, _ in spreads],
                [s.mean for _, s in spreads],
                [s.low for _, s in spreads if s.low is not None],
                [s.high for _, s in spreads if s.high is not None],
                name,
                dots=True,
            )
    for name in found.figures:
        tests = [test for test in shown_tests(found) if test.figure == name]
        if tests:
            differences = [test.paired.difference for test in tests]
            yield Bars(
                f"{name}: differences in pairs, with their {LEVEL_TEXT} intervals",
                [f"{test.one.name} - {test.other.name}" for test in tests],
                [s.mean for s in differences],
                [s.low for s in differences if s.low is not None],
                [s.high for s in differences if s.high is not None],
                name,
            )
    if found.tests:
        yield Text(
            f"Differences of runs with the same {over_text(found)}: a paired t test, and its p value beside all others "
            "after Holm. Runs of other seeds on the same samples say what chance in training does; what other samples "
            "would do, folds say."
        )
        said = shown_tests(found)
        for name in found.figures:
            if text := verdict(said, name):
                yield Text(text, "good" if any(test.real for test in said if test.figure == name) else "plain")
        head, lines = pair_table(found, every=len(found.tests) <= _MOST_TESTS)
        yield Table(head, lines, "Differences in pairs")
        if (more := len(found.tests) - len(lines)) > 0:
            yield Text(f"{more} more pairs, which p after Holm allows for too, are in --json.", "note")


def _curves(rows: Sequence[Row], name: str, by: str, most: int) -> Curves | None:
    lines = []
    scheduled = "/" in name
    for row in rows:
        band = band_of(row, name, most)
        if band is None:
            continue
        if scheduled and len(band.y) < _FEW:
            band = _stepped(band)
        lines.append(Line(band.name, band.x, band.y, band.low, band.high))
    if not lines or max(len(line.y) for line in lines) < 2:  # what is measured once is in the table
        return None
    title = "learning rate" if name == RATE else name
    wide = name == RATE and far_apart([line.y for line in lines])
    return Curves(title, lines, unit=name, smooth=not scheduled, log=wide, axis=by)


def _stepped(band: Band) -> Band:
    """A scheduled value as it held: what was logged at the end of a stretch held during all of it."""
    x = {
        axis: [place for pair in zip([0.0, *places], places, strict=False) for place in pair]
        for axis, places in band.x.items()
    }
    return Band(band.name, x, [value for value in band.y for _ in range(2)])


def _recipes(found: Comparison) -> Iterator[Block]:
    if found.differing:
        rows = [[key, *(_setting(value) for value in values)] for key, values in found.differing.items()]
        yield Table(["setting", *(row.name for row in found.rows)], rows, "What differs")
    else:
        yield Text("They have one recipe." if len(found.rows) == 1 else "Their recipes do not differ in any setting.")
    for row in found.rows[:_MOST_RECIPES]:
        entry = row.entries[0]
        with suppress(OSError, ValueError):  # it has gone since
            yield Code(read_text(entry.folder / "recipe.toml"), f"Recipe of {entry.name}")
