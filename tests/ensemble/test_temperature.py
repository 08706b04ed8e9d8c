from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trainkit.dataset import DataSpec
from trainkit.ensemble.temperature import DEVIATION, FURTHEST, apply_temperature, fit_temperature
from trainkit.scoring import score

CLASSES = DataSpec((4,), "classification", 5)
BINARY = DataSpec((4,), "binary", 1)
REGRESSION = DataSpec((4,), "regression", 1)


def drawn(samples: int, sharpness: float, right: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that favour one class, which is the true one in a share of the samples."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 5, (samples,), generator=generator)
    wrong = torch.rand(samples, generator=generator) >= right
    favoured = torch.where(wrong, torch.randint(0, 5, (samples,), generator=generator), targets)
    logits = torch.randn(samples, 5, generator=generator)
    logits[torch.arange(samples), favoured] += 2
    return logits * sharpness, targets


def objective(logits: Tensor, targets: Tensor, log_temperature: float) -> float:
    nll = cross_entropy(logits.double() * math.exp(-log_temperature), targets, reduction="sum")
    return float(nll) + log_temperature**2 / (2 * DEVIATION**2)


@pytest.mark.parametrize("sharpness", [1e-3, 0.05, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("samples", [1, 20, 500])
@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_no_other_temperature_is_better(sharpness: float, samples: int, right: float) -> None:
    logits, targets = drawn(samples, sharpness, right)
    found = objective(logits, targets, math.log(fit_temperature(logits, targets, CLASSES)))
    others = [objective(logits, targets, FURTHEST * place / 1000) for place in range(-1000, 1001)]
    assert found <= min(others) * (1 + 1e-9) + 1e-9


def test_the_slope_is_nothing_at_the_temperature() -> None:
    logits, targets = drawn(300, 2.0, 0.7)
    place = torch.tensor(math.log(fit_temperature(logits, targets, CLASSES)), dtype=torch.float64, requires_grad=True)
    value = cross_entropy(logits.double() / place.exp(), targets, reduction="sum") + place**2 / (2 * DEVIATION**2)
    (slope,) = torch.autograd.grad(value, place)
    assert abs(float(slope)) < 1e-9


def test_logits_that_are_known_to_be_too_sharp_get_their_own_scale_back() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    assert fit_temperature(3 * logits, targets, CLASSES) == pytest.approx(3.0, rel=0.03)
    assert fit_temperature(logits / 3, targets, CLASSES) == pytest.approx(1 / 3, rel=0.03)


def test_few_samples_hardly_move_it() -> None:
    logits, targets = drawn(2000, 4.0, 0.6)
    few, some, all_of_them = (fit_temperature(logits[:n], targets[:n], CLASSES) for n in (2, 20, 2000))
    assert 0.6 < few < 1.7
    assert few < some < all_of_them
    assert all_of_them > 2.5


def test_all_right_gives_a_temperature_above_nothing() -> None:
    logits, targets = drawn(50, 1.0, 1.0)
    logits[torch.arange(50), targets] += 10
    temperature = fit_temperature(logits, targets, CLASSES)
    assert 0.01 < temperature < 1


def test_a_binary_logit_is_as_two_classes() -> None:
    logits, targets = drawn(100, 3.0, 0.6)
    logits = logits.double()
    two, binary = logits[:, :2], (targets > 1).long()
    single = two[:, 1] - two[:, 0]
    spec = DataSpec((4,), "classification", 2)
    expected = fit_temperature(two, binary, spec)
    assert fit_temperature(single, binary.float(), BINARY) == pytest.approx(expected, rel=1e-12)
    assert fit_temperature(single[:, None], binary.float(), BINARY) == pytest.approx(expected, rel=1e-12)
    applied = apply_temperature(single, expected, BINARY)
    wanted = score("nll", apply_temperature(two, expected, spec), binary, spec)
    assert score("nll", applied, binary, BINARY) == pytest.approx(wanted, rel=1e-9)


def test_logarithms_of_probabilities_give_the_temperature_of_their_logits() -> None:
    logits, targets = drawn(100, 3.0, 0.6)
    expected = fit_temperature(logits, targets, CLASSES)
    assert fit_temperature(logits.log_softmax(1), targets, CLASSES) == pytest.approx(expected, rel=1e-6)


def test_it_is_the_same_each_time_and_whatever_the_order() -> None:
    logits, targets = drawn(400, 3.0, 0.6)
    first = fit_temperature(logits, targets, CLASSES)
    assert fit_temperature(logits, targets, CLASSES) == first
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    assert fit_temperature(logits[order], targets[order], CLASSES) == pytest.approx(first, rel=1e-12)


def test_a_true_class_that_is_impossible_leaves_it() -> None:
    logits, targets = drawn(40, 3.0, 0.6)
    logits[0, targets[0]] = -torch.inf
    assert fit_temperature(logits, targets, CLASSES) == 1.0


def test_another_class_that_is_impossible_does_not_disturb() -> None:
    logits, targets = drawn(40, 3.0, 0.6)
    targets, least = targets.clamp(max=3), logits.clone()
    logits[:, 4], least[:, 4] = -torch.inf, -1e6
    expected = fit_temperature(least, targets, CLASSES)
    assert fit_temperature(logits, targets, CLASSES) == pytest.approx(expected, rel=1e-12)
    assert expected != 1.0


def test_outputs_that_are_no_numbers_leave_it() -> None:
    logits, targets = drawn(40, 3.0, 0.6)
    logits[3] = torch.nan
    assert fit_temperature(logits, targets, CLASSES) == 1.0


def test_a_regression_and_no_samples_leave_it() -> None:
    means = torch.randn(7, 1)
    assert fit_temperature(means, torch.randn(7), REGRESSION) == 1.0
    assert apply_temperature(means, 2.0, REGRESSION) is means
    assert fit_temperature(torch.empty(0, 5), torch.empty(0, dtype=torch.int64), CLASSES) == 1.0
