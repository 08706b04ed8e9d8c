"""One sweep: a run of the recipe whose updates follow rising values, thrown away afterwards."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch

from trainkit.build import make_ready, prepare
from trainkit.datasets import Datasets
from trainkit.errors import NotFinite
from trainkit.evaluate import loss_weight
from trainkit.lr_find.curve import Divergence, Smoothed
from trainkit.lr_find.setting import Setting, follow
from trainkit.outcome import named
from trainkit.programs import make_program
from trainkit.protocols import Progress, StepProgram
from trainkit.recipe import Recipe
from trainkit.run import Batch, Run, ScheduledValue, StepResult
from trainkit.steps import implemented

UPDATES = 100
TRIES = 2  # times as many updates as are wanted, where some are left out: float16 looks for its scale at first


@dataclass
class Curve:
    """What a sweep gave, update by update, up to where it ended.

    Args:
        values: of the setting.
        losses: of each update's batches, before the update.
        smoothed: their running mean.
        diverged: whether it ended since the loss did; the last loss is then that of the end.
        ended: why else it ended early; empty if it did not.
        skipped: updates that the number format left out, which count for nothing.
    """

    values: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    diverged: bool = False
    ended: str = ""
    skipped: int = 0


def sweep(
    recipe: Recipe,
    setting: Setting,
    value: Callable[[int], float] | None,
    updates: int,
    datasets: Datasets,
    progress: Progress,
    text: str,
) -> Curve:
    """Train a run of the recipe that nobody keeps, and note its losses.

    It is built as any run is, with its callbacks, in a temporary folder, and makes its updates as any eager run does.
    It has no schedules, loggers, evaluations or checkpoints.

    Args:
        recipe: the recipe.
        setting: what changes.
        value: its value at each update; ``None`` leaves it as it is, and goes on where the loss diverges.
        updates: how many.
        datasets: keeps the data from one run of this process to the next.
        progress: told about each update.
        text: what it is told.

    Raises:
        TrainkitError: whatever keeps the recipe from training.
    """
    with tempfile.TemporaryDirectory(prefix="trainkit-lr-find-") as folder:
        run = prepare(recipe, recipe.plugins, Path(folder), progress, say=_say_nothing, datasets=datasets)
        try:
            # Outputs are kept where there are metrics; a loss that changes is then computed anew from them.
            run.metrics = {"kept": run.loss} if setting.in_loss else {}  # type: ignore[dict-item]
            run.schedules = follow(run, recipe, setting, value)
            make_ready(run)
            program = make_program(recipe, run)
            run.hook.trainkit_run_start(run=run)
            return _trained(run, program, setting, value, updates, progress, text)
        except Exception as error:
            raise named(error, recipe.plugins, run) from error
        finally:
            run.feed.close()


def _trained(
    run: Run,
    program: StepProgram,
    setting: Setting,
    value: Callable[[int], float] | None,
    updates: int,
    progress: Progress,
    text: str,
) -> Curve:
    curve, mean, divergence = Curve(), Smoothed(updates), Divergence()
    step_end = implemented(run, "trainkit_step_end")
    for batches in islice(_updates(run), TRIES * updates):
        at = math.nan if value is None else value(run.step)
        try:
            result = program([batches])
            loss = _loss(run, result, setting)
        except NotFinite:  # said by the scaler of float16, or by a callback
            loss, result = math.nan, None
        if result is not None:
            run.step += result.updates
            run.skipped += result.skipped
            run.batch_in_epoch += len(batches)
            if step_end is not None:
                step_end(run=run, result=result)
            curve.skipped += result.skipped
        if result is None or result.updates or not math.isfinite(loss):
            curve.values.append(at)
            curve.losses.append(loss)
            curve.smoothed.append(mean.add(loss))
            above = divergence.at(curve.smoothed[-1])
            if not math.isfinite(loss) or (above and value is not None):
                curve.diverged = True
                break
        progress(run.step, updates, text)
        if run.stop_reason is not None:
            curve.ended = run.stop_reason
            break
        if run.step >= updates:
            break
    progress(updates, updates, text)
    return curve


def _updates(run: Run) -> Iterator[list[Batch]]:
    """The batches of one update after the other, epoch after epoch."""
    while True:
        run.hook.trainkit_epoch_start(run=run)
        batches = iter(run.feed.train(run.epoch))
        while update := list(islice(batches, run.clock.accumulate)):
            yield update
        run.epoch, run.batch_in_epoch = run.epoch + 1, 0


def _loss(run: Run, result: StepResult, setting: Setting) -> float:
    """The mean loss of an update; where the loss itself is what changes, as it is in the recipe."""
    if not setting.in_loss or not result.outputs:
        return float(result.losses)
    for one in run.schedules:
        _set(one, setting)
    total = weights = 0.0
    with torch.no_grad(), run.precision.context():
        for outputs, targets in zip(result.outputs, result.targets, strict=True):
            weight = float(loss_weight(run.loss, targets))
            total += weight * float(run.loss(outputs, targets))
            weights += weight
    return total / weights


def _set(one: ScheduledValue, setting: Setting) -> None:
    if one.put is not None and one.label == setting.target:
        one.put(one.base * (setting.now or 0.0))


def _say_nothing(text: str) -> None:
    """What a run says of itself is said when it is trained in earnest."""
