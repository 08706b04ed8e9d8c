"""What is probed: runs of the recipe, built anew for each check that trains, and samples of its data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.build import Built, build
from trainkit.datasets import Datasets
from trainkit.feed.order import permutation
from trainkit.feed.pipeline import Plan, gather
from trainkit.heads import predicted
from trainkit.hooking import has_hooks
from trainkit.manager import Plugins
from trainkit.protocols import Progress
from trainkit.recipe import Recipe
from trainkit.recipe.filled import FilledTables
from trainkit.run import Batch, Run, StepResult
from trainkit.steps import HookStep, implemented, training_loss

_MOST_NUMBERS, _LEAST = 1 << 26, 64  # a quarter of a gigabyte of float32; samples
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Subject:
    """The recipe under examination. Its runs are built in this process, trained a little, and thrown away.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        folder: what runs take for their folder; an empty, temporary one.
        progress: told while data is made.
    """

    def __init__(self, recipe: Recipe, plugins: Plugins, folder: Path, progress: Progress) -> None:
        self.recipe = altered(recipe)
        self.plugins = plugins
        self.folder = folder
        self.progress = progress
        self.datasets = Datasets()
        self._open = contextlib.ExitStack()

    def close(self) -> None:
        """Give back what the feeds of all runs hold."""
        self._open.close()

    def build(self, plain: bool = False, augmented: bool = True, datasets: Datasets | None = None) -> Built:
        """Build a run of the recipe.

        Args:
            plain: leave out augmentations, label smoothing, and a plugin's own way to make updates.
            augmented: leave out augmentations alone where false.
            datasets: where its data comes from; by default all runs share one set.
        """
        recipe = altered(self.recipe, augmented=augmented and not plain, smoothed=not plain)
        built = build(
            recipe, self.plugins, self.folder, self.progress, say=_nothing, datasets=datasets or self.datasets
        )
        if plain and isinstance(built.program, HookStep):  # which may exchange the samples that it is given
            built.program = built.program.fallback
        self._open.callback(built.run.feed.close)
        return built

    @cached_property
    def still(self) -> Run:
        """A run that nobody trains: the model as it begins, without augmentations and label smoothing."""
        return self.build(plain=True).run


def _nothing(text: str) -> None:
    """What a run says is about a run, which this is not."""


def altered(recipe: Recipe, augmented: bool = True, smoothed: bool = True) -> Recipe:
    """The recipe with an eager step and without loggers, and with less to regularise it where that is asked for."""
    tables: dict[str, Any] = dict(recipe.tables)
    tables["run"] = {**tables["run"], "compile": False, "updates_per_call": None}
    gone: list[tuple[str | int, ...]] = [("logger",)]
    tables["logger"] = []
    if not augmented:
        tables["data"] = {**tables["data"], "augment": []}
        gone.append(("data", "augment"))
    if not smoothed and tables["loss"].get("label_smoothing"):
        tables["loss"] = {**tables["loss"], "label_smoothing": 0.0}

    def stays(path: tuple[str | int, ...]) -> bool:
        return not any(path[: len(part)] == part for part in gone)

    return dataclasses.replace(
        recipe,
        tables=FilledTables(tables, lambda: recipe.tables.composed),
        components={path: part for path, part in recipe.components.items() if stays(path)},
        order=[path for path in recipe.order if stays(path)],
    )


# ---------------------------------------------------------------- samples


def plan_of(run: Run) -> Plan:
    """How the run's data is cut into batches, with the data itself."""
    feed: Any = run.feed
    plan: Plan = feed.plan
    return plan


def compares(subject: Subject) -> bool:
    """Whether the loss compares the samples of a batch with each other."""
    return bool(subject.recipe.components[("loss",)].capabilities.get("whole_batches"))


def samples_of(run: Run, index: Tensor, split: str = "train") -> Batch:
    """Samples by number, as the model sees them, without augmentation."""
    plan = plan_of(run)
    part = plan.split(split)
    batch = plan.prepare(Batch(gather(part.inputs, index), part.targets[index], index))
    return Batch(batch.inputs.to(run.device), batch.targets.to(run.device), index.to(run.device))


def drawn(run: Run, count: int, split: str = "train") -> Tensor:
    """Numbers of up to ``count`` samples of a split, drawn without replacement; the same in every probe.

    They are fewer where so many would not go into memory at once.
    """
    spec = run.feed.spec
    numbers = math.prod(spec.input_shape)
    fitting = max(_LEAST, _MOST_NUMBERS // max(1, numbers))
    if spec.task == "tokens":  # each of which has outputs
        fitting = max(2, _MOST_NUMBERS // max(1, numbers * spec.outputs))
    return permutation(len(plan_of(run).split(split)), "probe", split)[: min(count, fitting)]


def parts(values: Tensor, size: int) -> Sequence[Tensor]:
    """Samples in parts of at least ``size``, as far as there are so many: norms can make nothing of a single one."""
    found: Sequence[Tensor] = values.tensor_split(max(1, len(values) // size))
    return found


def spread(run: Run, count: int) -> Tensor:
    """Numbers of ``count`` training samples, of as many classes as there are."""
    targets = plan_of(run).split("train").targets
    order = permutation(len(targets), "probe", "train")
    if run.feed.spec.task == "regression" or targets.ndim != 1:
        return order[:count]
    classes = targets[order]
    # The first sample of each class, then the second of each: how many of its class come before a sample decides.
    before = torch.zeros(len(order), dtype=torch.int64)
    for kind in sorted(set(classes.tolist())):
        own = (classes == kind).nonzero().squeeze(1)
        before[own] = torch.arange(len(own))
    return order[before.argsort(stable=True)[:count]]


# ---------------------------------------------------------------- models


def quiet(model: nn.Module) -> nn.Module:
    """Put a model into a mode where nothing is drawn at random, and norms take the batch's own statistics."""
    model.eval()
    for module in model.modules():
        if isinstance(module, _NORMS):
            module.train()
        elif has_hooks(module):  # it may keep what its own loss needs while it trains
            module.training = True
    return model


def forward(run: Run, inputs: Tensor) -> Tensor:
    """The model's outputs in the recipe's number format, in whatever mode it is."""
    with run.precision.context():
        outputs: Tensor = run.forward(inputs)
    return outputs


def loss_of(run: Run, outputs: Tensor, targets: Tensor) -> float:
    """The recipe's bare loss, without what plugins make of it."""
    with run.precision.context():
        return float(run.loss(outputs, targets))


def r_squared(outputs: Tensor, targets: Tensor) -> float:
    """The share of the targets' variance that outputs explain; 1 is all."""
    outputs, targets = outputs.double().reshape(len(outputs), -1), targets.double().reshape(len(targets), -1)
    total = (targets - targets.mean(0)).square().sum()
    return float(1 - (targets - outputs).square().sum() / total) if total > 0 else float("nan")


def right(run: Run, outputs: Tensor, targets: Tensor) -> float:
    """How good outputs are: the share that is right, or of the variance that is explained."""
    outputs = predicted(run.loss, outputs)
    if run.feed.spec.task == "regression":
        return r_squared(outputs, targets)
    if run.feed.spec.task == "binary":
        return float(((outputs.flatten() > 0) == (targets.flatten() > 0.5)).double().mean())
    if targets.is_floating_point():
        targets = targets.argmax(-1)
    return float((outputs.argmax(-1) == targets).double().mean())


# ---------------------------------------------------------------- updates


def drive(built: Built, count: int, batches: Sequence[Batch] | None = None) -> Iterator[tuple[list[Batch], StepResult]]:
    """Make the first updates of a run, each followed by a pause: hooks are called as a run calls them, but for those
    of evaluations, saves and the ends of epochs.

    Args:
        built: the run.
        count: how many updates; no more than the run has.
        batches: what each update is given; by default what the run's own feed gives.
    """
    run, program = built.run, built.program
    step_end = implemented(run, "trainkit_step_end")
    run.hook.trainkit_run_start(run=run)
    run.hook.trainkit_epoch_start(run=run)
    for update in _updates(run) if batches is None else ([*batches] for _ in range(count)):
        result = program([update])
        run.step += result.updates
        run.skipped += result.skipped
        if step_end is not None:
            step_end(run=run, result=result)
        yield update, result
        if run.position >= count or (batches is None and run.position >= run.total_updates):
            return


def _updates(run: Run) -> Iterator[list[Batch]]:
    while True:
        batches = run.feed.train(run.epoch)
        while update := list(islice(batches, run.clock.accumulate)):
            run.batch_in_epoch += len(update)
            yield update
        run.epoch, run.batch_in_epoch = run.epoch + 1, 0
        run.hook.trainkit_epoch_start(run=run)


def gradients_of(run: Run, batch: Batch) -> dict[str, Tensor | None]:
    """The gradient of each parameter that is trained, by name; nothing stays in the parameters."""
    owned = {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    for parameter in owned.values():
        parameter.grad = None
    with run.precision.context():
        loss = training_loss(run)(run.forward(batch.inputs), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in owned.items()}
    for parameter in owned.values():
        parameter.grad = None
    return found


class Deadline:
    """Ends what has taken long enough, but not before it was tried so many times."""

    def __init__(self, seconds: float, least: int) -> None:
        self._end = time.monotonic() + seconds
        self._left = least

    def over(self) -> bool:
        """Whether to end; asked once for each try."""
        self._left -= 1
        return self._left < 0 and time.monotonic() > self._end
