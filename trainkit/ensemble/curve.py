"""Figures against the number of members: whether more of them would help, and how few would do."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainkit.ensemble.replay import Refit

SUBSETS = 10  # drawn for each number of members
PLACES = 12  # numbers of members that are looked at
WORK = 2e9  # numbers that may be gone through for the curve where outputs are remembered

Figures = dict[str, float]


def places(members: int) -> list[int]:
    """The numbers of members that are looked at: all, or so many that rise by about the same factor."""
    if members <= PLACES:
        return list(range(1, members + 1))
    return sorted({round(members ** (place / (PLACES - 1))) for place in range(PLACES)})


def subsets(members: int, size: int, most: int, seed: int) -> list[tuple[int, ...]]:
    """Different sets of so many members: all there are, or as many as wanted, drawn at random."""
    if math.comb(members, size) <= most:
        return list(itertools.combinations(range(members), size))
    chance = random.Random(f"{seed} {members} {size}")
    found: dict[tuple[int, ...], None] = {}
    while len(found) < most:
        found[tuple(sorted(chance.sample(range(members), size)))] = None
    return list(found)


def curve(
    refit: Refit, measure: Callable[[Sequence[int], Any], Mapping[str, Figures]], members: int, most: int, seed: int
) -> list[dict[str, Any]]:
    """Figures against the number of members, the ensembler fitted anew to each set of them.

    Args:
        refit: fits it.
        measure: figures by kind, such as ``raw``, of what it gave for some members.
        members: how many there are.
        most: sets drawn for each number; 1: the first members alone, as they were gathered.
        seed: what the draws follow from.

    Returns:
        By number of members: ``members``, ``sets``, and by kind each figure's mean over the sets.
    """
    found = []
    for size in places(members):
        sets = [tuple(range(size))] if most == 1 else subsets(members, size, most, seed)
        each = [measure(chosen, refit(chosen)) for chosen in sets]
        means = {
            kind: {name: sum(one[kind][name] for one in each) / len(each) for name in each[0][kind]} for kind in each[0]
        }
        found.append({"members": size, "sets": len(sets), **means})
    return found


def draws_for(numbers: int, members: int) -> int:
    """How many sets can be drawn for each number of members; 0 where even one would take too long.

    Args:
        numbers: that all members gave together, for all samples.
        members: how many.
    """
    once = max(1, numbers) * max(1, members)  # choosing may go through all of them once for each member
    return min(SUBSETS, int(WORK / (once * len(places(members)))))
