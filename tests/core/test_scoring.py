"""Figures of outputs against scikit-learn, torch's own losses, and a calibration error computed bin by bin."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gaussian_nll_loss

from trainkit.dataset import DataSpec
from trainkit.scoring import bin_of, score, scores, terms

CLASSES = DataSpec((4,), "classification", 6)
BINARY = DataSpec((4,), "binary", 1)
PLAIN = DataSpec((4,), "regression", 2)
SCALED = DataSpec((4,), "regression", 2, target_mean=(5.0, -1.0), target_std=(3.0, 0.1))


def drawn(samples: int = 400, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 6, (samples,), generator=generator)
    logits = 2 * torch.randn(samples, 6, generator=generator)
    logits[torch.arange(samples), targets] += 2
    return logits, targets


def binned(probabilities: np.ndarray, targets: np.ndarray, bins: int) -> float:
    """The calibration error as its definition reads, with bounds by numpy."""
    confidence, likeliest = probabilities.max(1), probabilities.argmax(1)
    bounds = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(bounds):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            apart = np.mean(likeliest[inside] == targets[inside]) - np.mean(confidence[inside])
            total += inside.mean() * abs(apart)
    return total


def test_classes_are_measured_as_scikit_learn_does() -> None:
    logits, targets = drawn()
    probabilities, labels = logits.double().softmax(1).numpy(), targets.numpy()
    found = scores(logits, targets, CLASSES)
    assert list(found) == ["accuracy", "nll", "brier", "ece"]
    assert found["accuracy"] == sklearn.metrics.accuracy_score(labels, probabilities.argmax(1))
    assert found["nll"] == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), rel=1e-12)
    each = [sklearn.metrics.brier_score_loss(labels == number, probabilities[:, number]) for number in range(6)]
    assert found["brier"] == pytest.approx(sum(each), rel=1e-12)


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_the_calibration_error_is_that_of_its_definition(bins: int) -> None:
    logits, targets = drawn()
    expected = binned(logits.double().softmax(1).numpy(), targets.numpy(), bins)
    assert scores(logits, targets, CLASSES, bins)["ece"] == pytest.approx(expected, abs=1e-12)


def test_a_bin_has_its_upper_end() -> None:
    assert bin_of(torch.tensor([0.0, 0.25, 0.375, 0.5, 0.51, 1.0]), 4).tolist() == [0, 0, 1, 1, 2, 3]


def test_certainty_that_is_right_is_calibrated() -> None:
    logits, targets = torch.zeros(3, 6), torch.tensor([0, 1, 2])
    logits[torch.arange(3), targets] = 1000.0
    assert scores(logits, targets, CLASSES) == {"accuracy": 1.0, "nll": 0.0, "brier": 0.0, "ece": 0.0}
    assert scores(logits, (targets + 1) % 3, CLASSES) == {"accuracy": 0.0, "nll": 1000.0, "brier": 2.0, "ece": 1.0}


def test_logits_and_logarithms_of_probabilities_are_the_same() -> None:
    logits, targets = drawn()
    expected = scores(logits, targets, CLASSES)
    assert scores(logits.double().log_softmax(1), targets, CLASSES) == pytest.approx(expected, rel=1e-9)


def test_a_binary_task_is_measured_as_two_classes() -> None:
    generator = torch.Generator().manual_seed(1)
    logit, targets = 3 * torch.randn(300, 1, generator=generator), torch.randint(0, 2, (300,), generator=generator)
    found = scores(logit, targets.float(), BINARY)
    positive = logit.double().sigmoid().squeeze(1).numpy()
    assert found["accuracy"] == np.mean((positive > 0.5) == targets.numpy())
    assert found["nll"] == pytest.approx(sklearn.metrics.log_loss(targets.numpy(), positive), rel=1e-12)
    expected = 2 * sklearn.metrics.brier_score_loss(targets.numpy(), positive)
    assert found["brier"] == pytest.approx(expected, rel=1e-12)
    assert found["ece"] == pytest.approx(binned(np.stack([1 - positive, positive], 1), targets.numpy(), 15), abs=1e-12)
    assert scores(logit.squeeze(1), targets.float(), BINARY) == found


def test_one_figure_is_that_of_all() -> None:
    logits, targets = drawn()
    for name, value in scores(logits, targets, CLASSES).items():
        assert score(name, logits, targets, CLASSES) == pytest.approx(value, rel=1e-13)


def test_small_probabilities_are_not_lost() -> None:
    logits = torch.tensor([[0.0, -1e4]])
    assert score("nll", logits, torch.tensor([1]), DataSpec((1,), "classification", 2)) == 1e4
    assert score("nll", torch.tensor([[-1e4]]), torch.tensor([1.0]), BINARY) == 1e4


def test_what_is_no_number_is_not_right() -> None:
    logits, targets = drawn(10)
    logits[4] = torch.nan
    found = scores(logits, targets, CLASSES)
    logits[4] = -torch.nn.functional.one_hot(targets[4], 6).float()
    assert found["accuracy"] == scores(logits, targets, CLASSES)["accuracy"]
    assert all(math.isnan(found[name]) for name in ("nll", "brier", "ece"))


def test_numbers_are_measured_as_scikit_learn_does_in_their_original_units() -> None:
    generator = torch.Generator().manual_seed(2)
    targets = torch.randn(200, 2, generator=generator) + 100
    outputs = targets + torch.randn(200, 2, generator=generator)
    for spec in (PLAIN, SCALED):
        found = scores(outputs, targets, spec)
        mean, units = np.array(spec.target_mean or (0.0, 0.0)), np.array(spec.target_std or (1.0, 1.0))
        given, wanted = outputs.double().numpy() * units + mean, targets.double().numpy() * units + mean
        assert list(found) == ["mse", "mae", "r2"]
        assert found["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(wanted, given), rel=1e-12)
        assert found["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(wanted, given), rel=1e-12)
        assert found["r2"] == pytest.approx(sklearn.metrics.r2_score(wanted, given), rel=1e-9)


def test_one_output_may_lie_flat() -> None:
    spec = DataSpec((4,), "regression", 1)
    targets = torch.arange(6.0)
    found = scores(targets[:, None] + 1, targets, spec)
    assert found == pytest.approx({"mse": 1.0, "mae": 1.0, "r2": 1 - 6 / 17.5}, rel=1e-12)


def test_targets_that_are_all_equal_are_explained_wholly_or_not_at_all() -> None:
    spec = DataSpec((4,), "regression", 1)
    targets = torch.full((7,), 0.1)
    for outputs, expected in ((targets, 1.0), (targets + 1e-3, 0.0), (targets * torch.nan, math.nan)):
        found = scores(outputs[:, None], targets, spec)["r2"]
        assert found == pytest.approx(expected, nan_ok=True)
    same = sklearn.metrics.r2_score(np.full(7, 0.1), np.full(7, 0.1))
    assert same == 1.0


def test_a_variance_gives_the_likelihood_of_normal_distributions() -> None:
    generator = torch.Generator().manual_seed(2)
    targets, outputs = torch.randn(200, 2, generator=generator), torch.randn(200, 2, generator=generator)
    variance = torch.rand(200, 2, generator=generator) + 0.1
    expected = gaussian_nll_loss(outputs.double(), targets.double(), variance.double(), full=True)
    assert scores(outputs, targets, PLAIN, variance=variance)["nll"] == pytest.approx(float(expected), rel=1e-12)
    units = torch.tensor(SCALED.target_std, dtype=torch.float64)
    normal = torch.distributions.Normal(outputs.double() * units, variance.double().sqrt() * units)
    wanted = -normal.log_prob(targets.double() * units).mean()
    assert scores(outputs, targets, SCALED, variance=variance)["nll"] == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("spec", [CLASSES, PLAIN])
def test_means_over_drawn_samples_give_their_figures(spec: DataSpec) -> None:
    logits, targets = drawn()
    generator = torch.Generator().manual_seed(4)
    if spec is PLAIN:
        logits, targets = torch.randn(400, 2, generator=generator), torch.randn(400, 2, generator=generator)
    made, rows = terms(logits, targets, spec), torch.randint(0, 400, (400,), generator=generator)
    weights = torch.bincount(rows, minlength=400).double()
    found = made.figures(weights @ made.values / 400)
    expected = scores(logits[rows], targets[rows], spec)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-9)


def test_the_likelihood_is_that_of_the_loss() -> None:
    logits, targets = drawn()
    assert score("nll", logits, targets, CLASSES) == pytest.approx(float(cross_entropy(logits, targets)), rel=1e-6)
