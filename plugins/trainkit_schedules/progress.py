"""How far a run is: shared by the schedules that depend on its length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def progress(t: int, T: int) -> float:
    """The share of the run that is over, from 0 to 1; 1 after it, and for a run without updates."""
    return min(1.0, t / T) if T > 0 else 1.0


def left(t: int, T: int) -> float:
    """The share of the run that is left: 1 - ``progress`` without its loss of digits towards the end."""
    return max(0, T - t) / T if T > 0 else 0.0


def half_cosine(share: float) -> float:
    """(1 - cos(pi share)) / 2, from 0 to 1 as ``share`` is; near 0 without its loss of digits."""
    return math.sin(math.pi / 2 * share) ** 2


def through(points: Sequence[tuple[float, float]], t: float, shape: str) -> float:
    """The value at ``t`` on the way from point to point, by half a cosine ("cos") or a line each.

    A phase without length is passed over, where torch divides by zero (`OneCycleLR` with pct T = 1).
    """
    for (t0, from_), (t1, to) in pairwise(points):
        if t <= t1 and t1 > t0:
            share = (t1 - t) / (t1 - t0)
            return to + (from_ - to) * (half_cosine(share) if shape == "cos" else share)
    return points[0][1]
