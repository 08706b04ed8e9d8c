"""Whether the best values of a search lie at the end of a range, so that better ones may lie beyond."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from trainkit.space import Dimension
from trainkit.trial import Record, Study

BEST = 0.2  # of the finished trials, the share that is looked at
EDGE = 0.1  # of a range, the share at either end
LEAST_BEST = 5  # fewer good trials than this say nothing
SURE = 3.0  # standard errors that the slope at an end must be away from zero
WIDER = 10.0  # how much further the proposed range goes: this factor of a scale's own, or half of the range


@dataclass(frozen=True)
class Edge:
    """A range whose end the best trials crowd.

    Args:
        setting: the dimension's name.
        end: which end.
        bound: the end as it is.
        proposed: the end that another search might have.
        crowded: of the best trials, how many lie in the outer tenth; and how many there are.
    """

    setting: str
    end: str
    bound: Any
    proposed: Any
    crowded: tuple[int, int]

    def __str__(self) -> str:
        near, of = self.crowded
        return (
            f"{self.setting}: the best trials lie at the {self.end} end of its range, {_shown(self.bound)} "
            f"({near} of the best {of} within a tenth of it); better ones may lie beyond: try {_shown(self.proposed)}"
        )


def edges(study: Study) -> list[Edge]:
    """Ranges that should be wider: where best trials crowd an end, or results still improve towards it.

    The first tells of searchers that follow what is good; the second, a slope fitted to the ranks of all results by a
    polynomial of the second degree, of those that try all of a range alike.
    """
    done = [
        r for r in study.records if r.trial.status == "done" and r.trial.values and study.space.holds(r.trial.point)
    ]
    found = []
    for dimension in study.space.dimensions:
        if dimension.kind == "choice" or dimension.high <= dimension.low:
            continue
        own = [record for record in done if dimension.name in record.trial.point]
        ranked = sorted(own, key=lambda record: record.trial.values[0])
        best = ranked[: math.ceil(BEST * len(ranked))]
        if len(best) < LEAST_BEST:
            continue
        shares = [dimension.share(record.trial.point[dimension.name]) for record in best]
        for end in ("upper", "lower"):
            away = [1 - share if end == "upper" else share for share in shares]
            near = sum(share < EDGE for share in away)
            # An optimum close to the end, and within, has good trials on both of its sides.
            crowded = 2 * near > len(best) and 2 * sum(share < EDGE / 2 for share in away) > near
            wider = _wider(dimension, end)
            bound = dimension.value(dimension.high if end == "upper" else dimension.low)
            if wider is not None and (crowded or _improves_towards(end, dimension, ranked, shares)):
                found.append(Edge(dimension.name, end, bound, wider, (near, len(best))))
                break
    return found


def _improves_towards(end: str, dimension: Dimension, ranked: Sequence[Record], best: Sequence[float]) -> bool:
    """Whether ranks still fall at the end of the range, and the best trials lean towards it."""
    middle = sorted(best)[len(best) // 2]
    if len(ranked) < 20 or (middle < 0.75 if end == "upper" else middle > 0.25):
        return False
    shares = numpy.array([dimension.share(record.trial.point[dimension.name]) for record in ranked])
    ranks = numpy.arange(len(ranked), dtype=float)
    features = numpy.stack([numpy.ones_like(shares), shares, shares**2], axis=1)
    weights, *_ = numpy.linalg.lstsq(features, ranks, rcond=None)
    residual = ranks - features @ weights
    covariance = numpy.linalg.pinv(features.T @ features) * (residual @ residual) / max(1, len(ranks) - 3)
    slope = numpy.array([0.0, 1.0, 2.0 if end == "upper" else 0.0])
    error = math.sqrt(max(float(slope @ covariance @ slope), 1e-300))
    steepness = float(slope @ weights) / error
    return steepness < -SURE if end == "upper" else steepness > SURE


def _wider(dimension: Dimension, end: str) -> Any:
    """The bound that another search might have there; ``None`` where there is no room."""
    low, high = dimension.low, dimension.high
    if dimension.scale == "log":
        further = high * WIDER if end == "upper" else low / WIDER
    elif dimension.scale == "logit":
        further = 1 - (1 - high) / WIDER if end == "upper" else low / WIDER
    else:
        step = (high - low) / 2
        further = high + step if end == "upper" else low - step
        if end == "lower" and low >= 0 > further:
            further = 0.0
    if dimension.kind == "int":
        further = math.ceil(further) if end == "upper" else math.floor(further)
        if end == "lower" and low >= 0:
            further = max(further, 1 if low >= 1 else 0)
    if further == (high if end == "upper" else low):
        return None
    wide = Dimension(
        dimension.name, dimension.kind, min(low, further), max(high, further), unit=dimension.unit, scale="linear"
    )
    return wide.value(further)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
