"""Coarse to fine: stages of ever longer runs, each searching a smaller box around the best of the one before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainkit import Dimension, Objective, Order, Point, Rung, Space, Trial
from trainkit_searchers.drawing import Proposing
from trainkit_searchers.lowdiscrepancy import Scrambled
from trainkit_searchers.points import DRAWS, generator

DURATION = "run.duration"


@dataclass
class Box:
    """A part of a space.

    Args:
        ranges: of each number that is narrowed, the part of its range, as shares of it.
        choices: of each choice that is narrowed, the places of those that are left.
    """

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    choices: dict[str, list[int]] = field(default_factory=dict)

    def point(self, space: Space, shares: Sequence[float]) -> Point:
        """The point at shares of the box."""
        return space.at([self._share(*pair) for pair in zip(space.dimensions, shares, strict=True)])

    def around(self, space: Space, points: Sequence[Point], margin: float) -> Box:
        """The smaller box that spans some of its points, with a margin in shares of its widths."""
        box = Box(dict(self.ranges), dict(self.choices))
        for dimension in space.dimensions:
            values = [point[dimension.name] for point in points if dimension.name in point]
            if values and dimension.kind == "choice":
                box.choices[dimension.name] = sorted({int(dimension.number(value)) for value in values})
            elif values:
                low, high = self.ranges.get(dimension.name, (0.0, 1.0))
                cells = [dimension.cell(value) for value in values]
                room = margin * (high - low)
                lowest, highest = min(cell[0] for cell in cells) - room, max(cell[1] for cell in cells) + room
                box.ranges[dimension.name] = max(low, lowest), min(high, highest)
        return box

    def text(self, space: Space) -> str:
        """What is left of each dimension, in words."""
        parts = []
        for dimension in space.dimensions:
            if dimension.name in self.ranges:
                begin, end = self.ranges[dimension.name]
                room = min(1e-9, (end - begin) / 2)  # where values are counted, the end is where the next one begins
                low, high = dimension.at(begin + room), dimension.at(end - room)
                parts.append(f"{dimension.name} {_short(low)} to {_short(high)}")
            elif dimension.name in self.choices:
                left = self.choices[dimension.name]
                parts.append(f"{dimension.name} {len(left)} of {len(dimension.choices)} choices")
        return ", ".join(parts)

    def _share(self, dimension: Dimension, share: float) -> float:
        if dimension.name in self.choices:
            left = self.choices[dimension.name]
            return (left[min(int(share * len(left)), len(left) - 1)] + 0.5) / len(dimension.choices)
        low, high = self.ranges.get(dimension.name, (0.0, 1.0))
        return low + share * (high - low)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class CoarseToFine(Proposing):
    """Searches in stages.

    Args:
        seed: the recipe's seed.
        durations: of the runs of every stage but the last.
        shares: of the trials, for each stage; none: equal ones.
        keep: the best so many trials of a stage, at most half of them, span the next one's box.
        margin: added to the box on each side, as a share of the one before.
        again: so many of the best are tried once more at the start of the next stage.
        inner: how points are chosen within a box.
    """

    attempts = DRAWS

    def __init__(
        self,
        seed: int,
        durations: list[str],
        shares: list[float],
        keep: int,
        margin: float,
        again: int,
        inner: Literal["sobol", "random"],
    ) -> None:
        super().__init__(seed)
        self.durations = [*durations, ""]
        self.shares = shares or [1.0] * len(self.durations)
        self.keep, self.margin, self.again, self.inner = keep, margin, again, inner
        if len(self.shares) != len(self.durations):
            raise ValueError(
                f"shares has {len(self.shares)} numbers for {len(self.durations)} stages\n"
                f"write {len(self.durations)} numbers: one for each of stages, and one for the last stage, "
                "which trains for run.duration"
            )
        self.box = Box()
        self.stage = 0
        self.first = 0  # number of the stage's first trial
        self.used = 0  # points of the stage that were proposed
        self.best: list[Point] = []  # of the stage before, best first
        self.resting: dict[int, tuple[float, Point] | None] = {}  # trials of the stage; None while one runs
        self._sequences: dict[int, Scrambled] = {}

    def begin(self, space: Space, objectives: Sequence[Objective], trials: int) -> None:
        """See `trainkit.Searcher`."""
        super().begin(space, objectives, trials)
        if any(dimension.name == DURATION for dimension in space.dimensions):
            raise ValueError(
                f"coarse_to_fine sets {DURATION} itself\n"
                f"take {DURATION} out of [search.space], or take another searcher"
            )
        if trials < len(self.durations):
            raise ValueError(
                f"the search has {trials} trials for {len(self.durations)} stages\n"
                "write more trials, or fewer stages, in [search]"
            )
        self.ends = _ends(self.shares, trials)

    def plan(self) -> list[Rung]:
        """Each stage with its trials and their duration."""
        starts = [0, *self.ends[:-1]]
        stages = zip(starts, self.ends, self.durations, strict=True)
        return [
            Rung(end - start, duration=duration, name=f"stage {number}")
            for number, (start, end, duration) in enumerate(stages, 1)
        ]

    def ask(self) -> Order | None:
        """A point of the stage's box; nothing while trials of a full stage run."""
        if self.taken >= self.ends[self.stage]:
            return None
        point = self.next_point()
        if point is None:
            return None
        note = f"stage {self.stage + 1} of {len(self.durations)}"
        if self.taken == self.first and (box := self.box.text(self.space)):
            note += f": {box}"
        return Order(point, changes=self._changes(), note=note, final=self.stage + 1 == len(self.durations))

    def took(self, order: Order, trial: Trial) -> None:
        """Count the trial as one of the stage."""
        if order.trial is None:
            self.resting[trial.number] = None
            self.used += self.proposals if self.is_own(trial) else 0
        super().took(order, trial)

    def tell(self, trial: Trial) -> None:
        """Note its value; when the whole stage has come to rest, go on to the next."""
        super().tell(trial)
        if trial.number not in self.resting:
            return
        self.resting[trial.number] = trial.values[0] if trial.values else math.inf, trial.point
        told = [result for result in self.resting.values() if result is not None]
        if len(told) < len(self.resting) or self.stage + 1 == len(self.durations):
            return
        # A small space may have no more points; the trials that are left go to the later stages.
        if self.taken >= self.ends[self.stage] or self.next_point() is None:
            self._next_stage(told)

    def propose(self, attempt: int) -> Point | None:
        """One of the best of the stage before, then a point of the box."""
        place = self.used + attempt
        if place < len(self.best[: self.again]):
            return self.best[place]
        return self.box.point(self.space, self._shares(place, attempt))

    def exhausted(self) -> str:
        """Why there is no more."""
        return super().exhausted().replace("of the space", f"of stage {self.stage + 1}")

    def _shares(self, place: int, attempt: int) -> list[float]:
        if self.inner == "random":
            drawn: list[float] = generator(self.seed, self.taken, attempt).random(len(self.space)).tolist()
            return drawn
        if self.stage not in self._sequences:
            seed = int(generator(self.seed, self.stage).integers(2**31))
            self._sequences = {self.stage: Scrambled(len(self.space), seed)}
        return self._sequences[self.stage][place]

    def _next_stage(self, told: list[tuple[float, Point]]) -> None:
        ranked = sorted((pair for pair in told if math.isfinite(pair[0])), key=lambda pair: pair[0])
        keep = min(self.keep, max(1, len(told) // 2))
        self.best = [point for _, point in ranked if self.space.holds(point)][:keep]
        self.box = self.box.around(self.space, self.best, self.margin)
        self.stage += 1
        self.first = self.taken
        self.used = 0
        self.resting = {}
        self.tried = set()
        self._found = None

    def _changes(self) -> Mapping[str, Any]:
        duration = self.durations[self.stage]
        return {DURATION: duration} if duration else {}


def _ends(shares: Sequence[float], trials: int) -> list[int]:
    """After how many trials each stage ends: in proportion to the shares, at least one trial each."""
    ends: list[int] = []
    for stage in range(len(shares)):
        end = round(trials * sum(shares[: stage + 1]) / sum(shares))
        end = max(end, ends[-1] + 1 if ends else 1)
        ends.append(min(end, trials - (len(shares) - 1 - stage)))
    return ends
