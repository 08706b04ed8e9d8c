"""Ensemblers whose members are combined with fixed weights, and those of them that weigh all members alike."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Member, Together, UsageError, Validation, Workshop, variance_of
from trainkit_ensemblers.combining import VOTE_CLIP, Combination, Space, log_probabilities
from trainkit_ensemblers.gathering import choose_from, require_cut, seeded, train_seeds
from trainkit_ensemblers.measuring import check_finite, choose_space, common_rows, figure, held_out_mean
from trainkit_ensemblers.methods import Combine


class Weighted(ABC):
    """Members with weights; a subclass says where they come from, and what each weighs.

    Args:
        combine: what the mean is taken of; auto chooses by validation.
    """

    def __init__(self, combine: Combine = "auto") -> None:
        self.wanted: Combine = combine
        self.added: list[Member] = []
        self.kept: list[Member] = []
        self.weights: list[float] = []
        self.space: Space = "probability"
        self.notes: dict[str, Any] = {}

    @abstractmethod
    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Get the members."""

    def weigh(self, validation: Validation) -> tuple[list[float], Space | None]:
        """The weight of each member, adding up to 1, and what the mean is taken of; ``None``: chosen for them.

        It may put into `notes` what is worth keeping.
        """
        return [1 / len(self.added)] * len(self.added), None

    def report(  # noqa: B027
        self, validation: Validation, weights: Sequence[float], space: Space
    ) -> None:
        """Put into `notes`, and say, what is worth knowing of the choice: of most nothing more."""

    def add(self, member: Member, /) -> None:
        """Take in one member."""
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        """Decide what each member weighs; those that weigh nothing are not kept."""
        check_finite(self.added, validation)
        say_equal(self.added, validation)
        self.notes = {}
        weights, space = self.weigh(validation)
        if space is None:
            space = self._choose(validation, weights)
        self.report(validation, weights, space)
        self.kept = [member for member, weight in zip(self.added, weights, strict=True) if weight > 0]
        self._make([weight for weight in weights if weight > 0], space)

    def _choose(self, validation: Validation, weights: Sequence[float]) -> Space:
        if self.wanted != "auto" or validation.spec.task == "regression" or sum(w > 0 for w in weights) < 2:
            return "logit" if self.wanted == "logit" else "probability"
        space, found = choose_space(validation, weights)
        self.note_spaces(validation, space, found)
        return space

    def note_spaces(self, validation: Validation, space: Space, found: Mapping[str, float]) -> None:
        """Keep and say which mean was chosen, and by which figures."""
        self.notes["nll"] = dict(found)
        figures = " against ".join(f"{found[name]:.4f} of {name}" for name in sorted(found, key=lambda n: n != space))
        validation.say(f"combine = {space}: negative log likelihood on validation {figures}")

    def _make(self, weights: list[float], space: Space) -> None:
        self.weights, self.space = weights, space
        self.combination = Combination(weights, space, self.kept[0].spec.task)
        self.together = Together([member.module for member in self.kept]).eval()

    def predict(self, inputs: Tensor, /) -> Tensor:
        """What the ensemble gives for a batch."""
        combined: Tensor = self.combination(self.together(inputs))
        return combined

    def variance(self, inputs: Tensor, /) -> Tensor:
        """For regression: the variance of the mixture, with that of each member where all of them give one."""
        each = [variance_of(member.module, inputs) for member in self.kept]
        known = [one for one in each if one is not None]
        return self.combination.variance(self.together(inputs), torch.stack(known) if len(known) == len(each) else None)

    def members(self) -> Sequence[Member]:
        """The members that have a weight."""
        return self.kept

    def state(self) -> Mapping[str, Any]:
        """The weights, what the mean is taken of, and what is worth knowing of the choice."""
        return {"weights": list(self.weights), "combine": self.space, **self.notes}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave."""
        self.notes = {key: value for key, value in state.items() if key not in ("weights", "combine")}
        self.kept = list(self.added)
        if len(state["weights"]) != len(self.kept):
            raise ValueError(f"{len(state['weights'])} weights for {len(self.kept)} members")
        self._make([float(weight) for weight in state["weights"]], state["combine"])


def say_equal(members: Sequence[Member], validation: Validation) -> None:
    """Tell of members that are one model: they give the same outputs for every sample."""
    first: dict[bytes, Member] = {}
    for member, outputs in zip(members, validation.outputs, strict=True):
        same = first.setdefault(outputs.numpy().tobytes(), member)
        if same is not member:
            validation.say(
                f"{member.name} gives for every sample what {same.name} gives: they are one model, and add nothing to "
                "each other; do they begin with the same weights and see the same samples in the same order?"
            )


class Seeds(Weighted):
    """The mean of runs that differ in their seed, or of given runs.

    Args:
        members: how many are trained.
        combine: see `Weighted`.
    """

    def __init__(self, members: int, combine: Combine) -> None:
        super().__init__(combine)
        self.count = members

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs; where there are none, the recipe is trained."""
        return workshop.given if workshop.given is not None else train_seeds(workshop, self.count)


class Folds(Weighted):
    """The mean of runs that each held out another fold.

    Args:
        folds: how many.
        fold_by: what folds keep together or balance.
        combine: see `Weighted`.
    """

    def __init__(self, folds: int, fold_by: str, combine: Combine) -> None:
        super().__init__(combine)
        self.folds = folds
        self.fold_by = fold_by

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, each of a fold; where there are none, one is trained for each fold."""
        if workshop.given is not None:
            require_cut(workshop.given, "folds", "fold")
            return workshop.given
        cut = {"folds": self.folds, "fold_by": self.fold_by}
        return workshop.train([seeded(workshop, fold, fold=fold, **cut) for fold in range(self.folds)])

    def report(self, validation: Validation, weights: Sequence[float], space: Space) -> None:
        """The out-of-fold figures: each sample by the runs that held it out."""
        rows = validation.held_out.any(0).nonzero().squeeze(1)
        figures = _figures(validation, rows, weights, space)
        self.notes["out_of_fold"] = {"samples": len(rows), **figures}
        validation.say(
            f"out of fold, over {len(rows)} samples: {_shown(figures)}; this is how good a single run of a fold is, "
            "not their mean, which is better"
        )


class Bagging(Weighted):
    """The mean of runs that were each trained on another bootstrap draw of the training samples.

    Args:
        members: how many.
        combine: see `Weighted`.
    """

    def __init__(self, members: int, combine: Combine) -> None:
        super().__init__(combine)
        self.count = members

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, each of a draw; where there are none, they are trained."""
        if workshop.given is not None:
            require_cut(workshop.given, "bag", "bootstrap draw")
            return workshop.given
        return workshop.train([seeded(workshop, number, bag=number) for number in range(self.count)])

    def report(self, validation: Validation, weights: Sequence[float], space: Space) -> None:
        """The out-of-bag figures: each training sample by the runs that did not draw it."""
        held = validation.held_out
        rows = (held.any(0) & ~held.all(0)).nonzero().squeeze(1)
        if not len(rows):
            return
        figures, missed = _figures(validation, rows, weights, space), int((~held.any(0)).sum())
        self.notes["out_of_bag"] = {"samples": len(rows), "drawn_by_all": missed, **figures}
        mean = float(held[:, rows].sum(0).double().mean())
        validation.say(
            f"out of bag, over {len(rows)} training samples, each by the {mean:.1f} of {len(held)} runs (on average) "
            f"that did not draw it: {_shown(figures)}"
            + (f"; {missed} samples were drawn by every run and count nowhere" if missed else "")
        )


def _figures(validation: Validation, rows: Tensor, weights: Sequence[float], space: Space) -> dict[str, float]:
    names = ("mse", "r2") if validation.spec.task == "regression" else ("accuracy", "nll")
    outputs = held_out_mean(validation, rows, weights, space)
    return {name: figure(outputs, validation, rows, name) for name in names}


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


class Vote(Weighted):
    """The class that most members take for the likeliest.

    Args:
        members: how many are chosen from, or trained.
    """

    def __init__(self, members: int | None) -> None:
        super().__init__()
        self.count = members

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, the trials, or runs with several seeds."""
        return choose_from(workshop, self.count)

    def weigh(self, validation: Validation) -> tuple[list[float], Space | None]:
        """All alike."""
        if validation.spec.task == "regression":
            raise UsageError("vote is for classes, and a regression has none\n  use seeds, topk or greedy")
        return super().weigh(validation)[0], "vote"

    def report(self, validation: Validation, weights: Sequence[float], space: Space) -> None:
        """How often no member votes for the truth, where the negative log likelihood of votes is infinite."""
        rows = common_rows(validation)
        if len(self.added) < 2 or not len(rows):
            return
        votes = log_probabilities(validation.outputs[:, rows], validation.spec.task).argmax(-1)
        without = int((votes != validation.targets[rows].long().reshape(-1)).all(0).sum())
        self.notes |= {"samples": len(rows), "no_vote_for_truth": without, "clip": VOTE_CLIP}
        if without:
            validation.say(
                f"for {without} of {len(rows)} validation samples no member votes for the truth: the negative log "
                f"likelihood of votes is infinite there; shares are taken for at least {VOTE_CLIP:g}, so that each of "
                f"these samples counts {-math.log(VOTE_CLIP):.1f} nats"
            )
