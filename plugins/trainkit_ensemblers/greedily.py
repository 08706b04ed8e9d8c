"""Ensemble selection: members are added with replacement, each the one that makes the mean best."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainkit import DataSpec, UsageError, score
from trainkit_ensemblers.combining import Space, as_outputs, log_probabilities
from trainkit_ensemblers.measuring import is_lower, lower_is_better


@dataclass(frozen=True)
class Limits:
    """What the members that are kept may cost.

    Args:
        members: the most that there may be; ``None``: any number.
        passes: what a forward pass of each member costs.
        most_passes: what those of all may cost together; ``None``: anything.
    """

    members: int | None = None
    passes: Sequence[float] = ()
    most_passes: float | None = None

    def allow(self, members: set[int]) -> bool:
        """Whether these may be kept together."""
        if self.members is not None and len(members) > self.members:
            return False
        return self.most_passes is None or sum(self.passes[m] for m in members) <= self.most_passes * (1 + 1e-9)


@dataclass(frozen=True)
class Selection:
    """What was added.

    Args:
        added: numbers of members, in the order in which they were added, up to where the figure was best.
        figures: of the mean after each of them.
        count: how many members there are to choose from.
    """

    added: tuple[int, ...]
    figures: tuple[float, ...]
    count: int

    @property
    def weights(self) -> list[float]:
        """How often each was added, as a share."""
        often = Counter(self.added)
        return [often[number] / len(self.added) for number in range(self.count)]


def weights_of(selections: Sequence[Selection]) -> list[float]:
    """The mean weights of several selections."""
    columns = zip(*(selection.weights for selection in selections), strict=True)
    return [sum(column) / len(selections) for column in columns]


def select(
    outputs: Tensor,
    targets: Tensor,
    spec: DataSpec,
    metric: str,
    space: Space,
    rounds: int,
    among: Sequence[int],
    limits: Limits,
) -> Selection:
    """Add members, and keep the shortest beginning whose figure is best.

    Of members that are equally good one that is in already is added, else the first.

    Args:
        outputs: ``(members, samples, outputs)``.
        targets: ``(samples,)`` or ``(samples, outputs)``.
        spec: what is known of the data.
        metric: figure to make as good as possible.
        space: what the mean is taken of.
        rounds: how many are added.
        among: numbers of those that may be added.
        limits: what those that are kept may cost.

    Raises:
        UsageError: if the limits allow no member at all.

    Source: Caruana et al. 2004, "Ensemble Selection from Libraries of Models"; the shortest best beginning is
    AutoGluon's.
    """
    mean = _Mean(outputs, targets, spec, metric, space)
    added: list[int] = []
    figures: list[float] = []
    for _ in range(rounds):
        best, value = -1, math.inf
        held = set(added)
        allowed = [number for number in among if limits.allow(held | {number})]
        # Those that are in already come first, so that only a better one takes their place.
        for number in sorted(allowed, key=lambda number: (number not in held, number)):
            figure = lower_is_better(metric, mean.figure_with(number))
            if best < 0 or is_lower(figure, value):
                best, value = number, figure
        if best < 0:
            dearest = "max_passes allows no member at all: the cheapest of them costs more"
            raise UsageError(f"{dearest}\n  write max_passes = 1.0, which is the dearest one's cost, or more")
        mean.add(best)
        added.append(best)
        figures.append(value)
    length = _shortest_best(figures)
    signed = [-figure if lower_is_better(metric, 1.0) < 0 else figure for figure in figures[:length]]
    return Selection(tuple(added[:length]), tuple(signed), len(outputs))


def _shortest_best(figures: Sequence[float]) -> int:
    best = min(figures)
    return next(length for length, figure in enumerate(figures, 1) if not is_lower(best, figure))


class _Mean:
    """The mean of the members that were added, and its figure were another one added."""

    def __init__(self, outputs: Tensor, targets: Tensor, spec: DataSpec, metric: str, space: Space) -> None:
        self.targets, self.spec, self.metric = targets, spec, metric
        self.logs = space == "probability" and spec.task != "regression"
        self.alone = self.logs and metric == "nll"  # which needs the probabilities of the true classes alone
        self.held = outputs.double()
        if self.logs:
            self.held = log_probabilities(self.held, spec.task)
        if self.alone:
            truth = targets.long().reshape(1, -1, 1).expand(len(outputs), -1, 1)
            self.held = self.held.gather(2, truth)
        self.total: Tensor | None = None
        self.count = 0

    def _with(self, number: int) -> Tensor:
        """The sum with one more: of probabilities as a logarithm."""
        one = self.held[number]
        if self.total is None:
            return one
        return torch.logaddexp(self.total, one) if self.logs else self.total + one

    def figure_with(self, number: int) -> float:
        """The figure of the mean with one more."""
        total, count = self._with(number), self.count + 1
        mean = total - math.log(count) if self.logs else total / count
        if self.alone:
            return -float(mean.mean())
        return score(self.metric, as_outputs(mean, self.spec.task) if self.logs else mean, self.targets, self.spec)

    def add(self, number: int) -> None:
        """Add one."""
        self.total = self._with(number)
        self.count += 1
