"""Losses of classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from trainkit import DataError
from trainkit_losses.fit import full_precision, move, pair

if TYPE_CHECKING:
    from trainkit import DataSpec


def choose_weights(
    data_spec: DataSpec, given: Sequence[float] | None, *, balance: bool, loss: str = "cross_entropy"
) -> list[float] | None:
    """Return the weight of each class, or ``None`` where all count alike.

    Raises:
        DataError: if both are asked for, their number is wrong, or a class to balance has no training samples.
    """
    classes = 2 if data_spec.task == "binary" else data_spec.outputs
    if given is not None:
        if balance:
            raise DataError(f"loss {loss} has both class_weights and balance: give one of them")
        if len(given) != classes:
            raise DataError(
                f"loss {loss} has {len(given)} class_weights, the data has {classes} classes: "
                "give one weight for each class"
            )
        return list(given)
    if not balance:
        return None
    counts = _counts(data_spec, loss)
    return [sum(counts) / (len(counts) * count) for count in counts]


def choose_pos_weight(data_spec: DataSpec, given: float | None, *, balance: bool) -> float | None:
    """Return the factor on positive samples, or ``None`` for none.

    Raises:
        DataError: if both are asked for, or a class to balance has no training samples.
    """
    if given is not None and balance:
        raise DataError("loss binary has both pos_weight and balance: give one of them")
    if not balance:
        return given
    negatives, positives = _counts(data_spec, "binary")
    return negatives / positives


def _counts(data_spec: DataSpec, loss: str) -> tuple[int, ...]:
    counts, wanted = (data_spec.class_counts, 2 if data_spec.task == "binary" else data_spec.outputs)
    if len(counts) != wanted:
        raise DataError(
            f"loss {loss} cannot balance: the data counts the samples of {len(counts)} classes, not of {wanted}: "
            "leave out balance"
        )
    for number, count in enumerate(counts):
        if count < 1:
            name = data_spec.classes[number] if number < len(data_spec.classes) else str(number)
            raise DataError(
                f"loss {loss} cannot balance: class '{name}' has no samples in the training split: leave out balance, "
                "or split the data so that every class is in it"
            )
    return counts


def check_classes(outputs: Tensor, targets: Tensor) -> bool:
    """Say whether the targets are probabilities ``(batch, classes)`` rather than classes ``(batch,)``.

    Raises:
        DataError: if they are neither; targets ``(batch, 1)`` of one-class outputs would pass for probabilities.
    """
    if outputs.ndim == 3 or targets.ndim == 3:
        raise DataError(
            f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)} of {targets.dtype}: of tokens, "
            "outputs must be (batch, positions, classes), targets int64 classes (batch, positions)"
        )
    if targets.dtype == torch.int64 and targets.ndim == 1 and outputs.ndim == 2:
        return False
    if targets.is_floating_point() and targets.shape == outputs.shape and outputs.ndim == 2:
        return True
    raise DataError(
        f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)} of {targets.dtype}: targets must be "
        "int64 classes (batch,) or float probabilities (batch, classes), outputs (batch, classes)"
    )


def by_position(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Put the positions of token samples in a row, as if each were a sample; others stay as they are.

    Args:
        outputs: ``(batch, positions, classes)`` or ``(batch, classes)``.
        targets: ``(batch, positions)`` or ``(batch, positions, classes)``; for others without positions.
    """
    if outputs.ndim == 3 and targets.ndim >= 2 and outputs.shape[:2] == targets.shape[:2]:
        return outputs.flatten(0, 1), targets.flatten(0, 1)
    return outputs, targets


@dataclass(eq=False)  # a schedule may change its numbers
class CrossEntropy:
    """Mean cross-entropy of logits ``(batch, classes)``; targets ``(batch,)`` or ``(batch, classes)``.

    Of tokens each position counts like a sample: ``(batch, positions, classes)`` and ``(batch, positions)``.
    """

    label_smoothing: float | Tensor

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples, and over all positions of tokens."""
        outputs, targets = by_position(full_precision(outputs), targets)
        if check_classes(outputs, targets):
            targets = targets.to(outputs.dtype)
        if isinstance(self.label_smoothing, Tensor):  # a number for each lane, which torch's function does not take
            logs = outputs.log_softmax(1)
            hit = (
                (logs * targets).sum(1) if targets.is_floating_point() else logs.gather(1, targets[:, None]).squeeze(1)
            )
            return -torch.lerp(hit.mean(), logs.mean(), self.label_smoothing)
        return functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of each sample ``(batch,)``, of which the loss is the mean; of tokens over their positions."""
        assert not isinstance(self.label_smoothing, Tensor)
        samples = outputs.shape[0]
        outputs, targets = by_position(full_precision(outputs), targets)
        if check_classes(outputs, targets):
            targets = targets.to(outputs.dtype)
        found = functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=self.label_smoothing)
        return found if len(found) == samples else found.view(samples, -1).mean(1)

    def sloped(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Give the loss of each sample, and its gradient with respect to the outputs; ``None`` unless it is simple.

        Args:
            outputs: ``(..., classes)``, in whatever order of memory; nothing is recorded.
            targets: ``(...)``.
        """
        smoothing = self.label_smoothing
        simple = targets.dtype == torch.int64 and outputs.dtype in (torch.float32, torch.float64)
        if not simple or isinstance(smoothing, Tensor) or targets.shape != outputs.shape[:-1]:
            return None
        shifted = outputs - outputs.amax(-1, keepdim=True)
        powers = shifted.exp()
        total = powers.sum(-1, keepdim=True)
        hits, logs = targets.unsqueeze(-1), total.log()
        losses = logs - shifted.gather(-1, hits)
        slopes = powers.div_(total)
        slopes.scatter_add_(-1, hits, slopes.new_full((), smoothing - 1).expand(hits.shape))
        if smoothing:
            losses = torch.lerp(losses, logs - shifted.mean(-1, keepdim=True), smoothing)
            slopes -= smoothing / outputs.shape[-1]
        return losses.squeeze(-1), slopes


class WeightedCrossEntropy:
    """Cross-entropy whose mean is over the weights of the samples' classes."""

    def __init__(self, label_smoothing: float, class_weights: Sequence[float]) -> None:
        self.label_smoothing: float | Tensor = label_smoothing
        self.class_weights = torch.tensor(class_weights, dtype=torch.float64)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over ``weight(targets)``."""
        outputs, targets = by_position(full_precision(outputs), targets)
        weights = self._weights_like(outputs)
        if not check_classes(outputs, targets):
            if not isinstance(self.label_smoothing, Tensor):
                return functional.cross_entropy(outputs, targets, weights, label_smoothing=self.label_smoothing)
            targets = functional.one_hot(targets, outputs.shape[1])
        targets = targets.to(outputs.dtype)
        smooth = torch.lerp(targets, torch.full_like(targets, 1 / targets.shape[1]), self.label_smoothing)
        return -(weights * smooth * outputs.log_softmax(1)).sum() / (targets @ weights).sum()

    def weight(self, targets: Tensor) -> Tensor:
        """Give what the mean over these targets was divided by: the sum of the samples' weights, before smoothing."""
        # In float64, so that batches put together weigh what one batch of all their samples weighs.
        if targets.is_floating_point():
            targets = targets.double()
            return (targets @ self._weights_like(targets)).sum()
        return self._weights_like(targets.new_empty((), dtype=torch.float64))[targets].sum()

    def _weights_like(self, tensor: Tensor) -> Tensor:
        if self.class_weights.device != tensor.device:
            self.class_weights = move(self.class_weights, tensor.device)
        return self.class_weights.to(tensor.dtype)


def negative_log_likelihood(outputs: Tensor, targets: Tensor, /) -> Tensor:
    """Mean negative log-likelihood of log-probabilities ``(batch, classes)``, or ``(batch, positions, classes)``."""
    outputs, targets = by_position(full_precision(outputs), targets)
    if check_classes(outputs, targets):
        return -(targets.to(outputs.dtype) * outputs).sum(1).mean()
    return functional.nll_loss(outputs, targets)


class Binary:
    """Mean binary cross-entropy of logits ``(batch, 1)``; targets ``(batch,)`` or ``(batch, 1)``."""

    def __init__(self, pos_weight: float | None) -> None:
        self.pos_weight = None if pos_weight is None else torch.tensor(pos_weight)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples."""
        outputs, targets = pair(outputs, targets)
        if self.pos_weight is not None and self.pos_weight.device != outputs.device:
            self.pos_weight = move(self.pos_weight, outputs.device)
        return functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=self.pos_weight)
