"""What pictures of a study show: the trials that have values, the range in which they differ, the main settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit.space import Dimension
from trainkit.trial import Record, Study

_SHARE_SHOWN = 0.8  # of the values, the share that sets what an axis shows; worse ones stand at its end
_LONGEST = 16  # of a choice at an axis, in characters


def with_values(study: Study) -> list[Record]:
    """The trials that have come to finite values, by number."""
    return [record for record in study.records if record.figures and all(map(math.isfinite, record.figures))]


def visible_limits(values: Sequence[float], lower_is_better: bool) -> tuple[float, float]:
    """What an axis shows: all good values, and of the bad ones those that do not hide the good ones.

    Args:
        values: finite ones.
        lower_is_better: which of them are good.

    Returns:
        The lower and the upper end, with some room beside the values.
    """
    if not values:
        return 0.0, 1.0
    ranked = sorted(values, reverse=not lower_is_better)
    best, edge = ranked[0], ranked[min(len(ranked) - 1, math.ceil(_SHARE_SHOWN * len(ranked)))]
    worst = ranked[-1]
    if abs(worst - best) > 3 * abs(edge - best) > 0:
        worst = edge
    room = 0.05 * abs(worst - best) or 0.05 * abs(best) or 1.0
    low, high = min(best, worst), max(best, worst)
    return low - room, high + room


def main_settings(study: Study, most: int) -> list[Dimension]:
    """The settings to show, in the space's order: the most important ones where there are more than can be read."""
    kept = {dimension.name for dimension in by_importance(study)[:most]}
    return [dimension for dimension in study.space.dimensions if dimension.name in kept]


def by_importance(study: Study) -> list[Dimension]:
    """All settings, the most important first, as far as that was found out; else in the space's order."""
    found: Mapping[str, Any] = study.findings.get("importances", {})
    return sorted(study.space.dimensions, key=lambda d: -float(found.get(d.name, {}).get("value", 0.0)))


def has_setting(dimension: Dimension, record: Record) -> bool:
    """Whether a setting counts in a trial, with a value that can be placed: a recipe's own may be another unit's."""
    try:
        number = dimension.number(record.trial.point[dimension.name])
        return math.isfinite(number) and math.isfinite(dimension.share(record.trial.point[dimension.name]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def choice_text(choice: Any) -> str:
    """A choice as an axis names it."""
    if isinstance(choice, Mapping):
        choice = choice.get("use", choice)
    text = (choice if isinstance(choice, str) else json.dumps(choice)).replace("\n", " ")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def number_text(value: Any) -> str:
    """A number as an axis names it."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4g}" if 0.9 < value < 1 else f"{value:.2g}"  # 0.999, not 1


def ticks(dimension: Dimension, count: int = 3) -> list[tuple[float, str]]:
    """Places of an axis from 0 to 1, and what stands there: each choice, or so many numbers."""
    if dimension.kind == "choice":
        return [(dimension.share(choice), choice_text(choice)) for choice in dimension.choices]
    return [(place / (count - 1), number_text(dimension.at(place / (count - 1)))) for place in range(count)]
