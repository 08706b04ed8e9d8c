"""Finished runs: built again from their own recipe, for figures and predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint, doubts, pretrained, snapshot
from trainkit.allocator import keep_pages
from trainkit.build import make_ready, prepare
from trainkit.console import say
from trainkit.dataset import Batch, DataSpec
from trainkit.datasets import Datasets
from trainkit.errors import PluginError, UsageError
from trainkit.evaluate import measure
from trainkit.heads import details_of, predicted, predicts
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe, load_recipe
from trainkit.run import Metrics, Run
from trainkit.rundir import check_links
from trainkit.verified import fitting


@dataclass(frozen=True)
class Reopened:
    """A finished run that is built again.

    Args:
        recipe: its recipe, as its folder has it.
        run: the run, with the weights of a checkpoint.
        folder: its folder.
        checkpoint: the checkpoint.
        state: what the checkpoint holds beside tensors.
        first_sha256: SHA-256 of the weights that the recipe begins with.
        refused: newer checkpoints that cannot be used, and why.
    """

    recipe: Recipe
    run: Run
    folder: Path
    checkpoint: Path
    state: Mapping[str, Any]
    first_sha256: str
    refused: Mapping[Path, str]


def open_run(path: Path, plugins: Plugins, progress: Progress = silent) -> Run:
    """Build a finished run's recipe again and put its newest good checkpoint into it.

    Args:
        path: the run folder, or one checkpoint of it.

    Raises:
        UsageError: if it is no run folder.
        CheckpointError: if no checkpoint can be used, or the weights do not fit.
    """
    made = reopen(path, plugins, progress)
    warn(made)
    return made.run


def warn(made: Reopened) -> None:
    """Say what is not as the run's folder would have it: checkpoints that are refused, other data."""
    for why in made.refused.values():
        say(f"warning: a newer checkpoint is refused: {why}")
    if made.refused:
        say(f"warning: these are the weights of {made.checkpoint.name}")
    if made.state.get("data") != made.run.feed.spec.fingerprint:
        say("warning: the data is not the data this run was trained on (their SHA-256 differ)")


def folder_of(path: Path) -> Path:
    """The run folder that a path means, which may be one of its checkpoints.

    Raises:
        UsageError: if it is no run folder.
    """
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    recipe_file = folder / "recipe.toml"
    if not recipe_file.is_file():
        raise UsageError(f"{path}: not a run folder (there is no {recipe_file}); name a folder that 'run' made")
    return folder


def reopen(
    path: Path,
    plugins: Plugins,
    progress: Progress = silent,
    say: Callable[[str], None] | None = None,
    datasets: Datasets | None = None,
) -> Reopened:
    """As `open_run`; says nothing of what it had to leave out, and all else with ``say``."""
    folder = folder_of(path)
    recipe_file = folder / "recipe.toml"
    check_links(folder)
    refused: Mapping[Path, str] = {}
    if folder != path:
        tensors, state = checkpoint.load(path)
        found = path
    else:
        found, tensors, state, refused = checkpoint.find_newest(folder / "checkpoints")
    recipe = load_recipe(recipe_file, [], plugins)
    # Whatever the recipe's length, schedules have that of the checkpoint: it says what they can be made with.
    # Nothing will update it: a program for updates would import the compiler where the recipe asks for one.
    run = prepare(
        recipe,
        plugins,
        folder,
        progress,
        say=say or _note,
        planned=lambda total: state.get("schedule_updates", total),
        datasets=datasets,
    )
    make_ready(run)
    first_sha256 = pretrained.first_sha256(folder) or checkpoint.weights_sha256(run.model)
    with fitting(found):
        checkpoint.load_weights(run.model, tensors)
    try:
        snapshot.restore_plugins(run, tensors, state, partial(doubts.taking_back, found))
    except Exception as error:
        doubted = doubts.held_against_state(error, plugins.blame(error), found, run, state)
        if doubted is None:
            raise
        raise doubted from error
    return Reopened(recipe, run, folder, found, state, first_sha256, refused)


def _note(text: str) -> None:
    say(f"note: {text}")


def evaluate_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Metrics:
    """Measure a finished run on a split.

    Raises:
        UsageError: if the data has no such split.
        CheckpointError: if no checkpoint can be used.
    """
    run = open_run(path, plugins, progress)
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        require_split(run.feed.spec, split)
        run.measuring = following(progress, f"evaluating {split}")
        figures: Metrics = run.hook.trainkit_evaluate(run=run, split=split)
        return figures


def following(progress: Progress, text: str) -> Callable[[int, int], None]:
    """What is told of an evaluation for ``run.measuring``; what is over soon ends unsaid."""
    return lambda done, total: progress(done, total, text if done < total else "")


def predict_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Mapping[str, Tensor]:
    """Model outputs of a finished run on a split, in the split's order, with the weights that evaluations measure.

    Returns:
        ``outputs`` ``(samples, outputs)`` float32, ``targets``, ``index``; for classification also ``probabilities``
        and ``predicted``; for regression ``predicted`` and ``truth`` in the data's units, however targets were
        standardised. Where the loss asks the model for other numbers than targets have, ``outputs`` are what it says
        that they predict, ``raw`` is what the model gives, and what else the loss tells of that comes by its name.
        A loss whose targets are no truth (``no_truth``) leaves ``targets`` out.
        Of tokens, whose outputs are many, ``predicted`` and ``log_probability`` (nats) of each target alone, both
        ``(samples, positions)``.
    """
    run = open_run(path, plugins, progress)
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        require_split(run.feed.spec, split)
        run.measuring = following(progress, f"predicting {split}")
        return predictions_of(run, split)


def predictions_of(run: Run, split: str) -> dict[str, Tensor]:
    """What `predict_run` returns, of a run that is built and restored.

    Raises:
        PluginError: if a plugin measures in a way of its own that shows no outputs.
    """
    parts: list[tuple[Tensor, ...]] = []
    tokens = run.feed.spec.task == "tokens"

    def keep(batch: Batch, outputs: Tensor) -> None:
        made = of_tokens(predicted(run.loss, outputs), batch.targets) if tokens else (outputs.float(),)
        parts.append(tuple(part.cpu() for part in (batch.index, batch.targets, *made)))

    def keeping(run: Run, split: str) -> Metrics:
        return measure(run, split, keep)

    # An evaluation that keeps the outputs: whoever exchanges the weights around evaluations does it here too.
    run.hook.trainkit_evaluate.call_extra([keeping], {"run": run, "split": split})
    if not parts:
        raise PluginError("a plugin measures in a way of its own, before all others, and shows no outputs to keep")
    index, targets, outputs, *rest = (torch.cat(part) for part in zip(*parts, strict=True))
    if tokens:
        return {"index": index, "targets": targets, "predicted": outputs, "log_probability": rest[0]}
    shown = predicted(run.loss, outputs)
    found = {"index": index, "targets": targets, "outputs": shown} | kinds_of(shown, targets, run.feed.spec)
    if run.decided is not None:
        found["predicted"] = classes_of(run.decided(shown), run.feed.spec.task)["predicted"]
    if getattr(run.loss, "no_truth", ""):  # made up, so that there is something to measure a probe by
        del found["targets"]
    if not predicts(run.loss):
        return found
    more = {
        name: told.reshape(targets.shape) if told.numel() == targets.numel() else told
        for name, told in details_of(run.loss, outputs).items()
    }
    return found | {"raw": outputs, **more}


def of_tokens(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token at each position, and the logarithm of the target's probability: ``(batch, positions)``."""
    logs = outputs.float().log_softmax(-1)
    return logs.argmax(-1), logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def kinds_of(outputs: Tensor, targets: Tensor, spec: DataSpec) -> dict[str, Tensor]:
    """`classes_of` outputs; for a regression ``predicted`` and ``truth``, outputs and targets in the data's units."""
    if outputs.dim() > targets.dim() + 1:  # several rows for each target, such as views of a sample: no predictions
        return {}
    if spec.task != "regression" or outputs.numel() != targets.numel():
        return classes_of(outputs, spec.task)
    return {"predicted": in_units(outputs, spec).reshape(targets.shape), "truth": in_units(targets, spec)}


def in_units(numbers: Tensor, spec: DataSpec) -> Tensor:
    """A regression's outputs or targets as the data has them, float64: what was standardised is put back."""
    count = len(spec.target_std)
    if not count:
        return numbers.double()
    std, mean = (torch.tensor(part, dtype=torch.float64) for part in (spec.target_std, spec.target_mean))
    return (numbers.double().reshape(len(numbers), count) * std + mean).reshape(numbers.shape)


def classes_of(outputs: Tensor, task: str) -> dict[str, Tensor]:
    """``probabilities`` and ``predicted`` of outputs; nothing for a regression."""
    if task == "classification":
        return {"probabilities": outputs.softmax(dim=-1), "predicted": outputs.argmax(dim=-1)}
    if task == "binary":
        return {"probabilities": outputs.sigmoid(), "predicted": (outputs > 0).long()}
    return {}


def require_split(spec: DataSpec, split: str) -> None:
    """Check that data has a split that the user named.

    Raises:
        UsageError: naming those that there are.
    """
    if split not in spec.sizes:
        raise UsageError(f"--split {split}: the data has no such split; it has {', '.join(spec.sizes)}")
