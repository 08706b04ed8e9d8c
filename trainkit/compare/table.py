"""A comparison as a person reads it on a terminal, as Markdown, and as one JSON object."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from trainkit.compare.comparison import Comparison
from trainkit.compare.differ import Several, cell, headers
from trainkit.compare.pairs import Test
from trainkit.compare.rows import BEST, GAP, SECONDS, SPEED, Row
from trainkit.console import emit, emit_table, is_terminal
from trainkit.diff_table import escaped
from trainkit.evidence import LEVEL, Spread

_BETWEEN = 3  # blanks between two columns of a table that is drawn
_MOST_PAIRED = 6  # rows of which every two are shown
LEVEL_TEXT = f"{100 * LEVEL:g} %"


def show(found: Comparison) -> None:
    """Print a comparison."""
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else 0
    for title, keys, head, rows in _tables(found):
        if title:
            emit(f"\n{title}")
        for some, cells in fitting(keys, head, rows, width):
            emit_table(some, cells)
    if lines := _lines(found):
        emit("\n" + "\n".join(lines))


Cells = Sequence[Sequence[str]]


def fitting(keys: int, head: Sequence[str], rows: Cells, width: int) -> Iterator[tuple[Sequence[str], Cells]]:
    """A table in as many parts as a terminal's width asks for: a figure that is cut off says nothing.

    Args:
        keys: its first columns, which name the row and stand in each part.
        head: names of its columns.
        rows: its cells.
        width: letters of a line; 0 for as many as it takes.
    """
    room = [max(map(len, column)) + _BETWEEN for column in zip(head, *rows, strict=True)]
    named = list(range(keys))
    part: list[int] = []
    for column in range(keys, len(head)):
        if part and width and 1 + sum(room[place] for place in [*named, *part, column]) > width:
            yield _columns(head, rows, [*named, *part])
            part = []
        part.append(column)
    yield _columns(head, rows, [*named, *part])


def _columns(head: Sequence[str], rows: Cells, places: Sequence[int]) -> tuple[Sequence[str], Cells]:
    return [head[place] for place in places], [[row[place] for place in places] for row in rows]


def markdown(found: Comparison) -> str:
    """A comparison as Markdown."""
    lines: list[str] = []
    for title, _, head, rows in _tables(found):
        lines += [f"\n{title}\n"] if title else []
        lines += [f"| {' | '.join(map(escaped, cells))} |" for cells in (head, *rows)]
        lines.insert(len(lines) - len(rows), f"|{' --- |' * len(head)}")
    return "\n".join([*lines, "", *(f"- {escaped(line)}" for line in _lines(found))])


def _tables(found: Comparison) -> Iterator[tuple[str, int, list[str], list[list[str]]]]:
    """Each table with its title, and how many of its columns name a row."""
    yield "", 1, *main_table(found)
    rows = [row for row in found.rows if any((s := row.spread(name)) and s.n > 1 for name in found.figures)]
    if rows:
        yield f"means, with their {LEVEL_TEXT} intervals", 2, *interval_table(found)
    if found.tests:
        yield (
            f"differences in pairs of the same {over_text(found)}, with their {LEVEL_TEXT} intervals",
            *(3, *pair_table(found)),
        )


def main_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """One line for each row: how many runs, what differs, its figures."""
    several = any(len(row.entries) > 1 for row in found.rows)
    ended = any(row.status != "finished" for row in found.rows)
    head = ["run", *(["of"] * several), *headers(list(found.differing)), *found.columns, *(["status"] * ended)]
    lines = []
    for number, row in enumerate(found.rows):
        settings = [cell(values[number]) for values in found.differing.values()]
        figures = [_figure(name, row.spread(name)) for name in found.columns]
        lines.append([row.name, *([row.over] * several), *settings, *figures, *([row.status] * ended)])
    return head, lines


def interval_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Means of rows that have several runs."""
    lines = []
    for name in found.figures:
        for row in found.rows:
            if (s := row.spread(name)) is not None and s.n > 1:
                lines.append(
                    [name, row.name, row.over, number(s.mean), number(s.sd), f"{number(s.low)} to {number(s.high)}"]
                )
    return ["figure", "run", "of", "mean", "sd", "interval"], lines


def pair_table(found: Comparison, every: bool = False) -> tuple[list[str], list[list[str]]]:
    """Each two rows by each figure; of many rows, those that matter unless ``every`` pair is wanted."""
    head = ["figure", "run", "minus", "pairs", "difference", "interval", "p", "p, Holm", "says"]
    return head, [_test(test) for test in (found.tests if every else shown_tests(found))]


def shown_tests(found: Comparison) -> list[Test]:
    """The tests that a table has room for: all, or where there are many rows those with the best one of each figure."""
    if len(found.rows) <= _MOST_PAIRED:
        return found.tests
    best = {}
    for name in found.figures:
        means = [(s.mean, row) for row in found.rows if (s := row.spread(name)) is not None and s.n > 1]
        if means:
            sign = -1 if means[0][1].higher.get(name, False) else 1
            best[name] = min(means, key=lambda pair: sign * pair[0])[1]
    return [test for test in found.tests if best.get(test.figure) in (test.one, test.other)]


def _test(test: Test) -> list[str]:
    s = test.paired.difference
    return [
        *(test.figure, test.one.name, test.other.name, str(s.n), f"{s.mean:+.4g}"),
        *(f"{s.low:+.4g} to {s.high:+.4g}" if s.low is not None and s.high is not None else "-",),
        *(_p(test.paired.p), _p(test.p), test.words),
    ]


def over_text(found: Comparison) -> str:
    """What the runs of a pair have in common."""
    rows = [row for test in found.tests for row in (test.one, test.other)]
    seeds, folds = (any(len({getattr(e, name) for e in row.counted}) > 1 for row in rows) for name in ("seed", "fold"))
    return "seed and fold" if seeds and folds else "fold" if folds else "seed"


def _lines(found: Comparison) -> list[str]:
    lines = [f"note: {text}" for text in found.notes]
    if (more := len(found.tests) - len(shown_tests(found))) > 0:
        lines.append(f"note: {more} more pairs, which p after Holm allows for too, are in --json")
    for answer in found.answers:
        lines.append(f"{'met' if answer.met else 'NOT MET'}: {answer.requirement.text}  {answer.words}")
    return lines


def _figure(name: str, s: Spread | None) -> str:
    if s is None:
        return "-"
    if name in (SECONDS, SPEED):
        return f"{s.mean:.3g}" if s.mean < 100 else f"{s.mean:.0f}"
    if name.startswith(GAP):
        return f"{s.mean:+.3g}"
    return number(s.mean) if s.sd is None else f"{number(s.mean)} ±{s.sd:.2g}"


def number(value: float | None) -> str:
    """A figure to four digits."""
    return "-" if value is None else f"{value:.4g}"


def rounded(value: float) -> float:
    """A figure as pages have it: to six digits, which is more than any run is worth."""
    return float(f"{value:.6g}")


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def as_dict(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return {
        "rows": [_row(found, number, row) for number, row in enumerate(found.rows)],
        "figures": found.figures,
        "differing": list(found.differing),
        "tests": [_tested(test) for test in found.tests],
        "level": LEVEL,
        "required": [
            {
                "text": answer.requirement.text,
                "row": answer.row.name,
                "value": answer.value,
                "met": answer.met,
            }
            for answer in found.answers
        ],
        "met": found.met,
        "notes": found.notes,
    }


def _row(found: Comparison, number: int, row: Row) -> dict[str, Any]:
    names = dict.fromkeys(name for entry in row.entries for name in entry.last)
    every = [column for name in names for column in (name, f"{BEST}{name}")]
    every += [f"{GAP}{name}" for name in names if name.startswith("val.")] + [SECONDS, SPEED]
    return {
        "name": row.name,
        "kind": row.entries[0].kind,
        "runs": [
            {"name": entry.name, "seed": entry.seed, "fold": entry.fold, "status": entry.status}
            for entry in row.entries
        ],
        "n": len(row.counted),
        "folds": row.folds or None,
        "status": row.status,
        "settings": {key: _plain(values[number]) for key, values in found.differing.items()},
        "figures": {name: vars(s) for name in every if (s := row.spread(name)) is not None},
    }


def _tested(test: Test) -> dict[str, Any]:
    return {
        "figure": test.figure,
        "a": test.one.name,
        "b": test.other.name,
        "difference": vars(test.paired.difference),
        "t": test.paired.t,
        "p": test.paired.p,
        "p_holm": test.p,
        "corrected_for_folds": bool(test.one.folds),
        "better": test.better.name if test.better is not None else None,
        "says": test.words,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Several) else value


def names_of(rows: Sequence[Row]) -> str:
    """The rows' names in one line, for titles."""
    names = [row.name for row in rows]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
