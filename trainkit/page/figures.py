"""The figures of a page as data for its script, thinned out to what can be seen and to what a page may weigh."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from trainkit.errors import printable
from trainkit.page.blocks import Bars, Block, Curves, Heatmap, Line, Parallel, Point, Scatter, Timeline
from trainkit.page.thin import can_be_drawn, every, kept, number, numbers

Figure = Curves | Scatter | Bars | Heatmap | Parallel | Timeline
FIGURES = (Curves, Scatter, Bars, Heatmap, Parallel, Timeline)
MOST_MARKS = 2000  # points, bars of a timeline and lines of parallel coordinates in one figure
MOST_CELLS = 100  # rows, and columns, of a heatmap
_MOST_POINTS = 2000  # of a curve: more than a figure has columns
_LEAST_POINTS = 8
_CURVES_WEIGH = 1_000_000  # bytes, of all curves of a page
_NUMBER_WEIGHS = 8  # bytes, about
_PLACE_DIGITS, _VALUE_DIGITS = 7, 5


class Data:
    """What the script of a page is given.

    Args:
        blocks: of the whole page, whose curves share what it may weigh.
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        lines = [line for block in blocks if isinstance(block, Curves) for line in block.lines]
        self._most = _points(lines)
        self._places: dict[str, int] = {}  # what stands in the page -> its number: curves of one run share their places
        self.names: dict[str, int] = {}  # of curves and groups, in the order in which they get their colours
        self.figures: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add(self, block: Figure) -> int:
        """Take a figure in; return its number."""
        make = {
            Curves: self._curves,
            Scatter: self._scatter,
            Bars: _bars,
            Heatmap: self._heatmap,
            Parallel: _parallel,
            Timeline: self._timeline,
        }[type(block)]
        figure = make(block)  # type: ignore[operator]
        self.figures.append({"kind": type(block).__name__.lower(), "title": printable(block.title), **figure})
        return len(self.figures) - 1

    def name(self, name: str) -> int:
        """The number of a name, which gives it its colour."""
        return self.names.setdefault(printable(name), len(self.names))

    def text(self, **more: Any) -> str:
        """All of it as JSON that can stand in a page: no character in it ends a script or begins a comment."""
        places = ",".join(self._places)
        rest = json.dumps(
            {"names": list(self.names), "figures": self.figures, **more}, allow_nan=False, separators=(",", ":")
        )
        text = f'{{"places":[{places}],{rest[1:]}'
        for mark in "<>&":
            text = text.replace(mark, f"\\u{ord(mark):04x}")
        return text

    def _curves(self, block: Curves) -> dict[str, Any]:
        return {
            "lines": [self._line(line) for line in block.lines],
            "unit": printable(block.unit),
            "log": block.log,
            "logX": block.log_x,
            "smooth": block.smooth,
            "first": printable(block.axis),
            "marks": [[printable(axis), number(at, _PLACE_DIGITS), printable(text)] for axis, at, text in block.marks],
            "levels": [[number(value, _PLACE_DIGITS), printable(text)] for value, text in block.levels],
        }

    def _line(self, line: Line) -> dict[str, Any]:
        _check(line)
        stay = [index for index in kept(line.y, self._most) if all(can_be_drawn(at[index]) for at in line.x.values())]
        picked = {axis: numbers([at[index] for index in stay], _PLACE_DIGITS) for axis, at in line.x.items()}
        found: dict[str, Any] = {
            "name": self.name(line.name),
            "x": {printable(axis): self._place(places) for axis, places in picked.items()},
            "y": numbers([line.y[index] for index in stay], _VALUE_DIGITS),
        }
        if len(line.low) and len(line.high):
            found["low"] = numbers([line.low[index] for index in stay], _VALUE_DIGITS)
            found["high"] = numbers([line.high[index] for index in stay], _VALUE_DIGITS)
        if line.style != "solid":
            found["style"] = line.style
        return found

    def _place(self, places: list[float | None]) -> int:
        text = json.dumps(places, separators=(",", ":"))
        return self._places.setdefault(text, len(self._places))

    def _scatter(self, block: Scatter) -> dict[str, Any]:
        points, step = every(block.points, MOST_MARKS)
        return {
            "points": self._points(points),
            "x": printable(block.x),
            "y": printable(block.y),
            "logX": block.log_x,
            "ticksX": [[at, printable(text)] for at, text in block.ticks_x.items()],
            "path": printable(block.path),
            "one_in": step,
        }

    def _points(self, points: Sequence[Point]) -> list[list[Any]]:
        return [
            [
                number(point.x, _PLACE_DIGITS),
                number(point.y, _PLACE_DIGITS),
                printable(point.text),
                self.name(point.group) if point.group else -1,
            ]
            for point in points
        ]

    def _heatmap(self, block: Heatmap) -> dict[str, Any]:
        down, across = (max(1, -(-len(names) // MOST_CELLS)) for names in (block.rows, block.columns))
        points, _ = every(block.points, MOST_MARKS)
        return {
            "rows": [printable(name) for name in block.rows[::down]],
            "columns": [printable(name) for name in block.columns[::across]],
            "values": [
                [
                    _mean([value for row in block.values[top : top + down] for value in row[left : left + across]])
                    for left in range(0, len(block.columns), across)
                ]
                for top in range(0, len(block.rows), down)
            ],
            "x": printable(block.x),
            "y": printable(block.y),
            "points": [
                [(x + 0.5) / across - 0.5, (y + 0.5) / down - 0.5, *rest]
                for x, y, *rest in self._points(points)
                if x is not None and y is not None
            ],
            "pooled": [down, across],
        }

    def _timeline(self, block: Timeline) -> dict[str, Any]:
        lanes = list(dict.fromkeys(printable(span.lane) for span in block.spans))
        number_of = {lane: index for index, lane in enumerate(lanes)}
        spans, step = every(block.spans, MOST_MARKS)
        return {
            "lanes": lanes,
            "spans": [
                [
                    number_of[printable(span.lane)],
                    number(span.start, _PLACE_DIGITS),
                    number(span.end, _PLACE_DIGITS),
                    printable(span.text),
                    self.name(span.group) if span.group else -1,
                ]
                for span in spans
            ],
            "one_in": step,
        }


def _points(lines: Sequence[Line]) -> int:
    """How many points each curve may keep so that all together do not weigh too much."""
    most = _MOST_POINTS
    while (
        most > _LEAST_POINTS
        and _NUMBER_WEIGHS * sum(min(most, len(line.y)) * _numbers(line) for line in lines) > _CURVES_WEIGH
    ):
        most = most * 4 // 5
    return most


def _numbers(line: Line) -> int:
    return len(line.x) + 1 + bool(len(line.low)) + bool(len(line.high))


def _check(line: Line) -> None:
    """Raises ValueError if its lists differ in length: a page would show half of them."""
    lengths = {len(line.y), *(len(at) for at in line.x.values())}
    lengths |= {len(edge) for edge in (line.low, line.high) if len(edge)}
    if len(lengths) > 1:
        raise ValueError(f"the curve {line.name!r} has lists of different lengths: {sorted(lengths)}")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return number(sum(known) / len(known), _VALUE_DIGITS) if known else None


def _bars(block: Bars) -> dict[str, Any]:
    return {
        "names": [printable(name) for name in block.names],
        "values": numbers(block.values, _VALUE_DIGITS),
        "low": numbers(block.low, _VALUE_DIGITS),
        "high": numbers(block.high, _VALUE_DIGITS),
        "unit": printable(block.unit),
        "dots": block.dots,
    }


def _parallel(block: Parallel) -> dict[str, Any]:
    picked, step = every(range(len(block.rows)), MOST_MARKS)
    return {
        "axes": [printable(axis) for axis in block.axes],
        "rows": [[number(share, _VALUE_DIGITS) for share in block.rows[index]] for index in picked],
        "texts": [printable(block.texts[index]) for index in picked],
        "ticks": [[[number(at, _VALUE_DIGITS), printable(text)] for at, text in ticks] for ticks in block.ticks],
        "good": numbers([block.good[index] for index in picked], _VALUE_DIGITS),
        "one_in": step,
    }
