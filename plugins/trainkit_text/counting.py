"""Sums of negative log-likelihoods: in float64, so that batches cannot change them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainkit import DataError


def nats(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood of each sample's targets, ``(batch,)`` float64; of tokens the sum over positions.

    Args:
        outputs: logits or log-probabilities ``(batch, classes)`` or ``(batch, positions, classes)``.
        targets: int64 classes without the last dimension, or probabilities of the outputs' shape.

    Raises:
        DataError: if the shapes do not belong together.
    """
    classes = targets.dtype == torch.int64 and targets.shape == outputs.shape[:-1]
    chances = targets.is_floating_point() and targets.shape == outputs.shape
    if outputs.ndim < 2 or not (classes or chances):
        raise DataError(
            f"outputs {tuple(outputs.shape)} do not fit targets {tuple(targets.shape)} of {targets.dtype}: give outputs"
            " (batch, positions, classes) and int64 targets (batch, positions), or both without positions"
        )
    flat = targets.reshape(-1) if classes else targets.reshape(-1, targets.shape[-1]).to(outputs.dtype)
    each = functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), flat, reduction="none")
    return each.double().view(len(outputs), -1).sum(1)


class Perplexity:
    """exp of the mean negative log-likelihood."""

    higher_is_better = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.nats: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, ..., classes)`` and targets ``(batch, ...)``."""
        self._take_in(nats(outputs, targets).sum(), outputs.shape[:-1].numel())

    @staticmethod
    def update_lanes(metrics: Sequence[Perplexity], outputs: Tensor, targets: Tensor) -> None:
        """Take in a row of ``(lanes, batch, ..., classes)`` for each of several metrics."""
        rows = nats(outputs.flatten(0, 1), targets.flatten(0, 1)).view(len(metrics), -1).sum(1)
        for metric, row in zip(metrics, rows.unbind(0), strict=True):
            metric._take_in(row, outputs.shape[1:-1].numel())

    def _take_in(self, found: Tensor, positions: int) -> None:
        self.seen += positions
        self.nats = found if self.nats is None else self.nats + found

    def compute(self) -> float:
        """Give the perplexity, at least 1; infinite where no number could hold it."""
        return _exp(_mean("perplexity", self.nats, self.seen))


class _Sizes:
    """Bytes of tokens; no part of what a metric gathers, so that no checkpoint holds a whole vocabulary."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = torch.tensor(sizes)

    def of(self, targets: Tensor) -> Tensor:
        """The bytes of all these tokens together; waits for no device."""
        if self.sizes.device != targets.device:
            with torch.inference_mode(False):
                self.sizes = self.sizes.to(targets.device)
        return self.sizes[targets].sum()


class BitsPerByte:
    """Negative log-likelihood in bits, over the bytes of the targets.

    Args:
        sizes: bytes of each token.
    """

    higher_is_better = False

    def __init__(self, sizes: Sequence[int]) -> None:
        self._bytes_of = _Sizes(sizes)
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.nats: Tensor | None = None
        self.bytes: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, positions, classes)`` and tokens ``(batch, positions)``."""
        found, size = nats(outputs, targets).sum(), self._bytes_of.of(targets)
        self.nats = found if self.nats is None else self.nats + found
        self.bytes = size if self.bytes is None else self.bytes + size

    def compute(self) -> float:
        """Give the bits of a byte, at least 0."""
        size = 0 if self.bytes is None else int(self.bytes)
        return _mean("bits_per_byte", self.nats, size) / math.log(2)


def _mean(name: str, total: Tensor | None, over: int) -> float:
    if total is None or not over:
        raise DataError(f"metric {name} saw no sample: the split is empty, give it samples or do not evaluate on it")
    return total.item() / over


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
