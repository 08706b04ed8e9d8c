"""How population based training changes a point: which of its settings can change while a run goes on, and to what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit_searchers.points import DRAWS

if TYPE_CHECKING:
    from numpy.random import Generator

    from trainkit import Dimension, Point, Space

# Tables of which nothing can change in a run that goes on: the model's shape, the data and their order, the run's
# length and whatever it was begun with; and metrics, as the values of parent and clone are compared.
_KEPT = ("data", "metric", "model", "recipe", "run", "seed")


def stays(dimension: Dimension) -> bool:
    """Whether a clone keeps its parent's value, as a run that goes on could not take another.

    Searchers see names alone: what begins with ``model``, ``data`` (but for augmentations), ``metric``, ``run`` or
    ``seed`` stays, and of the optimizer each choice that is not one of numbers, as its state fits one of them.
    """
    path = re.sub(r"#\d+", "", dimension.name).split(".")
    if path[:2] == ["data", "augment"]:
        return False
    if path[0] == "optimizer":
        return any(isinstance(choice, bool) or not isinstance(choice, int | float) for choice in dimension.choices)
    return path[0] in _KEPT


def explored(space: Space, point: Point, source: Generator, perturb: float, resample: float) -> dict[str, Any]:
    """A clone's point: each number of its parent's multiplied by ``1 - perturb`` or ``1 + perturb``, some drawn anew.

    What meets no constraint is made again; after many attempts the clone keeps its parent's point.

    Args:
        space: what is varied.
        point: the parent's; it may lie outside the space.
        source: draws.
        perturb: how far numbers are moved; of a logit scale, their odds.
        resample: how likely a value is drawn from the space instead; choices change in no other way.
    """
    for _ in range(DRAWS):
        made = _changed(space, point, source, perturb, resample)
        if space.allows(made):
            return made
    return dict(point)


def _changed(space: Space, point: Point, source: Generator, perturb: float, resample: float) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for dimension in space.dimensions:
        name = dimension.name
        if not _counts(space, dimension, made):
            continue
        drawn, again, up = source.random(3).tolist()
        if name in point and stays(dimension):
            made[name] = point[name]
        elif name not in point or again < resample or _number(dimension, point[name]) is None:
            made[name] = dimension.at(drawn)
        elif dimension.kind == "choice":
            made[name] = point[name]
        else:
            made[name] = _moved(dimension, point[name], 1 + perturb if up < 0.5 else 1 - perturb)
    return made


def _moved(dimension: Dimension, value: Any, factor: float) -> Any:
    number = dimension.number(value)
    moved = number * factor
    if dimension.scale == "logit":
        odds = factor * number / (1 - number)
        moved = odds / (1 + odds)
    made = dimension.value(moved)
    step = dimension.spacing
    if step is not None and made == value:  # a change smaller than half a step would be none
        made = dimension.value(number + (step if moved > number else -step))
    return made


def _number(dimension: Dimension, value: Any) -> float | None:
    """The value as a number; ``None`` for what a recipe may say and the space does not have."""
    try:
        number = dimension.number(value)
    except (TypeError, ValueError):
        return None
    return None if dimension.scale == "logit" and not 0 < number < 1 else number


def _counts(space: Space, dimension: Dimension, made: Mapping[str, Any]) -> bool:
    try:
        return space.counts(dimension, made)
    except ValueError:  # it hangs on a choice that was kept and is none of the space's
        return False
