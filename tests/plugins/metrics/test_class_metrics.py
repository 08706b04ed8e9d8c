"""Metrics of classes against scikit-learn and torchmetrics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import classification as reference

from trainkit import DataError, DataSpec
from trainkit_metrics import accuracy, auroc, ece, error, f1, top_k

CLASSES = DataSpec((5,), "classification", 6)
BINARY = DataSpec((5,), "binary", 1)


def figure(metric: Any, outputs: Tensor, targets: Tensor) -> float:
    for o, t in zip(outputs.split([50, 3, 90, 57]), targets.split([50, 3, 90, 57]), strict=True):
        metric.update(o, t)
    return float(metric.compute())


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(200, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(logits: Tensor) -> Tensor:
    # Half of them are what the logits say, so that no figure is that of chance.
    drawn = torch.randint(6, (200,), generator=torch.Generator().manual_seed(2))
    return torch.where(torch.arange(200) % 2 == 0, drawn, logits.argmax(1))


def binary_case(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return logits[:, :1], (labels > 2).float()


def test_accuracy_and_error_are_sklearns(logits: Tensor, labels: Tensor) -> None:
    expected = sklearn.metrics.accuracy_score(labels, logits.argmax(1))
    assert figure(accuracy(CLASSES), logits, labels) == expected
    assert figure(error(CLASSES), logits, labels) == pytest.approx(1 - expected)
    logit, targets = binary_case(logits, labels)
    assert figure(accuracy(BINARY), logit, targets) == sklearn.metrics.accuracy_score(targets, logit[:, 0] > 0)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_sklearns(k: int, logits: Tensor, labels: Tensor) -> None:
    expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(6))
    assert figure(top_k(CLASSES, k=k), logits, labels) == pytest.approx(expected)


def test_top_k_refuses_a_k_that_every_sample_meets() -> None:
    with pytest.raises(DataError, match=r"k = 6, the data has 6 classes.*give a k below 6"):
        top_k(CLASSES, k=6)


def test_f1_is_sklearns(logits: Tensor, labels: Tensor) -> None:
    expected = sklearn.metrics.f1_score(labels, logits.argmax(1), average="macro")
    assert figure(f1(CLASSES), logits, labels) == pytest.approx(expected)
    logit, targets = binary_case(logits, labels)
    expected = sklearn.metrics.f1_score(targets, logit[:, 0] > 0, average="macro")
    assert figure(f1(BINARY), logit, targets) == pytest.approx(expected)


def test_f1_leaves_out_classes_that_never_occur(logits: Tensor, labels: Tensor) -> None:
    logits[:, 4:] = -99
    labels = labels % 4
    expected = sklearn.metrics.f1_score(labels, logits.argmax(1), average="macro")
    assert figure(f1(CLASSES), logits, labels) == pytest.approx(expected)
    assert expected == pytest.approx(reference.multiclass_f1_score(logits, labels, 6).item())


@pytest.mark.parametrize("bins", [1, 15, 40])
def test_ece_is_torchmetrics(bins: int, logits: Tensor, labels: Tensor) -> None:
    expected = reference.multiclass_calibration_error(logits, labels, 6, n_bins=bins).item()
    assert figure(ece(CLASSES, bins=bins), logits, labels) == pytest.approx(expected, abs=1e-6)
    logit, targets = binary_case(logits, labels)
    both = torch.cat((torch.zeros_like(logit), logit), 1)
    expected = reference.multiclass_calibration_error(both, targets.long(), 2, n_bins=bins).item()
    assert figure(ece(BINARY, bins=bins), logit, targets) == pytest.approx(expected, abs=1e-6)


def test_ece_counts_full_confidence() -> None:
    """A confidence of exactly 1 belongs to the last bin."""
    metric = ece(CLASSES)
    metric.update(functional.one_hot(torch.tensor([0, 1, 2, 3]), 6) * 1e4, torch.tensor([0, 1, 2, 5]))
    assert metric.compute() == 0.25


def test_auroc_is_sklearns_and_torchmetrics(logits: Tensor, labels: Tensor) -> None:
    found = figure(auroc(CLASSES), logits, labels)
    probabilities = logits.double().softmax(1)
    expected = sklearn.metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert found == pytest.approx(expected, abs=1e-12)
    assert found == pytest.approx(reference.multiclass_auroc(logits, labels, 6).item(), abs=1e-6)
    logit, targets = binary_case(logits, labels)
    found = figure(auroc(BINARY), logit, targets)
    assert found == pytest.approx(sklearn.metrics.roc_auc_score(targets, logit[:, 0]), abs=1e-12)
    two = torch.cat((torch.zeros_like(logit), logit), 1)
    assert figure(auroc(DataSpec((5,), "classification", 2)), two, targets.long()) == pytest.approx(found, abs=1e-12)


def test_auroc_orders_samples_whose_probabilities_round_to_one() -> None:
    metric = auroc(BINARY)
    metric.update(torch.tensor([[50.0], [60.0], [70.0], [80.0]]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert metric.compute() == 1.0


def test_auroc_leaves_out_classes_without_a_sample(logits: Tensor, labels: Tensor) -> None:
    present = (labels % 4).unique().tolist()
    probabilities = logits.double().softmax(1)
    areas = [sklearn.metrics.roc_auc_score(labels % 4 == number, probabilities[:, number]) for number in present]
    assert figure(auroc(CLASSES), logits, labels % 4) == pytest.approx(sum(areas) / 4)


def test_auroc_of_one_class_is_an_error(logits: Tensor) -> None:
    with pytest.raises(DataError, match="all 200 samples of the split are of class 3: split the data by class"):
        figure(auroc(CLASSES), logits, torch.full((200,), 3))


def test_auroc_keeps_a_copy_of_outputs() -> None:
    """A compiled step writes its next outputs into the same memory."""
    metric = auroc(BINARY)
    outputs = torch.tensor([[1.0], [2.0]])
    metric.update(outputs, torch.tensor([0.0, 1.0]))
    outputs.copy_(torch.tensor([[4.0], [3.0]]))
    metric.update(outputs, torch.tensor([1.0, 1.0]))
    assert metric.compute() == 1.0


@pytest.mark.parametrize("factory", [accuracy, error, top_k, f1, ece, auroc], ids=lambda f: f.__name__)
def test_probability_targets_count_as_their_likeliest_class(factory: Any, logits: Tensor, labels: Tensor) -> None:
    mixed = 0.7 * functional.one_hot(labels, 6).float() + 0.3 * functional.one_hot(labels.roll(1), 6).float()
    assert figure(factory(CLASSES), logits, mixed) == figure(factory(CLASSES), logits, labels)


@pytest.mark.parametrize("factory", [ece, auroc], ids=lambda f: f.__name__)
def test_outputs_that_are_not_finite_give_nan(factory: Any, logits: Tensor, labels: Tensor) -> None:
    logits[7] = math.nan
    assert math.isnan(figure(factory(CLASSES), logits, labels))


@pytest.mark.parametrize("make", [accuracy, error, f1, ece, top_k])
def test_of_tokens_each_position_counts_like_a_sample(make: Any, logits: Tensor, labels: Tensor) -> None:
    text = DataSpec((20,), "tokens", 6)
    metric = make(text)
    for outputs, targets in zip(logits.view(10, 20, 6).split([3, 7]), labels.view(10, 20).split([3, 7]), strict=True):
        metric.update(outputs, targets)
    assert metric.compute() == pytest.approx(figure(make(CLASSES), logits, labels))


def test_a_figure_that_keeps_all_outputs_is_refused_for_tokens() -> None:
    with pytest.raises(DataError, match=r"keeps all outputs of a split.*use metric accuracy"):
        auroc(DataSpec((20,), "tokens", 6))
