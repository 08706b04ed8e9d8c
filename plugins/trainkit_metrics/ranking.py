"""Metrics that need the whole split at once."""

from __future__ import annotations

import math

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from trainkit import DataError
from trainkit_metrics.fit import labels_of, need_samples


class Auroc:
    """Area under the ROC curve; with several classes the plain mean over those that occur."""

    higher_is_better = True

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Take in logits ``(batch, classes)`` and targets."""
        self.labels.append(labels_of(outputs, targets, self.classes))
        # Copied, since a compiled model may use its outputs' memory again. Logarithms, because probabilities of very
        # sure samples round to 1 and would tie; a single logit orders the samples as its probability does.
        self.scores.append(outputs.double().log_softmax(1) if outputs.shape[1] > 1 else outputs.clone())

    def compute(self) -> float:
        """Give the area, from 0 to 1; nan if an output is not finite.

        Raises:
            DataError: if there was no sample, or all are of one class.
        """
        need_samples("auroc", sum(len(labels) for labels in self.labels))
        labels = torch.cat(self.labels).cpu()
        present = sorted(set(labels.tolist()))
        if len(present) < 2:
            raise DataError(
                f"metric auroc compares classes, and all {len(labels)} samples of the split are of class {present[0]}: "
                "split the data by class (stratified), or use metric accuracy"
            )
        scores = torch.cat(self.scores).double().cpu()
        if not scores.isfinite().all():
            return math.nan
        if self.classes == 2:
            # Both classes against the other give the same area.
            return float(roc_auc_score(labels == 1, scores[:, -1]))
        areas = [float(roc_auc_score(labels == number, scores[:, number])) for number in present]
        return sum(areas) / len(areas)


class AveragePrecision(Auroc):
    """Area under the precision-recall curve; with several classes the plain mean over those that occur."""

    def compute(self) -> float:
        """Give the area, from 0 to 1; nan if an output is not finite.

        Raises:
            DataError: if there was no sample, or none of the second of two classes.
        """
        need_samples("average_precision", sum(len(labels) for labels in self.labels))
        labels, scores = torch.cat(self.labels).cpu(), torch.cat(self.scores).double().cpu()
        present = [1] if self.classes == 2 else sorted(set(labels.tolist()))
        if self.classes == 2 and not (labels == 1).any():
            raise DataError(
                f"metric average_precision is of the second class, and all {len(labels)} samples of the split are of "
                "the first: split the data by class (stratified), or use metric accuracy"
            )
        if not scores.isfinite().all():
            return math.nan
        areas = [
            float(average_precision_score(labels == number, scores[:, number if scores.shape[1] > 1 else 0]))
            for number in present
        ]
        return sum(areas) / len(areas)
