from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from trainkit.dataset import DataSpec
from trainkit.ensemble.diversity import diversity

CLASSES = DataSpec((4,), "classification", 5)
BINARY = DataSpec((4,), "binary", 1)
NUMBERS = DataSpec((4,), "regression", 2)


def test_each_pair_is_as_numpy_and_scipy_find_it() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(4, 200, 5, generator=generator), torch.randint(0, 5, (200,), generator=generator)
    outputs[:, torch.arange(200), targets] += 1
    found = diversity(outputs, targets, CLASSES)
    probabilities = outputs.double().softmax(-1).numpy()
    votes = probabilities.argmax(-1)
    for one in range(4):
        for other in range(4):
            differ = np.mean(votes[one] != votes[other])
            assert found["disagreement"]["matrix"][one][other] == pytest.approx(differ)
            wrong = [(votes[number] != targets.numpy()).astype(float) for number in (one, other)]
            expected = np.corrcoef(wrong[0], wrong[1])[0, 1]
            assert found["error_correlation"]["matrix"][one][other] == pytest.approx(expected)
            kl = scipy.special.rel_entr(probabilities[one], probabilities[other]).sum(1).mean()
            assert found["kl"]["matrix"][one][other] == pytest.approx(kl, abs=1e-12)
    for measure in found.values():
        matrix = np.array(measure["matrix"])
        assert measure["mean"] == pytest.approx(matrix[~np.eye(4, dtype=bool)].mean())


def test_a_member_beside_itself_does_not_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    one, targets = torch.randn(1, 50, 5, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    found = diversity(one.repeat(2, 1, 1), targets, CLASSES)
    assert [found[name]["mean"] for name in ("disagreement", "error_correlation", "kl")] == [0.0, pytest.approx(1), 0.0]


def test_a_member_without_a_wrong_sample_has_no_correlation() -> None:
    targets = torch.arange(5).repeat(4)
    right, other = torch.eye(5)[targets] * 9, torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    found = diversity(torch.stack([right, other, right]), targets, CLASSES)["error_correlation"]
    assert found == {"matrix": [[None, None, None], [None, 1.0, None], [None, None, None]], "mean": None}


def test_a_class_that_is_impossible_adds_nothing_or_all() -> None:
    one = torch.tensor([[0.0, 0.0, -math.inf]]).log_softmax(1)
    other = torch.tensor([[0.0, 0.0, 0.0]]).log_softmax(1)
    found = diversity(torch.stack([one, other]), torch.tensor([0]), DataSpec((1,), "classification", 3))["kl"]
    assert found["matrix"] == [[0.0, pytest.approx(math.log(1.5))], [None, 0.0]]
    assert found["mean"] == pytest.approx(math.log(1.5))


def test_a_binary_logit_is_two_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(3, 80, 1, generator=generator), torch.randint(0, 2, (80,), generator=generator)
    two = torch.cat([torch.zeros_like(logits), logits], dim=-1)
    expected = diversity(two, targets, DataSpec((4,), "classification", 2))
    found = diversity(logits, targets.float(), BINARY)
    for name, measure in expected.items():
        assert found[name]["mean"] == pytest.approx(measure["mean"], rel=1e-9)


def test_numbers_have_the_correlation_of_their_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(3, 80, 2, generator=generator), torch.randn(80, 2, generator=generator)
    found = diversity(outputs, targets, NUMBERS)
    assert list(found) == ["error_correlation"]
    errors = (outputs.double() - targets).flatten(1).numpy()
    np.testing.assert_allclose(found["error_correlation"]["matrix"], np.corrcoef(errors), rtol=1e-9)


def test_one_member_has_nobody_to_differ_from() -> None:
    found = diversity(torch.zeros(1, 3, 5), torch.tensor([0, 1, 2]), CLASSES)
    assert found["disagreement"] == {"matrix": [[0.0]], "mean": None}
