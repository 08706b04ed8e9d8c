"""Whether the differences between recipes are real: tests on runs of the same seeds or folds, all of them together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainkit.compare.rows import Row
from trainkit.evidence import LEVEL, Paired, holm, paired

ALONE = (
    "one seed each: no evidence. Another seed may turn the order round; train each recipe with several: "
    "trainkit run RECIPE --seeds 5"
)


@dataclass(frozen=True)
class Test:
    """Two recipes by one figure.

    Args:
        figure: what they are compared by.
        one: the one row.
        other: the other row.
        paired: by how much the one is above the other.
        p: its p value beside all other tests, after Holm; ``None`` where there is none.
    """

    __test__ = False  # it is no test of pytest's

    figure: str
    one: Row
    other: Row
    paired: Paired
    p: float | None

    @property
    def better(self) -> Row | None:
        """The row that is better beyond chance, where it is known which way is better; ``None`` without evidence."""
        if not self.real or self.figure not in self.one.higher:
            return None
        return self.one if (self.paired.difference.mean > 0) is self.one.higher[self.figure] else self.other

    @property
    def real(self) -> bool:
        """Whether they differ beyond chance."""
        return self.p is not None and self.p < 1 - LEVEL

    @property
    def words(self) -> str:
        """What it says."""
        if self.paired.p is None:
            few = self.paired.difference.n < 2
            return "one pair: no evidence" if few else "all pairs differ by the same: nothing to measure chance by"
        if not self.real:
            return "no evidence of a difference"
        return f"{self.better.name} is better" if self.better is not None else "they differ"


def tests_of(rows: Sequence[Row], figures: Sequence[str]) -> list[Test]:
    """Test every two rows that have runs of the same seeds or folds, by every figure.

    With folds it is the corrected resampled t test of Nadeau & Bengio (2003). All p values together are adjusted as
    Holm (1979) has it: any of them, also one that was picked for being the smallest, may be held against the level.
    """
    found = []
    for figure in figures:
        for one, other in itertools.combinations(rows, 2):
            ours, theirs = one.by_pair(figure), other.by_pair(figure)
            common = common_pairs(one, other)
            common = [pair for pair in common if pair in ours and pair in theirs]
            if len(common) < 2:
                continue
            folds = one.folds if len({fold for _, fold in common}) > 1 else 0
            result = paired([ours[pair] for pair in common], [theirs[pair] for pair in common], folds)
            found.append((figure, one, other, result))
    adjusted = holm([result.p for *_, result in found])
    return [Test(*parts, p) for parts, p in zip(found, adjusted, strict=True)]


def common_pairs(one: Row, other: Row) -> list[tuple[Any, Any]]:
    """The seeds and folds that two rows have in common: the second of three folds is not that of five."""
    if one.counted[0].folds != other.counted[0].folds:
        return []
    theirs = {(entry.seed, entry.fold) for entry in other.counted}
    return [pair for entry in one.counted if (pair := (entry.seed, entry.fold)) in theirs]


def verdict(tests: Sequence[Test], figure: str) -> str:
    """What all tests of a figure say, in one sentence or two; nothing where there is none."""
    beaten: dict[str, list[str]] = {}
    even = []
    for test in (test for test in tests if test.figure == figure):
        if test.better is not None:
            other = test.other if test.better is test.one else test.one
            beaten.setdefault(test.better.name, []).append(other.name)
        elif test.real:
            beaten.setdefault(test.one.name, []).append(f"{test.other.name} (which way is better is not known)")
        else:
            even.append(f"{test.one.name} and {test.other.name}")
    said = [f"{better} is better than {', '.join(others)}" for better, others in beaten.items()]
    said += [f"no evidence of a difference between {', '.join(even)}"] if even else []
    return f"{figure}: {'; '.join(said)}" if said else ""


def remarks(rows: Sequence[Row], tests: Sequence[Test]) -> list[str]:
    """What is to be known of the evidence, or of that there is none."""
    if len(rows) < 2:
        return []
    runs = [row for row in rows if row.entries[0].kind != "ensemble"]
    single = [row for row in runs if len(row.counted) == 1]
    if runs and len(single) == len(runs):
        return [ALONE] if len(runs) > 1 else []
    said = []
    if single:
        names = ", ".join(row.name for row in single)
        said.append(f"one seed alone, which is no evidence: {names}")
    several = [row for row in runs if len(row.counted) > 1]
    apart = [
        f"{one.name} and {other.name}"
        for one, other in itertools.combinations(several, 2)
        if len(common_pairs(one, other)) < 2
    ]
    if apart:
        said.append(f"too few seeds or folds in common to compare in pairs: {'; '.join(apart)}")
    if tests and any(test.one.folds for test in tests):
        said.append("folds share training samples: intervals and tests allow for it (Nadeau & Bengio 2003)")
    return said
