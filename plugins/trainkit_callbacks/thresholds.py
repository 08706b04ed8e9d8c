"""The threshold between two classes, chosen on validation samples and kept with the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit import DataError, Metric, Metrics, Run, hookimpl


@dataclass(frozen=True)
class Counts:
    """What thresholds come to, each ``(thresholds,)`` float64 but for the numbers of samples.

    Args:
        found: samples of the positive class above the threshold.
        false: samples of the other class above it.
        positives: samples of the positive class.
        negatives: samples of the other class.
    """

    found: Tensor
    false: Tensor
    positives: float
    negatives: float

    @property
    def recall(self) -> Tensor:
        """Share of the positive samples above the threshold."""
        return self.found / max(self.positives, 1)

    @property
    def precision(self) -> Tensor:
        """Of no sample above the threshold none is wrong: 1."""
        above = self.found + self.false
        return torch.where(above > 0, self.found / above.clamp_min(1), 1.0)


def accuracy(counts: Counts) -> Tensor:
    """Share of samples on their side of the threshold."""
    return (counts.found + counts.negatives - counts.false) / (counts.positives + counts.negatives)


def balanced_accuracy(counts: Counts) -> Tensor:
    """Mean of both classes' recall: Youden's J, from 0 to 1."""
    return (counts.recall + 1 - counts.false / max(counts.negatives, 1)) / 2


def positive_f1(counts: Counts) -> Tensor:
    """F1 of the positive class; 0 where none of it is found."""
    return 2 * counts.found / (counts.found + counts.false + counts.positives).clamp_min(1)


def f1(counts: Counts) -> Tensor:
    """Mean of both classes' F1, as the metric of that name."""
    missed, right = counts.positives - counts.found, counts.negatives - counts.false
    other = 2 * right / (2 * right + missed + counts.false).clamp_min(1)
    return (positive_f1(counts) + other) / 2


def mcc(counts: Counts) -> Tensor:
    """Matthews' correlation of classes and predictions; 0 where all are predicted alike."""
    right, missed = counts.negatives - counts.false, counts.positives - counts.found
    above, below = counts.found + counts.false, right + missed
    spread = (above * below * counts.positives * counts.negatives).sqrt()
    return torch.where(spread > 0, (counts.found * right - counts.false * missed) / spread.clamp_min(1e-300), 0.0)


CRITERIA: dict[str, Callable[[Counts], Tensor]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "positive_f1": positive_f1,
    "mcc": mcc,
    "accuracy": accuracy,
}


def choose(
    logits: Tensor, positive: Tensor, criterion: str, least_recall: float = 0.0, least_precision: float = 0.0
) -> float:
    """The threshold that a figure is highest with; of several the one nearest to 0, a probability of one half.

    Thresholds lie midway between neighbouring logits, and beyond the ends. Where none has both the recall and the
    precision that is asked for, precision counts least: the nearest to it with that recall.

    Args:
        logits: ``(samples,)`` float64, finite: logarithms of the odds of the positive class.
        positive: ``(samples,)`` bool.
        criterion: a name of `CRITERIA`.
        least_recall: share of the positive samples that must be above the threshold.
        least_precision: share of the samples above it that must be positive.
    """
    values, order = logits.sort(descending=True)
    last = torch.cat([values[:-1] > values[1:], torch.ones(1, dtype=torch.bool, device=values.device)])
    hits = positive[order].double().cumsum(0)[last]
    above = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)[last]
    held = values[last]
    between = (held[:-1] + held[1:]) / 2
    places = torch.cat([held[:1] + 1, between, held[-1:] - 1])
    none = torch.zeros(1, dtype=torch.float64, device=values.device)
    found, taken = torch.cat([none, hits]), torch.cat([none, above])
    total = float(positive.sum())
    counts = Counts(found, taken - found, total, len(values) - total)
    allowed = counts.recall >= least_recall
    wanted = allowed & (counts.precision >= least_precision)
    if wanted.any():
        figure = CRITERIA[criterion](counts).masked_fill(~wanted, -math.inf)
    else:
        figure = counts.precision.masked_fill(~allowed, -math.inf)
    best = figure >= figure.max() - 1e-12
    return float(places[best][places[best].abs().argmin()])


def odds(outputs: Tensor) -> Tensor:
    """Logarithms of the odds of the second class, ``(batch,)`` float64, of outputs ``(batch, 1)`` or ``(batch, 2)``."""
    outputs = outputs.double()
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


def shifted(outputs: Tensor, threshold: float) -> Tensor:
    """Outputs of which the likelier class is the one that the threshold decides for."""
    outputs = outputs.double()
    if outputs.shape[1] == 1:
        return outputs - threshold
    return torch.stack((outputs[:, 0] + threshold, outputs[:, 1]), 1)


class Choosing:
    """A metric that gathers what the threshold is chosen from; its figure is the probability at the threshold.

    Args:
        choose: gives the threshold of logits and positive samples.
        held: the threshold so far, which stays where outputs are not finite.
    """

    higher_is_better = False

    def __init__(self, choose: Callable[[Tensor, Tensor], float], held: float) -> None:
        self.choose = choose
        self.threshold = held
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.parts: list[tuple[Tensor, Tensor]] = []

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs of a batch."""
        truth = targets.argmax(1) if targets.dim() > 1 and targets.shape[1] > 1 else targets.reshape(len(targets))
        self.parts.append((odds(outputs), truth > 0.5))

    def compute(self) -> float:
        """Choose; this waits for the device.

        Raises:
            DataError: if all samples are of one class, between which and the other nothing can be chosen.
        """
        if self.parts:
            logits, positive = (torch.cat(part).cpu() for part in zip(*self.parts, strict=True))
            if (held := int(positive.sum())) in (0, len(positive)):
                raise DataError(
                    f"callback threshold chooses between two classes, and all {len(positive)} validation samples are "
                    f"of the {'second' if held else 'first'}: split the data by class (stratified), or leave it out"
                )
            if logits.isfinite().all():
                self.threshold = self.choose(logits, positive)
            self.reset()
        return 1 / (1 + math.exp(-self.threshold)) if self.threshold > -700 else 0.0


class Decided:
    """A metric of classes that sees outputs as a threshold decides them, once it is known.

    Args:
        metric: the recipe's.
        threshold: the threshold, or what chooses it before this metric is computed.
    """

    def __init__(self, metric: Metric, threshold: float | Choosing) -> None:
        self.metric = metric
        self.threshold = threshold
        self.higher_is_better = metric.higher_is_better
        self.parts: list[tuple[Tensor, Tensor]] = []

    def reset(self) -> None:
        """Forget everything seen."""
        self.parts = []
        self.metric.reset()

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in outputs of a batch."""
        if isinstance(self.threshold, Choosing):
            self.parts.append((outputs.clone(), targets))
        else:
            self.metric.update(shifted(outputs, self.threshold), targets)

    def compute(self) -> float | Mapping[str, float]:
        """The figure with the threshold."""
        for outputs, targets in self.parts:
            assert isinstance(self.threshold, Choosing)
            self.metric.update(shifted(outputs, self.threshold.threshold), targets)
        self.parts = []
        return self.metric.compute()


class Threshold:
    """See `trainkit_callbacks.on_measuring.threshold`."""

    def __init__(self, choose: Callable[[Tensor, Tensor], float]) -> None:
        self.choose = choose
        self.threshold = 0.0

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        run.decided = self._decided

    def _decided(self, outputs: Tensor) -> Tensor:
        return shifted(outputs, self.threshold)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        plain = run.metrics
        choosing = Choosing(self.choose, self.threshold) if split == "val" else None
        metrics: dict[str, Metric] = {} if choosing is None else {"threshold": choosing}
        for name, metric in plain.items():
            seen = Decided(metric, choosing or self.threshold) if getattr(metric, "decides", False) else metric
            metrics[name] = seen
        run.metrics = metrics
        try:
            figures = yield
        finally:
            run.metrics = plain
        if choosing is not None:
            self.threshold = choosing.threshold
        return figures

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"threshold": self.threshold}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.threshold = float(state["threshold"])
        run.decided = self._decided
