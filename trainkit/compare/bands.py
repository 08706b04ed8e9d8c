"""One curve for several runs: their mean, and the lowest and highest of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainkit.compare.entries import is_figure
from trainkit.compare.rows import Row
from trainkit.results import AXES
from trainkit.thinned import Point, Thinned


@dataclass
class Band:
    """A curve of a row.

    Args:
        name: the row's.
        x: by axis where its points lie.
        y: means over the runs that reach there.
        low: the lowest of them; empty of a single run.
        high: the highest of them.
    """

    name: str
    x: dict[str, list[float]] = field(default_factory=lambda: {axis: [] for axis in AXES})
    y: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


def band_of(row: Row, name: str, most: int = 1024) -> Band | None:
    """A curve of all runs of a row: by updates, since all of them make the same ones.

    Between two evaluations of a run lies a straight line. A run that ended early counts as far as it came; where fewer
    than half of the runs have come the curve ends.

    Args:
        row: the row.
        name: the curve's name, such as ``val.loss``.
        most: points that it has, about.
    """
    curves = [points for entry in row.counted if (points := _points(entry.curves.get(name), most))]
    made = Band(row.name)
    if not curves:
        return None
    if len(curves) == 1:
        for point in curves[0]:
            _put(made, point[:3])
            made.y.append(point[-1])
        return made
    places = sorted({point[0] for points in curves for point in points})
    stride = -(-len(places) // (2 * most))
    steps = [[point[0] for point in points] for points in curves]
    for step in [*places[:-1][::stride], places[-1]]:
        there = [found for run, points in zip(steps, curves, strict=True) if (found := _at(run, points, step))]
        if 2 * len(there) < len(curves):
            continue
        means = [sum(column) / len(there) for column in zip(*there, strict=True)]
        _put(made, (step, *means[1:3]))
        made.y.append(means[3])
        made.low.append(min(point[3] for point in there))
        made.high.append(max(point[3] for point in there))
    return made if made.y else None


def _put(band: Band, place: Sequence[float]) -> None:
    for axis, value in zip(AXES, place, strict=True):
        before = band.x[axis]
        # Where a slow run ends the others' mean time is less.
        before.append(max(value, before[-1]) if before else value)


def _points(curve: Thinned | None, most: int) -> list[Point]:
    """A run's points, each update once; the newest of those of one update counts."""
    if curve is None:
        return []
    points = [point for point in curve.points if is_figure(point[-1])]
    if len(points) > 2 * most:
        thinner = Thinned(most)
        for point in points:
            thinner.add(*point)
        points = thinner.points
    return list({point[0]: point for point in points}.values())


def _at(steps: Sequence[float], points: Sequence[Point], step: float) -> Point | None:
    """Where a run is at some update; nothing before its first point and after its last."""
    place = bisect_left(steps, step)
    if place == len(steps) or (place == 0 and steps[0] != step):
        return None
    if steps[place] == step:
        return points[place]
    before, after = points[place - 1], points[place]
    share = (step - before[0]) / (after[0] - before[0])
    return tuple(one + share * (other - one) for one, other in zip(before, after, strict=True))
