"""Finished runs: built again from their own recipe, for figures and predictions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainkit import checkpoint, snapshot
from trainkit.build import build
from trainkit.errors import UsageError
from trainkit.evaluate import outputs_of
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import load_recipe
from trainkit.run import Metrics, Run


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
    if folder != path:
        tensors, state = checkpoint.load(path)
    else:
        _, tensors, state = checkpoint.load_newest(folder / "checkpoints")
    recipe = load_recipe(recipe_file, [], plugins)
    run = build(recipe, plugins, folder, progress).run
    if state.get("data") != run.feed.spec.fingerprint:
        print("warning: the data is not the data this run was trained on (their SHA-256 differ)", file=sys.stderr)
    snapshot.restore_weights(run, tensors, state)
    return run


def evaluate_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Metrics:
    """Measure a finished run on a split.

    Raises:
        UsageError: if the data has no such split.
        CheckpointError: if no checkpoint can be used.
    """
    run = open_run(path, plugins, progress)
    _require_split(run, split)
    figures: Metrics = run.hook.trainkit_evaluate(run=run, split=split)
    return figures


def predict_run(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Mapping[str, Tensor]:
    """Model outputs of a finished run on a split, in the split's order.

    Returns:
        ``outputs`` ``(samples, outputs)`` float32, ``targets``, ``index``; for classification also ``probabilities``
        and ``predicted``.
    """
    run = open_run(path, plugins, progress)
    _require_split(run, split)
    parts = [
        (batch.index.cpu(), batch.targets.cpu(), out.float().cpu())
        for batch, out in outputs_of(run, run.feed.evaluate(split))
    ]
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
