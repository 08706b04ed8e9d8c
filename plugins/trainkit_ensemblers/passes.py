"""Many passes through one model with dropout on, as if each way of dropping were a member."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Member, Together, UsageError, Validation, Workshop
from trainkit_ensemblers.combining import Combination, Space
from trainkit_ensemblers.masks import draw, dropouts, shapes_of, thinned
from trainkit_ensemblers.measuring import check_finite, common_rows, figure, held_out_mean, metric_of
from trainkit_ensemblers.methods import Combine
from trainkit_ensemblers.weighted import Weighted


class ManyPasses(Weighted):
    """See `trainkit_ensemblers.of_weights.mc_dropout`."""

    def __init__(self, seed: int, passes: int, combine: Combine) -> None:
        super().__init__(combine)
        self.seed = seed
        self.passes = passes
        self.masks: list[dict[str, Tensor]] = []

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, or one that is trained."""
        found = workshop.given if workshop.given is not None else workshop.train([{}])
        for member in found:
            if not dropouts(member.module):
                raise UsageError(
                    f"mc_dropout: the model of {member.name} has no dropout layer (torch.nn.Dropout and its kin) that "
                    "drops anything: all passes would be the same\n  take runs of a model with dropout, or use another "
                    "ensembler"
                )
        return found

    def fit(self, validation: Validation, /) -> None:
        """Draw the masks, and choose what the mean of the passes is taken of."""
        check_finite(self.added, validation)
        self.kept, self.notes = list(self.added), {}
        self.masks = []
        for member in self.kept:
            shapes = shapes_of(member.module, validation.spec.input_shape)
            self.masks.append(draw(member.module, shapes, self.passes, self.seed))
        self._make([1 / len(self.kept)] * len(self.kept), "probability")
        outputs = torch.stack([validation.measure(module) for module in self.together.each])
        if not bool(outputs.isfinite().all()):
            raise UsageError("mc_dropout: a pass gives values that are not finite\n  use another ensembler")
        of_passes = validation.held_out.repeat_interleave(self.passes, dim=0)
        passes = dataclasses.replace(validation, outputs=outputs, held_out=of_passes)
        space = self._choose(passes, [1 / len(outputs)] * len(outputs))
        self._make([1 / len(self.kept)] * len(self.kept), space)
        self._compare(passes, validation, space)

    def _make(self, weights: list[float], space: Space) -> None:
        self.weights, self.space = weights, space
        count = len(self.kept) * self.passes
        self.combination = Combination([1 / count] * count, space, self.kept[0].spec.task)
        modules = [
            thinned(member.module, masks, number)
            for member, masks in zip(self.kept, self.masks, strict=True)
            for number in range(self.passes)
        ]
        self.together = Together(modules).eval()

    def _compare(self, passes: Validation, validation: Validation, space: Space) -> None:
        """Keep the figures of the passes together, and of the models with dropout off, which cost one pass each."""
        rows = common_rows(validation)
        if not len(rows):
            return
        metric = metric_of(None, validation.spec)
        count, models = len(passes.outputs), len(validation.outputs)
        together = figure(held_out_mean(passes, rows, [1 / count] * count, space), validation, rows, metric)
        without = figure(held_out_mean(validation, rows, [1 / models] * models, space), validation, rows, metric)
        self.notes["compared"] = {"metric": metric, "passes": together, "dropout_off": without}
        validation.say(
            f"{self.passes} passes with dropout: {metric} {together:.4f} on validation; in one pass without it "
            f"{without:.4f}"
        )

    def state(self) -> Mapping[str, Any]:
        """The masks, and what the mean is taken of."""
        return {**super().state(), "passes": self.passes, "masks": [dict(masks) for masks in self.masks]}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave."""
        self.passes = state["passes"]
        self.masks = [dict(masks) for masks in state["masks"]]
        if len(self.masks) != len(self.added):
            raise ValueError(f"masks for {len(self.masks)} models, and there are {len(self.added)}")
        super().load_state({key: value for key, value in state.items() if key not in ("masks", "passes")})
