"""Checks that a metric fits the data, and that outputs fit targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from trainkit import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import DataSpec


def need_classes(data_spec: DataSpec, metric: str, *, tokens: bool = True) -> int:
    """Return the number of classes, 2 for binary data.

    Raises:
        DataError: if the data is a regression, or one of tokens where they are not taken.
    """
    if data_spec.task == "regression":
        raise DataError(
            f"metric {metric} needs classes (task classification or binary), the data's task is regression: "
            "use metric mae, rmse or r2"
        )
    if data_spec.task == "tokens" and not tokens:
        raise DataError(
            f"metric {metric} keeps all outputs of a split, too many where each sample has one for every token (task "
            "tokens): use metric accuracy or error"
        )
    return 2 if data_spec.task == "binary" else data_spec.outputs


def need_more_classes(data_spec: DataSpec, k: int) -> int:
    """Return the number of classes, of which the ``k`` most likely must be a choice.

    Raises:
        DataError: if the data has no list of classes, or not more than ``k``.
    """
    if data_spec.task not in ("classification", "tokens"):
        cure = "accuracy" if data_spec.task == "binary" else "mae, rmse or r2"
        raise DataError(
            f"metric top_k needs several classes (task classification), the data's task is {data_spec.task}: "
            f"use metric {cure}"
        )
    if k >= data_spec.outputs:
        raise DataError(
            f"metric top_k has k = {k}, the data has {data_spec.outputs} classes, so that every sample would count: "
            f"give a k below {data_spec.outputs}"
        )
    return data_spec.outputs


def need_numbers(data_spec: DataSpec, metric: str) -> tuple[float, ...]:
    """Return the unit of each output: what its targets were divided by.

    Raises:
        DataError: if the data is no regression.
    """
    if data_spec.task != "regression":
        raise DataError(
            f"metric {metric} needs numbers as targets (task regression), the data's task is {data_spec.task}: "
            "use metric accuracy, error or f1"
        )
    return data_spec.target_std or (1.0,) * data_spec.outputs


def by_position(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Put the positions of token samples in a row, as if each were a sample; others stay as they are.

    Args:
        outputs: ``(batch, positions, classes)`` of tokens.
        targets: ``(batch, positions)``, or ``(batch, positions, classes)`` probabilities.
    """
    if outputs.ndim == 3 and targets.ndim >= 2 and outputs.shape[:2] == targets.shape[:2]:
        return outputs.flatten(0, 1), targets.flatten(0, 1)
    return outputs, targets


def names_of(data_spec: DataSpec) -> tuple[str, ...]:
    """Return what the targets of a regression are called: their names, or their numbers."""
    return data_spec.targets or tuple(map(str, range(data_spec.outputs)))


def labels_of(outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return the target class of each sample, ``(batch,)`` int64; a probability counts as its likeliest class.

    Raises:
        DataError: if the shapes do not belong together.
    """
    batch = outputs.shape[0]
    if outputs.shape == (batch, classes) and targets.shape == (batch, classes) and targets.is_floating_point():
        return targets.argmax(1)
    if outputs.shape == (batch, classes) and targets.shape == (batch,) and not targets.is_floating_point():
        return targets
    if classes == 2 and outputs.shape == (batch, 1) and targets.shape in ((batch,), (batch, 1)):
        return (targets.reshape(batch) > 0.5).long()
    raise DataError(
        f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)} of {targets.dtype} and {classes} "
        f"classes: give outputs (batch, {classes}) and targets of int64 classes (batch,) or probabilities "
        f"(batch, {classes}); for binary data one logit (batch, 1); of tokens (batch, positions, {classes}) "
        "and (batch, positions)"
    )


def judge(outputs: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return each sample's most likely and target class, both ``(batch,)`` int64; one logit above 0 means class 1.

    Raises:
        DataError: if the shapes do not belong together.
    """
    labels = labels_of(outputs, targets, classes)
    # `max` finds the first of the largest, as `argmax` does, in a third of its time.
    return outputs.max(1).indices if outputs.shape[1] > 1 else (outputs[:, 0] > 0).long(), labels


def probabilities_of(outputs: Tensor) -> Tensor:
    """Return the probability of each class, ``(batch, classes)`` float64, of logits ``(batch, classes or 1)``."""
    outputs = outputs.double()
    if outputs.shape[1] > 1:
        return outputs.softmax(1)
    return torch.cat((-outputs, outputs), 1).sigmoid()


def pair(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and targets as ``(batch, outputs)`` float64, refusing what would be broadcast.

    Raises:
        DataError: if their shapes do not belong together.
    """
    if outputs.shape == (*targets.shape, 1):
        targets = targets.unsqueeze(-1)
    if outputs.shape != targets.shape or outputs.ndim != 2:
        raise DataError(
            f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)}: give (batch, outputs) for "
            "both, or targets (batch,) where the model has one output"
        )
    return outputs.double(), targets.double()


def need_samples(metric: str, seen: int) -> None:
    """Refuse to compute a figure of nothing.

    Raises:
        DataError: if no sample was seen.
    """
    if not seen:
        raise DataError(f"metric {metric} saw no sample: the split is empty, give it samples or do not evaluate on it")
