"""Metrics for classes of unequal size, against scikit-learn."""

from __future__ import annotations

import math

import pytest
import sklearn.metrics
import torch
from torch import Tensor

from trainkit import DataError, DataSpec, Metric
from trainkit_metrics import average_precision, balanced_accuracy

CLASSES = DataSpec((5,), "classification", 4)
TWO = DataSpec((5,), "classification", 2)
BINARY = DataSpec((5,), "binary", 1)


def figure(metric: Metric, outputs: Tensor, targets: Tensor) -> float:
    metric.reset()
    for some, others in zip(outputs.split([50, 3, 147]), targets.split([50, 3, 147]), strict=True):
        metric.update(some, others)
    found = metric.compute()
    assert isinstance(found, float)
    return found


def drawn(classes: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    labels = (torch.rand(200, generator=draw) ** 3 * classes).long()
    outputs = torch.randn(200, classes, generator=draw)
    return outputs + 1.5 * torch.nn.functional.one_hot(labels, classes), labels


def test_balanced_accuracy_is_sklearns() -> None:
    outputs, labels = drawn(4)
    expected = sklearn.metrics.balanced_accuracy_score(labels, outputs.argmax(1))
    assert figure(balanced_accuracy(CLASSES), outputs, labels) == pytest.approx(expected)
    some = labels != 3
    outputs[:, 3] = -9.0
    labels = torch.where(some, labels, 0)
    expected = sklearn.metrics.balanced_accuracy_score(labels, outputs.argmax(1))
    assert figure(balanced_accuracy(CLASSES), outputs, labels) == pytest.approx(expected), "of classes that occur"
    outputs, labels = drawn(2)
    logit = outputs[:, 1:] - outputs[:, :1]
    expected = sklearn.metrics.balanced_accuracy_score(labels, logit[:, 0] > 0)
    assert figure(balanced_accuracy(BINARY), logit, labels.float()) == pytest.approx(expected)
    assert figure(balanced_accuracy(TWO), outputs, labels) == pytest.approx(expected)


def test_average_precision_is_sklearns() -> None:
    outputs, labels = drawn(2)
    logit = outputs[:, 1:] - outputs[:, :1]
    expected = sklearn.metrics.average_precision_score(labels, logit[:, 0])
    assert figure(average_precision(BINARY), logit, labels.float()) == pytest.approx(expected)
    assert figure(average_precision(TWO), outputs, labels) == pytest.approx(expected)
    outputs, labels = drawn(4)
    ones = torch.nn.functional.one_hot(labels, 4)
    expected = sklearn.metrics.average_precision_score(ones, outputs.log_softmax(1), average="macro")
    assert figure(average_precision(CLASSES), outputs, labels) == pytest.approx(expected)


def test_what_there_is_no_figure_of() -> None:
    outputs, labels = drawn(2)
    with pytest.raises(DataError, match="of the second class, and all 200 samples of the split are of the first"):
        figure(average_precision(TWO), outputs, torch.zeros_like(labels))
    assert math.isnan(figure(average_precision(TWO), outputs * math.inf, labels))
    for metric in (average_precision, balanced_accuracy):
        with pytest.raises(DataError, match="saw no sample"):
            metric(TWO).compute()
        with pytest.raises(DataError, match="needs classes"):
            metric(DataSpec((5,), "regression", 1))
