"""Losses that count what is classified well already for less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from trainkit_losses.classes import check_classes
from trainkit_losses.fit import full_precision, move, pair


def of_class(outputs: Tensor, targets: Tensor, *, binary: bool) -> tuple[Tensor, Tensor]:
    """Give logarithms of probabilities ``(batch, classes)`` and targets: ``(batch,)`` classes or such probabilities.

    Args:
        outputs: logits ``(batch, classes)``, or ``(batch, 1)`` of binary data.
        targets: ``(batch,)`` or ``(batch, classes)``; of binary data ``(batch,)`` or ``(batch, 1)`` from 0 to 1.
        binary: whether it is binary data.
    """
    if binary:
        logit, truth = (part.flatten() for part in pair(outputs, targets))
        return torch.stack((logsigmoid(-logit), logsigmoid(logit)), 1), torch.stack((1 - truth, truth), 1)
    outputs = full_precision(outputs)
    if check_classes(outputs, targets):
        targets = targets.to(outputs.dtype)
    return outputs.log_softmax(1), targets


def focal(outputs: Tensor, targets: Tensor, gamma: float | Tensor, *, binary: bool, weights: Tensor | None) -> Tensor:
    """Give ``-weight * (1 - p) ** gamma * log(p)`` of each sample, ``(batch,)``, p the probability of its target."""
    logs, targets = of_class(outputs, targets, binary=binary)
    if weights is not None and not targets.is_floating_point():
        targets = one_hot(targets, logs.shape[1]).to(logs.dtype)
    if not targets.is_floating_point():
        logs = logs.gather(1, targets[:, None])
    # A power below 1 has no slope at 0: what is surer than a float can tell stays a little away from it.
    rest = torch.special.expm1(logs).neg().clamp_min(torch.finfo(logs.dtype).eps)
    terms: Tensor = -(rest**gamma) * logs
    if not targets.is_floating_point():
        return terms.squeeze(1)
    return (terms * (targets if weights is None else targets * weights.to(targets.dtype))).sum(1)


@dataclass(eq=False)  # a schedule may change its numbers
class Focal:
    """Mean focal loss over samples; outputs and targets as of cross_entropy, or of binary."""

    gamma: float | Tensor
    binary: bool

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over samples."""
        return self.each(outputs, targets).mean()

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Give the loss of each sample ``(batch,)``, of which the loss is the mean."""
        return focal(outputs, targets, self.gamma, binary=self.binary, weights=None)


class WeightedFocal:
    """Focal loss whose mean is over the weights of the samples' classes."""

    def __init__(self, gamma: float, binary: bool, class_weights: Sequence[float]) -> None:
        self.gamma: float | Tensor = gamma
        self.binary = binary
        self.class_weights = torch.tensor(class_weights, dtype=torch.float64)

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Give the mean over ``weight(targets)``."""
        weights = self._weights_on(outputs.device)
        losses = focal(outputs, targets, self.gamma, binary=self.binary, weights=weights)
        return losses.sum() / self.weight(targets).to(losses.dtype)

    def weight(self, targets: Tensor) -> Tensor:
        """Give what the mean over these targets was divided by: the sum of the samples' weights."""
        # In float64, so that batches put together weigh what one batch of all their samples weighs.
        weights = self._weights_on(targets.device)
        if not targets.is_floating_point():
            return weights[targets].sum()
        targets = targets.double()
        if self.binary:
            targets = torch.stack((1 - targets.flatten(), targets.flatten()), 1)
        return (targets @ weights).sum()

    def _weights_on(self, device: torch.device) -> Tensor:
        if self.class_weights.device != device:
            self.class_weights = move(self.class_weights, device)
        return self.class_weights
