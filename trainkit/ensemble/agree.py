"""Whether runs can be members of one ensemble: the same data, the same targets, outputs that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainkit.build_data import whole_dataset
from trainkit.dataset import Dataset
from trainkit.ensemble.aligned import changed, input_change, output_change
from trainkit.ensemble.base import Base
from trainkit.errors import UsageError
from trainkit.feed.pipeline import gather
from trainkit.finished import Reopened
from trainkit.heads import predicted
from trainkit.instantiate import Builder
from trainkit.run import Run
from trainkit.weights import exchanged

SAMPLES = 8
ROWS = 256  # of tables, where a column may stand for another word in a few rows alone
_CURE = "members of one ensemble are trained for the same targets on the same data; leave one of them out"


def check_data(name: str, made: Reopened, base: Base) -> None:
    """Check that a run was trained on the base's data, its samples cut as they may be.

    Raises:
        UsageError: naming both runs and what differs.
    """
    spec = made.run.feed.spec
    if made.state.get("data") != spec.fingerprint:
        raise UsageError(
            f"{name}: the data is not the data that this run was trained on (their SHA-256 differ)\n"
            "  bring the data back, or train the run again"
        )
    for what, own, other in (
        ("the task is", spec.task, base.spec.task),
        ("the classes are", _shown(spec.classes), _shown(base.spec.classes)),
        ("the outputs for a sample are", spec.outputs, base.spec.outputs),
        ("the shape of a sample is", spec.input_shape, base.spec.input_shape),
    ):
        if own != other:
            raise UsageError(f"{_pair(name, base)} do not fit: {what} {own} in one, {other} in the other\n  {_CURE}")
    if spec.categories != base.spec.categories:
        own, other = (", ".join(map(str, filter(None, one.categories))) or "no" for one in (spec, base.spec))
        raise UsageError(
            f"{_pair(name, base)} do not fit: their columns hold {own} and {other} categories\n  the training rows of "
            "a fold may lack a word that few rows hold: write such words as one, or put their column into ignore"
        )
    whole = whole_dataset(Builder(made.recipe, base.plugins, base.progress), base.datasets)
    if whole.spec.fingerprint != base.spec.fingerprint:
        raise UsageError(
            f"{_pair(name, base)} do not fit: they were trained on different data, or it is split in another way "
            f"(SHA-256 {whole.spec.fingerprint[:8]} and {base.spec.fingerprint[:8]})\n  {_CURE}"
        )
    if why := _differing(made.run, base):
        raise UsageError(f"{_pair(name, base)} do not fit: {why}\n  {_CURE}")


def _pair(name: str, base: Base) -> str:
    """How messages call a run and the base, which may be the data of that run as it is without folds."""
    return f"{name} and {base.name}" if name != base.name else f"{name} and its data without folds"


def _shown(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")


def _differing(run: Run, base: Base) -> str:
    """What differs in the first samples that a run was measured on, once they are in the base's units."""
    dataset: Dataset = run.feed.plan.dataset  # type: ignore[attr-defined]  # of every feed that the core makes
    split = "val" if "val" in dataset.splits else "train"
    numbers = base.parts(run.recipe)[split][: ROWS if len(base.spec.input_shape) == 1 else SAMPLES]
    index = torch.arange(len(numbers))
    inputs, targets = samples_of(base, numbers)
    if not _near(changed(inputs, input_change(run.feed.spec, base.spec)), prepared(dataset, split, index)):
        return "the inputs of the same sample are prepared in different ways"
    own = dataset.splits[split].targets[index].detach().cpu()
    if base.spec.task == "regression":
        own = changed(own.reshape(len(own), -1), output_change(run.feed.spec, base.spec))
    return "" if _near(own, targets) else "the targets of the same sample differ"


def _near(one: Tensor, other: Tensor) -> bool:
    one, other = one.double(), other.double()
    if one.shape != other.shape:
        if one.numel() != other.numel():
            return False
        other = other.reshape(one.shape)
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3)


def prepared(dataset: Dataset, split: str, index: Tensor) -> Tensor:
    """Samples of a split as a model sees them."""
    inputs = gather(dataset.splits[split].inputs, index)
    return (dataset.prepare(inputs) if dataset.prepare is not None else inputs).cpu()


def samples_of(base: Base, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the base's samples by number, counted through training and on through validation."""
    first = len(base.dataset.splits["train"])
    inputs, targets = [], []
    for number in numbers.tolist():
        split, place = ("train", number) if number < first else ("val", number - first)
        index = torch.tensor([place])
        inputs.append(prepared(base.dataset, split, index))
        targets.append(base.dataset.splits[split].targets[index].detach().cpu())
    return torch.cat(inputs), torch.cat(targets)


def check_outputs(name: str, module: nn.Module, run: Run, weights: Mapping[str, Tensor], base: Base) -> None:
    """Check that a module gives what its run's model does, in a form that fits the base's targets.

    Args:
        name: how messages call the run.
        module: built anew, and aligned to the base.
        run: the run.
        weights: those of its model as evaluations measure it.
        base: the ensemble's.

    Raises:
        UsageError: naming both runs where outputs do not fit.
    """
    numbers = torch.arange(min(SAMPLES, len(base.dataset.splits["train"])))
    inputs, _ = samples_of(base, numbers)
    own = changed(inputs, input_change(run.feed.spec, base.spec))
    training = run.model.training
    with torch.no_grad(), exchanged(run.model, weights):
        given = module(inputs)
        run.model.eval()
        wanted: Any = predicted(run.loss, run.model(own.to(run.device))).cpu().float()
        run.model.train(training)
    if given.shape != (len(inputs), base.spec.outputs):
        raise UsageError(
            f"{_pair(name, base)} do not fit: one gives {tuple(given.shape[1:])} for a sample, the other's targets "
            f"need ({base.spec.outputs},)\n  {_CURE}"
        )
    if not bool(given.isfinite().all()):
        raise UsageError(f"{name}: it gives numbers that are not finite; such a run cannot be a member")
    if not torch.allclose(
        given.float(), changed(wanted, output_change(run.feed.spec, base.spec)), rtol=1e-2, atol=1e-2
    ):
        raise UsageError(
            f"{name}: its model gives something else when it is built anew from [model] and its weights\n"
            "  a callback or plugin changes the model after it is built; such a run cannot be a member"
        )
