"""What a search will cost, in plain words, before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from trainkit.clock import Span
from trainkit.space import Space
from trainkit.trial import Rung, Searcher


def budget_lines(searcher: Searcher, name: str, space: Space, trials: int, duration: str, parts: int = 1) -> list[str]:
    """The lines that are printed before the first trial.

    Args:
        searcher: after `begin`.
        name: its name.
        space: what is varied.
        trials: how many trials may be begun.
        duration: length of the recipe's run.
        parts: runs a trial.
    """
    plan = getattr(searcher, "plan", None)
    rungs: Sequence[Rung] = plan() if plan is not None else [Rung(trials)]
    count, longest = len(space), _longest(space, duration)
    duration = longest or duration
    runs = f", {parts} runs each" if parts > 1 else ""
    lines = [f"search: {name} over {count} setting{'' if count == 1 else 's'}, {trials} trials{runs}"]
    if len(rungs) > 1 or any(rung.until < 1 or rung.duration for rung in rungs):
        lines += [f"  {rung.name or f'rung {place}'}: {_rung(rung, duration)}" for place, rung in enumerate(rungs, 1)]
    spent, unit = _spent(rungs, duration)
    if spent is None or not longest:
        return lines
    whole = Span.parse(duration).amount
    text = f"  {'about' if any(rung.about for rung in rungs) else 'at most'} {_number(spent * parts)} {unit} in all"
    if (full := float(whole) * trials) and abs(spent / full - 1) > 1e-9:
        text += f", {100 * spent / full:.3g} % of {trials} full trials"
    if math.isfinite(grid := grid_points(space)) and grid:
        text += f"; the whole grid has {grid:,.0f} points: {100 * spent / (float(whole) * grid):.3g} % of it"
    return [*lines, text]


def grid_points(space: Space) -> float:
    """How many points a space has, conditions counted; infinite where a number has no step."""
    if any(math.isinf(dimension.count) for dimension in space.dimensions):
        return math.inf
    if not any(dimension.when for dimension in space.dimensions):
        return math.prod(dimension.count for dimension in space.dimensions)
    return math.nan if len(space) > 12 else float(_points(space, 0, {}))


def _points(space: Space, place: int, point: dict[str, object]) -> float:
    """Points of the dimensions from a place on; only those that conditions name are gone through one by one."""
    if place == len(space.dimensions):
        return 1
    dimension = space.dimensions[place]
    if not space.counts(dimension, point):
        return _points(space, place + 1, point)
    if all(dimension.name not in other.when for other in space.dimensions):
        return dimension.count * _points(space, place + 1, point)
    if dimension.kind != "choice":
        step = dimension.spacing or 1.0
        values = [dimension.value(dimension.low + place * step) for place in range(int(dimension.count))]
    else:
        values = list(dimension.choices)
    return sum(_points(space, place + 1, {**point, dimension.name: value}) for value in values)


def _longest(space: Space, duration: str) -> str:
    """The longest run that a trial can have; ``""`` where lengths that are varied do not compare with the recipe's."""
    for dimension in space.dimensions:
        if dimension.name == "run.duration":
            varied = dimension.choices if dimension.kind == "choice" else (dimension.value(dimension.high),)
            spans = {length: Span.parse(length) for length in (duration, *varied)}
            same = len({span.unit for span in spans.values()}) == 1
            return max(spans, key=lambda length: spans[length].amount) if same else ""
    return duration


def _rung(rung: Rung, duration: str) -> str:
    length = Span.parse(rung.duration or duration)
    end, start = (
        Span(length.amount * Fraction(share).limit_denominator(10_000), length.unit)
        for share in (rung.until, rung.since)
    )
    since = f"from {_number(float(start.amount))} " if rung.since else ""
    about = "about " if rung.about else ""
    return f"{about}{rung.trials} trials {since}to {_number(float(end.amount))} {_unit(length.unit)}"


def _spent(rungs: Sequence[Rung], duration: str) -> tuple[float | None, str]:
    """What all rungs come to in the unit of the recipe's duration."""
    unit, total = Span.parse(duration).unit, 0.0
    for rung in rungs:
        length = Span.parse(rung.duration or duration)
        if length.unit == "dur":
            length = Span(length.amount * Span.parse(duration).amount, unit)
        if length.unit != unit:
            return None, ""
        total += rung.trials * float(length.amount) * (rung.until - rung.since)
    return total, _unit(unit)


def _unit(unit: str) -> str:
    return {"ep": "epochs", "ba": "updates", "sp": "samples", "tok": "tokens"}.get(unit, unit)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e12 else f"{value:.4g}"
