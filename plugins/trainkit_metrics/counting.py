"""Metrics of classes that are exact from running counts; integers and float64, so that batches cannot change them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainkit_metrics.fit import by_position, judge, labels_of, need_samples, probabilities_of


@dataclass
class Share:
    """Share of samples that are a hit; each position of tokens counts as one.

    Args:
        name: the metric's name, for messages.
        higher_is_better: whether a hit is good.
        hits: gives ``(batch,)`` bool from the outputs and targets of a batch.
        decides: whether it is of predicted classes.
    """

    name: str
    higher_is_better: bool
    hits: Callable[[Tensor, Tensor], Tensor]
    decides: bool = True
    seen: int = field(default=0, init=False)
    count: Tensor | None = field(default=None, init=False)

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen, self.count = 0, None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, classes)``, of tokens ``(batch, positions, classes)``, and targets."""
        hits = self.hits(*by_position(outputs, targets))
        count = hits.sum()
        self.seen += len(hits)
        self.count = count if self.count is None else self.count + count

    @staticmethod
    def update_lanes(metrics: Sequence[Share], outputs: Tensor, targets: Tensor) -> None:
        """Take in logits ``(lanes, batch, classes)`` for metrics that were made alike, one for each lane.

        Args:
            metrics: one for each lane.
            outputs: the logits.
            targets: ``(lanes, batch, ...)``.
        """
        lanes = outputs.shape[0]
        hits = metrics[0].hits(*by_position(outputs.flatten(0, 1), targets.flatten(0, 1))).view(lanes, -1)
        samples = hits.shape[1]
        for metric, count in zip(metrics, hits.sum(1).unbind(0), strict=True):
            metric.seen += samples
            metric.count = count if metric.count is None else metric.count + count

    def compute(self) -> float:
        """Give the share, from 0 to 1."""
        need_samples(self.name, self.seen)
        assert self.count is not None
        return self.count.item() / self.seen


def right(outputs: Tensor, targets: Tensor, *, classes: int) -> Tensor:
    """Say which samples' most likely class is the target's, ``(batch,)`` bool."""
    predicted, actual = judge(outputs, targets, classes)
    return predicted == actual


def wrong(outputs: Tensor, targets: Tensor, *, classes: int) -> Tensor:
    """Say which samples' most likely class is not the target's, ``(batch,)`` bool."""
    predicted, actual = judge(outputs, targets, classes)
    return predicted != actual


def among_likeliest(outputs: Tensor, targets: Tensor, *, classes: int, k: int) -> Tensor:
    """Say which samples' target class is among the ``k`` likeliest, ``(batch,)`` bool."""
    labels = labels_of(outputs, targets, classes)
    return (outputs.topk(k, dim=1).indices == labels.unsqueeze(1)).any(1)


class _ByClass(ABC):
    """Plain mean of a share of each class: samples that are found, ``times`` over, by a count that is not zero."""

    higher_is_better = True
    decides = True
    name = ""
    times = 1

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        self.counts: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, classes)``, of tokens ``(batch, positions, classes)``, and targets."""
        outputs, targets = by_position(outputs, targets)
        # Compared with every class rather than counted with bincount, which waits for the device.
        numbers = torch.arange(self.classes, device=outputs.device)
        predicted, actual = (which.unsqueeze(1) == numbers for which in judge(outputs, targets, self.classes))
        counts = torch.stack(((predicted & actual).sum(0), self._beside(predicted, actual).sum(0)))
        self.seen += len(outputs)
        self.counts = counts if self.counts is None else self.counts + counts

    @abstractmethod
    def _beside(self, predicted: Tensor, actual: Tensor) -> Tensor:
        """What is counted of each class, ``(batch, classes)``; both arguments are bool, of the same shape."""

    def compute(self) -> float:
        """Give the mean, from 0 to 1."""
        need_samples(self.name, self.seen)
        assert self.counts is not None
        found, beside = self.counts.double()
        occurs = beside > 0
        return float((self.times * found[occurs] / beside[occurs]).mean())


class MacroF1(_ByClass):
    """Plain mean of each class's F1, over the classes that occur as target or prediction."""

    name = "f1"
    times = 2

    def _beside(self, predicted: Tensor, actual: Tensor) -> Tensor:
        return predicted.long() + actual.long()


class MeanRecall(_ByClass):
    """Plain mean of each class's recall, over the classes that occur as target."""

    name = "balanced_accuracy"

    def _beside(self, predicted: Tensor, actual: Tensor) -> Tensor:
        return actual


class CalibrationError:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their samples."""

    higher_is_better = False

    def __init__(self, classes: int, bins: int) -> None:
        self.classes = classes
        self.bins = bins
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.seen = 0
        # (bins,) sums of (right - confidence): their sizes are all that eq. 3 needs, the bins' samples cancel.
        self.gaps: Tensor | None = None

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, classes)``, of tokens ``(batch, positions, classes)``, and targets."""
        outputs, targets = by_position(outputs, targets)
        labels = labels_of(outputs, targets, self.classes)
        confidence, predicted = probabilities_of(outputs).max(1)
        gap = (predicted == labels).double() - confidence
        # Bin m holds confidences in (m / bins, (m + 1) / bins].
        number = ((confidence * self.bins).ceil() - 1).clamp(0, self.bins - 1).unsqueeze(1)
        chosen = number == torch.arange(self.bins, device=outputs.device)
        gaps = torch.where(chosen, gap.unsqueeze(1), 0.0).sum(0)
        # A confidence that is not a number is in no bin, and must not vanish.
        gaps = gaps + torch.where(gap.isnan().any(), torch.nan, 0.0)
        self.seen += len(outputs)
        self.gaps = gaps if self.gaps is None else self.gaps + gaps

    def compute(self) -> float:
        """Give the error, from 0 to 1."""
        need_samples("ece", self.seen)
        assert self.gaps is not None
        return self.gaps.abs().sum().item() / self.seen
