"""Stacking: a linear model is fitted to what members give for samples that they were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from trainkit import DataSpec, Member, Together, UsageError, Validation, Workshop
from trainkit_ensemblers.combining import Columns, Stacked, as_outputs
from trainkit_ensemblers.gathering import UNLESS_SAID, choose_from
from trainkit_ensemblers.linear import ROUGHLY, SETTLED, Fitted, fit_classes, fit_numbers
from trainkit_ensemblers.measuring import check_finite, figure, held_out_mean, lower_is_better, metric_of, rows_for_all
from trainkit_ensemblers.weighted import say_equal

CLIP = 1e-6
ROWS_PER_COLUMN = 10
ENOUGH = 3  # penalties in a row that are worse than the best before them: weaker ones are not tried
STRENGTHS = tuple(10.0**power for power in range(-3, 4))  # from the strongest penalty to the weakest


class Stacking:
    """Learns from validation samples how members' outputs make the best one.

    Args:
        seed: which samples belong to which fold of the cross-validation.
        members: how many are chosen from, or trained.
        passthrough: whether the linear model is given the inputs too.
        force: fit it to few samples too.
        cv: folds of the cross-validation.
        strength: C, where it is known already; ``None``: it is chosen by cross-validation.
    """

    def __init__(
        self,
        seed: int,
        members: int | None,
        passthrough: bool,
        force: bool,
        cv: int,
        strength: float | None = None,
    ) -> None:
        self.seed = seed
        self.count = members
        self.passthrough = passthrough
        self.force = force
        self.cv = cv
        self.strength = strength
        self.added: list[Member] = []
        self.stacked: Stacked | None = None
        self.notes: dict[str, Any] = {}

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The given runs, the trials, or runs with several seeds: these only where there will be samples enough."""
        if workshop.given is None and workshop.trials is None:
            self._check_before(workshop, self.count or UNLESS_SAID)
        return choose_from(workshop, self.count)

    def _check_before(self, workshop: Workshop, members: int) -> None:
        """Refuse what `fit` would refuse, where nothing but the validation split is held out of what is trained."""
        spec, data = workshop.spec, workshop.recipe["data"]
        if "val" not in spec.sizes or any(data.get(key) is not None for key in ("folds", "bag")):
            return
        if members == 1 and not self.passthrough:
            return
        self._check_size(spec.sizes["val"], members * spec.outputs + self.passthrough * prod(spec.input_shape))

    def add(self, member: Member, /) -> None:
        """Take in one member."""
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        """Fit the linear model to samples that no member was trained on, its penalty by cross-validation."""
        check_finite(self.added, validation)
        say_equal(self.added, validation)
        self.together = Together([member.module for member in self.added]).eval()
        if len(self.added) == 1 and not self.passthrough:
            validation.say("there is one member, and nothing to stack: the ensemble is this member")
            return
        rows, spec = rows_for_all(validation, "stacking"), validation.spec
        inputs = validation.measure(nn.Flatten())[rows].double() if self.passthrough else None
        columns = Columns(spec.task, CLIP)
        table, targets = columns(validation.outputs[:, rows].double(), inputs), validation.targets[rows]
        self._check_size(*table.shape)
        if self.strength is not None:
            self._fit_with(self.strength, table, targets, spec, columns)
            return
        folds = deal(len(rows), min(self.cv, len(rows)), self.seed, None if spec.task == "regression" else targets)
        figures = self._cross_validated(table, validation, rows, folds)
        best = figures.index(min(figures))
        self._fit_with(STRENGTHS[best], table, targets, spec, columns)
        self._report(validation, rows, STRENGTHS[best], figures[best])

    def anew(self) -> Stacking:
        """One without members that keeps the penalty: its cross-validation takes up to 35 fits."""
        return Stacking(self.seed, self.count, self.passthrough, self.force, self.cv, self.notes.get("C"))

    def _fit_with(self, strength: float, table: Tensor, targets: Tensor, spec: DataSpec, columns: Columns) -> None:
        weight, bias = _fit(table, targets, spec, strength)
        self.stacked = Stacked(weight.float(), bias.float(), columns)

    def _check_size(self, samples: int, columns: int) -> None:
        if samples >= ROWS_PER_COLUMN * columns or self.force:
            return
        raise UsageError(
            f"stacking fits {columns} columns to {samples} validation samples, and below {ROWS_PER_COLUMN} samples a "
            f"column ({ROWS_PER_COLUMN * columns}) it learns their noise\n  use greedy, whose weights need far fewer; "
            "take fewer members; or write force = true"
        )

    def _cross_validated(self, table: Tensor, validation: Validation, rows: Tensor, folds: Tensor) -> list[float]:
        """The figure of each penalty, from the strongest on, until three in a row are worse than the best."""
        spec, targets = validation.spec, validation.targets[rows]
        count, metric = int(folds.max()) + 1, metric_of(None, spec)
        fitted: list[Fitted | None] = [None] * count
        figures: list[float] = []
        for strength in STRENGTHS:
            outputs = table.new_empty((len(rows), spec.outputs))
            for fold in range(count):
                train, held = folds != fold, folds == fold
                weight, bias = fitted[fold] = _fit(table[train], targets[train], spec, strength, fitted[fold], ROUGHLY)
                outputs[held] = as_outputs(table[held] @ weight.T + bias, spec.task)
            figures.append(lower_is_better(metric, figure(outputs, validation, rows, metric)))
            if len(figures) - 1 - figures.index(min(figures)) >= ENOUGH:
                break
        return figures

    def _report(self, validation: Validation, rows: Tensor, strength: float, found: float) -> None:
        metric = metric_of(None, validation.spec)
        equal = [1 / len(self.added)] * len(self.added)
        mean = figure(held_out_mean(validation, rows, equal, "probability"), validation, rows, metric)
        self.notes = {"C": strength, "samples": len(rows), f"cross_validated_{metric}": found, f"mean_{metric}": mean}
        better = "better" if found < mean else "no better"
        validation.say(
            f"stacking: {metric} {found:.4f} by cross-validation with C = {strength:.3g}, {better} than that of the "
            f"plain mean of members, {mean:.4f}" + ("" if found < mean else "; the mean needs no fitting: use seeds")
        )

    def predict(self, inputs: Tensor, /) -> Tensor:
        """What the ensemble gives for a batch."""
        outputs: Tensor = self.together(inputs)
        if self.stacked is None:
            return outputs[0]
        combined: Tensor = self.stacked(outputs, inputs if self.passthrough else None)
        return combined

    def members(self) -> Sequence[Member]:
        """All members."""
        return self.added

    def state(self) -> Mapping[str, Any]:
        """The linear model, and how its penalty was chosen."""
        if self.stacked is None:
            return dict(self.notes)
        return {"weight": self.stacked.weight, "bias": self.stacked.bias, **self.notes}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take back what `state` gave."""
        self.together = Together([member.module for member in self.added]).eval()
        self.notes = {key: value for key, value in state.items() if key not in ("weight", "bias")}
        if "weight" in state:
            task = self.added[0].spec.task
            self.stacked = Stacked(state["weight"], state["bias"], Columns(task, CLIP))


def deal(count: int, folds: int, seed: int, classes: Tensor | None) -> Tensor:
    """The fold of each sample, ``(samples,)`` int64: each class is dealt out evenly, as a function of the seed."""
    order = list(range(count))
    Random(seed).shuffle(order)
    shuffled = torch.tensor(order)
    if classes is not None:
        shuffled = shuffled[classes.reshape(-1)[shuffled].argsort(stable=True)]
    part = torch.empty(count, dtype=torch.int64)
    part[shuffled] = torch.arange(count) % folds
    return part


def _fit(
    table: Tensor,
    targets: Tensor,
    spec: DataSpec,
    strength: float,
    start: Fitted | None = None,
    settled: float = SETTLED,
) -> Fitted:
    if spec.task == "regression":
        return fit_numbers(table, targets.double().reshape(len(targets), -1), strength)
    return fit_classes(table, targets.long().reshape(-1), max(2, spec.outputs), strength, start, settled)
