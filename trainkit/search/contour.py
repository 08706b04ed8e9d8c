"""What two settings do together: a smooth surface through the trials of a study, where there are trials near by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from trainkit.search.looking import by_importance, choice_text, has_setting, number_text, visible_limits, with_values
from trainkit.space import Dimension
from trainkit.trial import Record, Study

LEAST = 8  # trials that have both settings, below which a surface says nothing
CELLS = 25  # places in a range, along each axis, both of its ends among them
_MOST = 240  # trials that it is fitted to: its cost grows with their third power
_REACHES = (0.1, 0.2, 0.4, 0.8, 1.6)  # how far a trial's value tells of others, in shares of a range
_NOISES = (0.003, 0.03, 0.1, 0.3, 1.0, 3.0)  # of other settings and of chance, beside the surface's own variance
_UNKNOWN = 0.6  # of the variance without any trial, the share from which on nothing is known

Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True)
class Axis:
    """One of the two settings, and the places in it at which the surface is given.

    Args:
        dimension: the setting.
        values: those places, as a recipe writes them.
    """

    dimension: Dimension
    values: Sequence[Any]

    @property
    def is_counted(self) -> bool:
        """Whether these are all values that there are: of a choice, or of numbers that are few."""
        return self.dimension.count == len(self.values)

    @property
    def labels(self) -> list[str]:
        """What stands at each place."""
        shown = choice_text if self.dimension.kind == "choice" else number_text
        return [shown(value) for value in self.values]

    def place(self, value: Any) -> float:
        """Where a value lies, counted in places: 0 is the first one."""
        if self.dimension.kind == "choice":
            return self.dimension.number(value)
        if self.is_counted:  # few numbers, which stand side by side whatever lies between them
            numbers = [self.dimension.number(one) for one in self.values]
            return float(numpy.interp(self.dimension.number(value), numbers, range(len(numbers))))
        return self.dimension.share(value) * (len(self.values) - 1)


@dataclass(frozen=True)
class Contour:
    """A surface over two settings.

    Args:
        x: the more important one.
        y: the other one.
        values: by place of ``y``, then of ``x``: the first objective as it was measured; ``None`` where no trial is
            near enough to tell.
        trials: those that it was fitted to.
    """

    x: Axis
    y: Axis
    values: Sequence[Sequence[float | None]]
    trials: Sequence[Record]


def contour_of(study: Study) -> Contour | None:
    """The surface over the two most important settings of a study; ``None`` where trials are too few.

    It is the mean of a Gaussian process: likely values, if those of near trials are alike. How near, and how much other
    settings and chance add, is what makes the trials likeliest. Values so bad that they would hide the others count as
    the worst that is shown.

    Source: Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1 and equation 5.8.
    """
    if len(study.objectives) > 1:
        return None
    records = [r for r in with_values(study) if r.trial.status == "done" and r.trial.final]
    ranked = by_importance(study)
    # In the order of importance: the first two, the first and the third, the second and the third ...
    for second, first in sorted(itertools.combinations(range(len(ranked)), 2), key=lambda pair: (pair[1], pair[0])):
        pair = ranked[second], ranked[first]
        own = [record for record in records if all(has_setting(dimension, record) for dimension in pair)]
        if len(own) >= LEAST and all(len({str(r.trial.point[d.name]) for r in own}) > 1 for d in pair):
            return _surface(study, pair, own)
    return None


def _surface(study: Study, pair: tuple[Dimension, Dimension], own: Sequence[Record]) -> Contour:
    low, high = visible_limits([record.figures[0] for record in own], study.objectives[0].mode == "min")
    own = _fewer(own)
    measured = numpy.array([min(max(record.figures[0], low), high) for record in own])
    points = numpy.array([[_place(d, record.trial.point[d.name]) for d in pair] for record in own])
    x, y = (_axis(dimension) for dimension in pair)
    cells = numpy.array(
        [[_place(pair[0], across), _place(pair[1], up)] for up in y.values for across in x.values], dtype=float
    )
    mean, variance = _fitted(points, measured, cells, [dimension.kind == "choice" for dimension in pair])
    mean = mean.clip(low, high)  # a curve through few trials may swing further than any of them
    values = [None if one > _UNKNOWN else float(value) for value, one in zip(mean, variance, strict=True)]
    width = len(x.values)
    rows = [values[begin : begin + width] for begin in range(0, len(values), width)]
    return Contour(x, y, rows, own)


def _fewer(own: Sequence[Record]) -> list[Record]:
    """The better half of so many, which is looked at most closely, and an even choice of the others."""
    if len(own) <= _MOST:
        return list(own)
    ranked = sorted(own, key=lambda record: record.trial.values)
    rest = ranked[_MOST // 2 :]
    return ranked[: _MOST // 2] + [rest[place * len(rest) // (_MOST // 2)] for place in range(_MOST // 2)]


def _axis(dimension: Dimension) -> Axis:
    if dimension.kind == "choice":
        return Axis(dimension, dimension.choices)
    if dimension.count <= CELLS:
        step = dimension.spacing or 1.0
        return Axis(dimension, [dimension.value(dimension.low + k * step) for k in range(int(dimension.count))])
    return Axis(dimension, [dimension.at(place / (CELLS - 1)) for place in range(CELLS)])


def _place(dimension: Dimension, value: Any) -> float:
    """A choice by its number, which alone counts; a number by its share of the range."""
    return dimension.number(value) if dimension.kind == "choice" else dimension.share(value)


def _fitted(points: Array, measured: Array, cells: Array, choices: Sequence[bool]) -> tuple[Array, Array]:
    """The likeliest process's mean and variance at each cell, the latter as a share of that without any trial."""
    middle, scale = float(measured.mean()), float(measured.std())
    if scale <= 1e-12 * max(1.0, abs(middle)):
        return numpy.full(len(cells), middle), numpy.zeros(len(cells))
    wanted = (measured - middle) / scale
    apart = [_apart(points[:, axis], points[:, axis], choices[axis]) for axis in (0, 1)]
    best, found = -math.inf, None
    for reach in itertools.product(*[_REACHES[-3:] if choice else _REACHES for choice in choices]):
        alike = _alike(apart, reach)
        for noise in _NOISES:
            root = numpy.linalg.cholesky(alike + (noise + 1e-8) * numpy.eye(len(wanted)))
            whitened = numpy.linalg.solve(root, wanted)
            # The variance that makes these values likeliest is known in closed form, and put in here.
            likely = -0.5 * len(wanted) * math.log(whitened @ whitened) - float(numpy.log(numpy.diag(root)).sum())
            if likely > best:
                best, found = likely, (reach, root, whitened)
    assert found is not None
    reach, root, whitened = found
    across = _alike([_apart(points[:, axis], cells[:, axis], choices[axis]) for axis in (0, 1)], reach)
    weights = numpy.linalg.solve(root, across)
    return middle + scale * (weights.T @ whitened), 1.0 - numpy.square(weights).sum(0)


def _apart(one: Array, other: Array, choice: bool) -> Array:
    """Squared distances; two choices are as far apart as a range is long."""
    between = one[:, None] - other[None, :]
    made: Array = (between != 0).astype(float) if choice else numpy.square(between)
    return made


def _alike(apart: Sequence[Array], reach: Sequence[float]) -> Array:
    made: Array = numpy.exp(-0.5 * sum(one / own**2 for one, own in zip(apart, reach, strict=True)))
    return made
