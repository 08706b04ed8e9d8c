"""``evaluate`` and ``predict`` of a finished ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainkit.console import say
from trainkit.ensemble.artefact import Artefact
from trainkit.ensemble.base import Base
from trainkit.ensemble.opened import Ensemble, opened, refused_here
from trainkit.ensemble.verify import read_artefact
from trainkit.errors import CheckpointError, RecipeError
from trainkit.finished import kinds_of, require_split
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import parts_from_text
from trainkit.run import Metrics
from trainkit.scoring import scores


def evaluate_ensemble(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Metrics:
    """Measure a finished ensemble on a split: loss and metrics of its recipe, and how good its probabilities are.

    Raises:
        UsageError: if it is no finished ensemble, or the data has no such split.
        CheckpointError: if a file of it was altered.
    """
    with _opened(path, plugins, progress) as (ensemble, base):
        require_split(base.spec, split)
        outputs, variance = _measured(ensemble, base, split)
        return figures_of(ensemble, base, split, outputs, variance)


def figures_of(ensemble: Ensemble, base: Base, split: str, outputs: Tensor, variance: Tensor | None) -> Metrics:
    """All figures of what an ensemble gave for a split."""
    bins = int(ensemble.settings.get("bins", 15))
    return scores(outputs, base.targets(split), base.spec, bins, variance) | base.figures(outputs, split)


def predict_ensemble(path: Path, split: str, plugins: Plugins, progress: Progress = silent) -> Mapping[str, Tensor]:
    """What a finished ensemble gives for a split, in the split's order.

    Returns:
        As `trainkit.finished.predict_run`; for regression also ``variance``, where the ensemble knows it.
    """
    with _opened(path, plugins, progress) as (ensemble, base):
        require_split(base.spec, split)
        outputs, variance = _measured(ensemble, base, split, quick=True)
        targets = base.targets(split)
    found = {"index": torch.arange(len(targets)), "targets": targets, "outputs": outputs}
    known = {} if variance is None else {"variance": variance}  # of a regression alone
    return found | kinds_of(outputs, targets, base.spec) | known


def base_of(artefact: Artefact, plugins: Plugins, folder: Path, progress: Progress = silent) -> Base:
    """The data, loss and metrics that an ensemble was made with.

    Raises:
        CheckpointError: if the data here has another form, or the recipe cannot be used.
    """
    text = artefact.recipes[artefact.recipe]
    try:
        recipe = parts_from_text(text, f"{folder}: the recipe of its data", ("data", "loss", "metric"), plugins)
    except RecipeError as error:
        raise refused_here(folder, error) from error
    if "run" not in recipe.tables:
        raise CheckpointError(f"{folder}: the recipe of its data has no [run] table, which says the device")
    base = Base(recipe, plugins, name=str(folder), progress=progress, say=lambda text: say(f"note: {text}"))
    own, other = artefact.spec, base.spec
    if (own.task, own.outputs, own.classes, own.input_shape) != (
        other.task,
        other.outputs,
        other.classes,
        other.input_shape,
    ):
        raise CheckpointError(f"{folder}: the data here has other samples or classes than this ensemble was made with")
    return base


@contextlib.contextmanager
def _opened(folder: Path, plugins: Plugins, progress: Progress) -> Iterator[tuple[Ensemble, Base]]:
    artefact = read_artefact(folder)
    ensemble = opened(artefact, plugins, folder)
    base = base_of(artefact, plugins, folder, progress)
    with contextlib.closing(base):
        if artefact.spec.fingerprint != base.spec.fingerprint:
            say("warning: the data is not the data this ensemble was made with (their SHA-256 differ)")
        yield ensemble, base


def _measured(ensemble: Ensemble, base: Base, split: str, quick: bool = False) -> tuple[Tensor, Tensor | None]:
    outputs = base.measure(ensemble, split, quick=quick)
    if not ensemble.knows_variance:
        return outputs, None
    return outputs, base.measure(ensemble, split, ensemble.variance, quick)
