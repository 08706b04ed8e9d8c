"""Finished runs: built again from their own recipe, for figures and predictions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from trainkit import checkpoint, doubts, snapshot
from trainkit.allocator import keep_pages
from trainkit.build import make_ready, prepare
from trainkit.console import say
from trainkit.errors import PluginError, UsageError
from trainkit.evaluate import measure
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import load_recipe
from trainkit.run import Metrics, Run
from trainkit.rundir import check_links
from trainkit.verified import fitting


def open_run(path: Path, plugins: Plugins, progress: Progress = silent) -> Run:
    """Build a finished run's recipe again and put its newest good checkpoint into it.

    Args:
        path: the run folder, or one checkpoint of it.

    Raises:
        UsageError: if it is no run folder.
        CheckpointError: if no checkpoint can be used, or the weights do not fit.
    """
    folder = path.parent.parent if path.parent.name == "checkpoints" else path
    recipe_file = folder / "recipe.toml"
    if not recipe_file.is_file():
        raise UsageError(f"{path}: not a run folder (there is no {recipe_file}); name a folder that 'run' made")
    check_links(folder)
    if folder != path:
        tensors, state = checkpoint.load(path)
        found = path
    else:
        found, tensors, state, refused = checkpoint.find_newest(folder / "checkpoints")
        for why in refused.values():
            say(f"warning: a newer checkpoint is refused: {why}")
        if refused:
            say(f"warning: these are the weights of {found.name}")
    recipe = load_recipe(recipe_file, [], plugins)
    # Whatever the recipe's length, schedules have that of the checkpoint: it says what they can be made with.
    # Nothing will update it: a program for updates would import the compiler where the recipe asks for one.
    run = prepare(
        recipe, plugins, folder, progress, say=_note, planned=lambda total: state.get("schedule_updates", total)
    )
    make_ready(run)
    if state.get("data") != run.feed.spec.fingerprint:
        say("warning: the data is not the data this run was trained on (their SHA-256 differ)")
    with fitting(found):
        checkpoint.load_weights(run.model, tensors)
    try:
        snapshot.restore_plugins(run, tensors, state, partial(doubts.taking_back, found))
    except Exception as error:
        doubted = doubts.held_against_state(error, plugins.blame(error), found, run, state)
        if doubted is None:
            raise
        raise doubted from error
    return run


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
        _require_split(run, split)
        figures: Metrics = run.hook.trainkit_evaluate(run=run, split=split)
        return figures


def predict_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Mapping[str, Tensor]:
    """Model outputs of a finished run on a split, in the split's order, with the weights that evaluations measure.

    Returns:
        ``outputs`` ``(samples, outputs)`` float32, ``targets``, ``index``; for classification also ``probabilities``
        and ``predicted``.
    """
    run = open_run(path, plugins, progress)
    with keep_pages(run.recipe["run"]["keep_pages"]), contextlib.closing(run.feed):
        _require_split(run, split)
        return predictions_of(run, split)


def predictions_of(run: Run, split: str) -> dict[str, Tensor]:
    """What `predict_run` returns, of a run that is built and restored.

    Raises:
        PluginError: if a plugin measures in a way of its own that shows no outputs.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def keeping(run: Run, split: str) -> Metrics:
        return measure(
            run, split, lambda batch, out: parts.append((batch.index.cpu(), batch.targets.cpu(), out.float().cpu()))
        )

    # An evaluation that keeps the outputs: whoever exchanges the weights around evaluations does it here too.
    run.hook.trainkit_evaluate.call_extra([keeping], {"run": run, "split": split})
    if not parts:
        raise PluginError("a plugin measures in a way of its own, before all others, and shows no outputs to keep")
    index, targets, outputs = (torch.cat(part) for part in zip(*parts, strict=True))
    result = {"index": index, "targets": targets, "outputs": outputs}
    if run.feed.spec.task == "classification":
        result["probabilities"] = outputs.softmax(dim=-1)
        result["predicted"] = outputs.argmax(dim=-1)
    elif run.feed.spec.task == "binary":
        result["probabilities"] = outputs.sigmoid()
        result["predicted"] = (outputs > 0).long()
    return result


def _require_split(run: Run, split: str) -> None:
    if split not in run.feed.spec.sizes:
        raise UsageError(f"--split {split}: the data has no such split; it has {', '.join(run.feed.spec.sizes)}")
