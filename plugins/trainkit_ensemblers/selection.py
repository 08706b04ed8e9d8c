"""Ensemblers that choose among members by validation: the best few, greedily with repetition, or by weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random

import torch
from torch import Tensor

from trainkit import Member, UsageError, Validation, Workshop, multiplications
from trainkit_ensemblers.combining import Space, log_probabilities
from trainkit_ensemblers.gathering import choose_from
from trainkit_ensemblers.greedily import Limits, Selection, select, weights_of
from trainkit_ensemblers.measuring import (
    better_space,
    common_rows,
    figure,
    held_out_mean,
    lower_is_better,
    metric_of,
    rows_for_all,
)
from trainkit_ensemblers.methods import Combine
from trainkit_ensemblers.weighted import Weighted

LEAST_WEIGHT = 1e-4  # of convex: a member that weighs less would cost a forward pass for nothing
STEPS, SETTLED = 500, 1e-8


class Choosing(Weighted):
    """Chooses among given runs, trials of a search, or runs that are trained for it.

    Args:
        members: how many are chosen from, or trained.
        metric: figure to choose by.
        combine: see `Weighted`.
    """

    def __init__(self, members: int | None, metric: str | None, combine: Combine) -> None:
        super().__init__(combine)
        self.count = members
        self.metric = metric

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, the trials, or runs with several seeds."""
        there = workshop.given if workshop.given is not None else workshop.trials
        if there:
            metric_of(self.metric, there[0].spec)  # before anything is measured
        return choose_from(workshop, self.count)


class TopK(Choosing):
    """The mean of the best few members.

    Args:
        k: how many.
        members: how many are chosen from, or trained.
        metric: figure to choose by.
        combine: see `Weighted`.
    """

    def __init__(self, k: int, members: int | None, metric: str | None, combine: Combine) -> None:
        super().__init__(members, metric, combine)
        self.k = k

    def weigh(self, validation: Validation) -> tuple[list[float], Space | None]:
        """All alike that are among the best; of equal ones the first."""
        metric, common = metric_of(self.metric, validation.spec), common_rows(validation)
        figures: list[float] = []
        for outputs, free in zip(validation.outputs, validation.held_out, strict=True):
            rows = common if len(common) else free.nonzero().squeeze(1)
            if not len(rows):
                raise UsageError(f"{self.added[len(figures)].name} was trained on every sample: nothing tells its rank")
            figures.append(figure(outputs[rows], validation, rows, metric))
        order = sorted(range(len(figures)), key=lambda number: (lower_is_better(metric, figures[number]), number))
        best = order[: self.k]
        self.notes |= {"metric": metric, "figures": {member.name: figures[i] for i, member in enumerate(self.added)}}
        return [1 / len(best) if number in best else 0.0 for number in range(len(figures))], None


class Greedy(Choosing):
    """Members are added one after the other, also several times, each the one that helps most.

    Args:
        seed: of the bags.
        members: how many are chosen from, or trained.
        metric: figure to choose by.
        combine: see `Weighted`.
        rounds: how many members are added, counting repetitions.
        bags: how often it is done on a random half of the members.
        max_members: the most members that may be kept.
        max_passes: the most forward passes, in those of the dearest member.
        passes: what a pass of each member costs, by name, where that is known.
    """

    def __init__(
        self,
        seed: int,
        members: int | None,
        metric: str | None,
        combine: Combine,
        rounds: int,
        bags: int,
        max_members: int | None,
        max_passes: float | None,
        passes: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(members, metric, combine)
        self.seed = seed
        self.rounds = rounds
        self.bags = bags
        self.max_members = max_members
        self.max_passes = max_passes
        self.passes = passes

    def weigh(self, validation: Validation) -> tuple[list[float], Space | None]:
        """How often each was added; of both means the one whose choice has the lower negative log likelihood."""
        rows = rows_for_all(validation, "greedy")
        metric = metric_of(self.metric, validation.spec)
        spaces: tuple[Space, ...] = ("probability", "logit")
        if validation.spec.task == "regression" or len(self.added) == 1:
            spaces = ("probability",)
        elif self.wanted != "auto":
            spaces = (self.wanted,)
        limits = Limits(self.max_members, self._passes(), self.max_passes)
        found = {space: self._selected(validation, rows, metric, space, limits) for space in spaces}
        space = spaces[0]
        if len(spaces) > 1:
            nll: dict[str, float] = {
                name: figure(held_out_mean(validation, rows, weights_of(chosen), name), validation, rows, "nll")
                for name, chosen in found.items()
            }
            space = better_space(nll)
            if any(sum(weight > 0 for weight in weights_of(chosen)) > 1 for chosen in found.values()):
                self.note_spaces(validation, space, nll)  # a mean of one is the same in both
        chosen = found[space]
        self.notes |= {"metric": metric}
        if self.bags == 1:
            self.notes["added"] = [self.added[number].name for number in chosen[0].added]
            self.notes["figures"] = list(chosen[0].figures)
        return weights_of(chosen), space

    def _selected(
        self, validation: Validation, rows: Tensor, metric: str, space: Space, limits: Limits
    ) -> list[Selection]:
        outputs, targets, spec = validation.outputs[:, rows], validation.targets[rows], validation.spec
        everyone = range(len(outputs))
        halves: list[Sequence[int]] = [everyone]
        if self.bags > 1:
            random = Random(self.seed)
            halves = [sorted(random.sample(everyone, math.ceil(len(outputs) / 2))) for _ in range(self.bags)]
        return [select(outputs, targets, spec, metric, space, self.rounds, half, limits) for half in halves]

    def anew(self) -> Greedy:
        """One without members that knows what each costs: of members that are outputs alone nothing can be counted."""
        limits = self.max_members, self.max_passes, self.notes.get("passes")
        return Greedy(self.seed, self.count, self.metric, self.wanted, self.rounds, self.bags, *limits)

    def _passes(self) -> list[float]:
        """What a pass of each member costs, in those of the dearest."""
        if self.max_passes is None:
            return [1.0] * len(self.added)
        known = self.passes or dict(zip((member.name for member in self.added), passes_of(self.added), strict=True))
        self.notes["passes"] = known
        found = [known[member.name] for member in self.added]
        return [one / max(found) for one in found]


def passes_of(members: Sequence[Member]) -> list[float]:
    """What a forward pass of each member costs, in those of the dearest: multiplications, else parameters."""
    counts = [multiplications(member.module, _zeros(member)) or 0 for member in members]
    if not all(counts):
        counts = [max(1, sum(parameter.numel() for parameter in member.module.parameters())) for member in members]
    return [count / max(counts) for count in counts]


def _zeros(member: Member) -> Tensor:
    first = next(iter(member.module.parameters()), torch.empty(0))
    return torch.zeros(1, *member.spec.input_shape, device=first.device)


class Convex(Choosing):
    """Weights that maximise the likelihood of the validation samples.

    Args:
        members: how many are chosen from, or trained.
    """

    def __init__(self, members: int | None) -> None:
        super().__init__(members, None, "probability")

    def weigh(self, validation: Validation) -> tuple[list[float], Space | None]:
        """The weights, and members that weigh next to nothing left out."""
        rows = rows_for_all(validation, "convex")
        outputs, targets, task = validation.outputs[:, rows].double(), validation.targets[rows], validation.spec.task
        if task == "regression":
            weights = least_squares(outputs.flatten(1), targets.double().reshape(-1))
        else:
            truth = targets.long().reshape(1, -1, 1).expand(len(outputs), -1, 1)
            weights = likeliest(log_probabilities(outputs, task).gather(2, truth).squeeze(2))
        kept = [weight if weight >= LEAST_WEIGHT else 0.0 for weight in weights.tolist()]
        return [weight / sum(kept) for weight in kept], "probability"


def likeliest(logs: Tensor) -> Tensor:
    """Weights that maximise the mean of ``log sum_m w_m p_m``, by expectation and maximisation from equal weights.

    Args:
        logs: ``(members, samples)`` logarithms of the probability of each sample's own class.

    Returns:
        ``(members,)``, after 500 steps or when no weight changes by 1e-8 any more.

    Source: Dempster, Laird & Rubin 1977, "Maximum Likelihood from Incomplete Data via the EM Algorithm".
    """
    weights = torch.full((len(logs),), 1 / len(logs), dtype=torch.float64)
    for _ in range(STEPS):
        new = (logs + weights.log()[:, None]).softmax(dim=0).mean(dim=1)
        change = float((new - weights).abs().max())
        weights = new
        if change < SETTLED:
            break
    return weights


def least_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Weights on the simplex of least squared error, which are the likeliest where errors are normal.

    Args:
        outputs: ``(members, numbers)``.
        targets: ``(numbers,)``.

    Source: Beck & Teboulle 2009, FISTA; Duchi et al. 2008 for the projection.
    """
    gram = outputs @ outputs.T / len(targets)
    toward, slope = outputs @ targets / len(targets), float(torch.linalg.matrix_norm(gram, 2)) or 1.0
    weights = ahead = torch.full((len(outputs),), 1 / len(outputs), dtype=torch.float64)
    pace = 1.0
    for _ in range(20 * STEPS):
        new = _onto_simplex(ahead - (gram @ ahead - toward) / slope)
        change = float((new - weights).abs().max())
        faster = (1 + math.sqrt(1 + 4 * pace * pace)) / 2
        ahead = new + (pace - 1) / faster * (new - weights)
        weights, pace = new, faster
        if change < SETTLED / 1000:
            break
    return weights


def _onto_simplex(point: Tensor) -> Tensor:
    """The nearest point whose numbers are not negative and add up to 1."""
    falling = point.sort(descending=True).values
    above = (falling.cumsum(0) - 1) / torch.arange(1, len(point) + 1)
    last = int((falling > above).nonzero().max())
    return (point - above[last]).clamp(min=0)
