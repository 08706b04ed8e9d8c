"""Combinations against numpy and scipy."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor

from trainkit_ensemblers.combining import (
    Columns,
    Combination,
    Stacked,
    combine,
    log_probabilities,
    mixture_variance,
)

WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def outputs(classes: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(3, 20, classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64)


def test_the_mean_probability_is_that_of_probabilities() -> None:
    given = outputs(4)
    expected = numpy.average(softmax(given.numpy(), axis=2), axis=0, weights=WEIGHTS.numpy())
    found = combine(given, WEIGHTS, "probability", "classification").exp()
    numpy.testing.assert_allclose(found, expected, rtol=1e-12)
    numpy.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_small_probabilities_are_not_lost() -> None:
    """In float32 a probability of exp(-500) is 0, whose logarithm would make an infinite loss."""
    given = torch.tensor([[[500.0, 0.0, 0.0]], [[0.0, 0.0, 800.0]]])
    found = combine(given, torch.tensor([0.5, 0.5]), "probability", "classification")
    expected = logsumexp(given.numpy().astype(float) - [[[500.0]], [[800.0]]], axis=0) - math.log(2)
    numpy.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(found[0, 1]) == pytest.approx(-500 - math.log(2), rel=1e-6)


def test_the_mean_logit_is_the_geometric_mean_of_probabilities() -> None:
    given = outputs(4)
    product = numpy.prod(softmax(given.numpy(), axis=2) ** WEIGHTS.numpy()[:, None, None], axis=0)
    found = combine(given, WEIGHTS, "logit", "classification").softmax(1)
    numpy.testing.assert_allclose(found, product / product.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("space", ["probability", "logit", "vote"])
def test_a_binary_task_is_one_of_two_classes(space: str) -> None:
    logits = outputs(1)
    classes = torch.cat([torch.zeros_like(logits), logits], dim=2)
    both = combine(classes, WEIGHTS, space, "classification").log_softmax(1)
    found = combine(logits, WEIGHTS, space, "binary")
    assert found.shape == (20, 1)
    torch.testing.assert_close(log_probabilities(found, "binary"), both, rtol=1e-10, atol=1e-12)


def test_a_binary_mean_keeps_probabilities_near_one_apart() -> None:
    found = combine(torch.tensor([[[60.0]], [[90.0]]]), torch.tensor([0.5, 0.5]), "probability", "binary")
    assert float(found) == pytest.approx(60 + math.log(2), rel=1e-6)  # -log((exp(-60) + exp(-90)) / 2)


def test_weights_may_be_each_samples_own() -> None:
    given = outputs(4)
    own = torch.rand(3, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    own[0, :5] = 0  # some samples do without a member
    own = own / own.sum(0)
    for space in ("probability", "logit", "vote"):
        found = combine(given, own, space, "classification")
        for sample in range(20):
            alone = combine(given[:, sample : sample + 1], own[:, sample], space, "classification")
            torch.testing.assert_close(found[sample : sample + 1], alone, rtol=1e-12, atol=0)
        assert bool(found.isfinite().all())


def test_votes_are_counted_and_ties_go_to_the_lowest_class() -> None:
    def logits(*votes: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(votes), 4).double()

    given = torch.stack([logits(2, 1, 3), logits(1, 1, 3), logits(3, 0, 0), logits(2, 1, 0)])
    found = combine(given, torch.full((4,), 0.25), "vote", "classification").softmax(1)
    assert found.argmax(1).tolist() == [2, 1, 0]  # the last one is a tie of 0 and 3
    expected = numpy.array([[0, 0.25, 0.5, 0.25], [0.25, 0.75, 0, 0], [0.5, 0, 0, 0.5]])
    numpy.testing.assert_allclose(found, expected, atol=2e-6)
    equal = torch.zeros(2, 1, 4)  # a member that finds all classes as likely votes for the first
    assert combine(equal, torch.tensor([0.5, 0.5]), "vote", "classification").argmax(1).tolist() == [0]


def test_a_class_without_votes_has_the_clipped_share() -> None:
    found = combine(torch.eye(3)[None, :1].repeat(2, 1, 1), torch.tensor([0.5, 0.5]), "vote", "classification")
    assert float(found[0, 2]) == pytest.approx(math.log(1e-6))


def test_a_regression_has_the_weighted_mean_and_the_variance_of_the_mixture() -> None:
    means, variances = outputs(2), outputs(2).square() + 0.1
    found = combine(means, WEIGHTS, "probability", "regression")
    numpy.testing.assert_allclose(found, numpy.average(means, axis=0, weights=WEIGHTS), rtol=1e-12)
    second = numpy.average(variances + means.square(), axis=0, weights=WEIGHTS)
    numpy.testing.assert_allclose(mixture_variance(means, WEIGHTS, variances), second - found.numpy() ** 2, rtol=1e-9)
    spread = numpy.cov(means.flatten(1), aweights=WEIGHTS, bias=True, rowvar=False).diagonal()
    numpy.testing.assert_allclose(mixture_variance(means, WEIGHTS).flatten(), spread)


def test_a_variance_is_never_negative() -> None:
    means = torch.tensor([1e4, 1e4 + 1e-3]).reshape(2, 1, 1)  # whose squares float32 cannot tell apart
    found = mixture_variance(means, torch.tensor([0.5, 0.5]))
    assert 0 < float(found) < 1e-6
    assert float(mixture_variance(means[:1], torch.ones(1))) == 0


@pytest.mark.parametrize("space", ["probability", "logit", "vote"])
@pytest.mark.parametrize("task", ["classification", "binary", "regression"])
def test_one_member_is_itself_bit_for_bit(space: str, task: str) -> None:
    given = outputs(3).float()[:1]
    assert torch.equal(Combination([1.0], space, task)(given), given[0])


@pytest.mark.parametrize("space", ["probability", "logit", "vote"])
def test_weights_follow_outputs_to_their_device(space: str) -> None:
    given = outputs(4).float().to("meta")
    assert Combination(WEIGHTS.tolist(), space, "classification")(given).device.type == "meta"
    stacked = Stacked(torch.zeros(4, 12), torch.zeros(4), Columns("classification", 1e-6))
    assert stacked(given).device.type == "meta"


@pytest.mark.parametrize("task", ["classification", "binary", "regression"])
def test_all_can_be_exported(task: str) -> None:
    classes = 1 if task == "binary" else 4
    given, columns = outputs(classes).float(), Columns(task, 1e-6)
    rows = 2 if task == "binary" else classes
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(rows, 3 * classes, generator=generator), torch.randn(rows, generator=generator)
    stacked = Stacked(weight, bias, columns)
    modules = [Combination(WEIGHTS.tolist(), space, task) for space in ("probability", "logit", "vote")]
    for module in [*modules, stacked]:
        program = torch.export.export(module, (given,)).module()
        torch.testing.assert_close(program(given), module(given))


def test_columns_are_clipped_logarithms_of_probabilities() -> None:
    given = outputs(4, scale=20)
    expected = numpy.log(numpy.clip(softmax(given.numpy(), axis=2), 1e-6, None))
    found = Columns("classification", 1e-6)(given)
    numpy.testing.assert_allclose(found, numpy.concatenate(list(expected), axis=1), rtol=1e-9, atol=1e-12)
    inputs = torch.randn(20, 2, 3)
    both = Columns("classification", 1e-6)(given, inputs)
    assert torch.equal(both[:, 12:], inputs.reshape(20, 6).double())
