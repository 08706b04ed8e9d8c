"""Data sets of plain tensors: split, standardise, describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from trainkit import DataError, Dataset, DataSpec, Split, fingerprint, split_by_fraction, standardise

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Gatherable

Task = Literal["classification", "binary", "regression", "tokens"]


def fractions(val: float, test: float) -> dict[str, float]:
    """The two shares of a random split, checked together.

    Raises:
        DataError: if they leave nothing for training.
    """
    if val + test >= 1:
        raise DataError(f"val = {val:g} and test = {test:g} leave nothing for training; make their sum less than 1")
    return {"val": val, "test": test}


def tabular(
    inputs: Tensor,
    targets: Tensor,
    *,
    task: Task,
    parts: Mapping[str, Tensor],
    classes: Sequence[str] = (),
    scale_inputs: bool = True,
    scale_targets: bool = True,
    groups: Tensor | None = None,
) -> Dataset:
    """Make a data set of rows; whatever is fitted is fitted on the training part alone.

    Args:
        inputs: ``(samples, ...)`` float; of tokens int64.
        targets: ``(samples,)`` int64 classes, also for binary; ``(samples,)`` or ``(samples, outputs)`` float for
            regression; ``(samples, positions)`` int64 for tokens.
        task: what is learned.
        parts: sample numbers of each split.
        classes: names of the classes.
        scale_inputs: whether to standardise each feature.
        scale_targets: whether to standardise regression targets; `DataSpec.target_mean` and ``target_std`` say how.
        groups: ``(samples,)`` int64, numbers of what belongs together.
    """

    def again(numbers: Mapping[str, Tensor]) -> Dataset:
        return tabular(
            raw,
            labels,
            task=task,
            parts=recut(parts, numbers),
            classes=classes,
            scale_inputs=scale_inputs,
            scale_targets=scale_targets,
            groups=groups,
        )

    raw, labels = inputs, targets
    known = fingerprint(
        {"inputs": inputs, "targets": targets, **{f"split {name}": part for name, part in parts.items()}}
    )
    train = parts["train"]
    inputs = inputs if task == "tokens" else inputs.float()
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()
    if scale_inputs and len(train):
        input_scaler = standardise(inputs[train])
        inputs = input_scaler(inputs)
        input_mean = tuple(input_scaler.mean.reshape(-1).tolist())
        input_std = tuple(input_scaler.std.reshape(-1).tolist())
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if task == "regression":
        if scale_targets and len(train):
            targets, mean, std = scaled(targets, train)
        targets = targets.float()
        outputs = targets.shape[1] if targets.dim() > 1 else 1
    else:
        outputs = 1 if task == "binary" else len(classes)
    spec = DataSpec(
        input_shape=tuple(inputs.shape[1:]),
        task=task,
        outputs=outputs,
        classes=tuple(classes),
        class_counts=count_classes(targets[train].reshape(-1), len(classes)) if classes else (),
        sizes={name: len(part) for name, part in parts.items()},
        fingerprint=known,
        tokens_per_sample=inputs.shape[1] if task == "tokens" else None,
        target_mean=mean,
        target_std=std,
        input_mean=input_mean,
        input_std=input_std,
    )
    if task == "binary":
        targets = targets.float()
    splits = {name: Split(inputs[part], targets[part]) for name, part in parts.items()}
    together = {} if groups is None else {name: groups[part] for name, part in parts.items()}
    return Dataset(spec, splits, groups=together, recut=again)


def scaled(values: Tensor, train: Tensor) -> tuple[Tensor, tuple[float, ...], tuple[float, ...]]:
    """Standardise columns in float64: float32 holds 7 digits, and of 1,700,000,000 seconds these are minutes.

    Args:
        values: ``(samples,)`` or ``(samples, columns)``.
        train: the samples that mean and deviation are taken of.

    Returns:
        The values, float64; the mean and the standard deviation of each column.
    """
    values = values.double()
    mean, std = values[train].mean(0), values[train].std(0, correction=0)
    std = torch.where(std <= 1e-12 * mean.abs(), 1.0, std)  # a constant column is shifted and not divided
    return (values - mean) / std, tuple(mean.reshape(-1).tolist()), tuple(std.reshape(-1).tolist())


def recut(parts: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Other sample numbers of the training and validation splits; those of the others stay.

    Args:
        parts: sample numbers of each split.
        numbers: which samples the splits are to have, as `Dataset.recut` is given them.
    """
    together = torch.cat([parts[name] for name in ("train", "val") if name in parts])
    others = {name: part for name, part in parts.items() if name not in ("train", "val")}
    return {name: together[number] for name, number in numbers.items()} | others


def split_randomly(targets: Tensor, val: float, test: float, split_seed: int) -> dict[str, Tensor]:
    """Split all samples by fraction, each class alike."""
    return split_by_fraction(targets, fractions(val, test), split_seed)


def count_classes(targets: Tensor, classes: int) -> tuple[int, ...]:
    """How many samples of each class there are."""
    return tuple(torch.bincount(targets.long(), minlength=classes).tolist())


class View:
    """Some samples of a gatherable, by number; nothing is copied until samples are asked for.

    Args:
        inputs: the whole.
        part: ``(samples,)`` int64, numbers in the whole.
    """

    def __init__(self, inputs: Gatherable, part: Tensor) -> None:
        self.inputs = inputs
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Copy the samples of these numbers."""
        return self.inputs[self.part.index_select(0, index)]
