"""The numbers behind each figure as a table: for readers who cannot see it, or have no script."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainkit.page.blocks import Bars, Cell, Curves, Heatmap, Line, Parallel, Point, Scatter, Table, Timeline
from trainkit.page.figures import Figure

MOST_ROWS = 300  # the table of a study's trials has all


def behind(figure: Figure) -> Table:
    """The table behind a figure; of a long one, its beginning."""
    match figure:
        case Curves():
            columns, rows = _curves(figure)
        case Scatter():
            columns, rows = _points(figure.points, figure.x, figure.y)
        case Bars():
            columns, rows = _bars(figure)
        case Heatmap():
            columns = [f"{figure.y} \\ {figure.x}" if figure.x or figure.y else "row", *figure.columns]
            rows = [[name, *values] for name, values in zip(figure.rows, figure.values, strict=True)]
            columns, rows = columns[:MOST_ROWS], [row[:MOST_ROWS] for row in rows[:MOST_ROWS]]
        case Parallel():
            columns = ["line", "from worst to best"]
            rows = [[text, good] for text, good in zip(figure.texts, figure.good, strict=True)]
        case Timeline():
            columns = ["lane", "what", "from, s", "to, s"]
            rows = [[span.lane, span.text, span.start, span.end] for span in figure.spans]
    title = f"the first {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else ""
    return Table(columns, rows[:MOST_ROWS], title)


def _curves(figure: Curves) -> tuple[list[str], list[list[Cell]]]:
    axes = {axis for line in figure.lines for axis in line.x}
    axis = next((name for name in ("epoch", "step", *sorted(axes)) if name in axes), "")
    rows = [_ends(line, axis) for line in figure.lines]
    return ["curve", "last", f"at {axis}", "lowest", f"at {axis}", "highest", f"at {axis}"], rows


def _ends(line: Line, axis: str) -> list[Cell]:
    places = line.x.get(axis, ())
    known = [index for index, value in enumerate(line.y) if math.isfinite(value)]
    if not known:
        return [line.name, *[None] * 6]
    found = (known[-1], min(known, key=line.y.__getitem__), max(known, key=line.y.__getitem__))
    ends: list[Cell] = [line.name]
    for index in found:
        ends += [float(line.y[index]), float(places[index]) if len(places) else None]
    return ends


def _points(points: Sequence[Point], x: str, y: str) -> tuple[list[str], list[list[Cell]]]:
    return [x or "x", y or "y", "what"], [[point.x, point.y, point.text or point.group] for point in points]


def _bars(figure: Bars) -> tuple[list[str], list[list[Cell]]]:
    columns, lists = ["name", figure.unit or "value"], [figure.names, figure.values]
    if len(figure.low) and len(figure.high):
        columns, lists = [*columns, "from", "to"], [*lists, figure.low, figure.high]
    return columns, [list(row) for row in zip(*lists, strict=True)]
