"""Losses whose models also say how sure they are: against torch, scikit-learn, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.nn.functional import gaussian_nll_loss

from trainkit import DataError, DataSpec
from trainkit_losses import gaussian_nll, quantile

ONE = DataSpec((4,), "regression", 1, target_mean=(10.0,), target_std=(3.0,))
TWO = DataSpec((4,), "regression", 2, target_mean=(10.0, -1.0), target_std=(3.0, 0.5))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("spec", [ONE, TWO])
def test_the_likelihood_is_torch_s(spec: DataSpec) -> None:
    loss = gaussian_nll(spec)
    count = spec.outputs
    outputs, targets = drawn(50, 2 * count), drawn(50, count, seed=1)
    assert loss.outputs == 2 * count
    expected = gaussian_nll_loss(outputs[:, :count], targets, outputs[:, count:].exp(), full=True)
    torch.testing.assert_close(loss(outputs, targets), expected, rtol=1e-12, atol=0)
    assert torch.equal(loss.predictions(outputs), outputs[:, :count])


def test_targets_may_lack_their_last_dimension() -> None:
    loss = gaussian_nll(ONE)
    outputs, targets = drawn(9, 2), drawn(9, seed=1)
    assert loss(outputs, targets) == loss(outputs, targets[:, None])
    with pytest.raises(DataError, match=r"outputs \(9, 2\) do not fit targets \(9, 3\)"):
        loss(outputs, drawn(9, 3))
    with pytest.raises(DataError, match=r"a loss of 2 numbers a sample: give \(batch, 2\)"):
        loss(drawn(9, 1), targets)


def test_standard_deviations_are_told_in_the_data_s_units() -> None:
    outputs = torch.tensor([[0.0, 0.0, math.log(4.0), 0.0]])
    assert gaussian_nll(TWO).details(outputs)["std"].tolist() == [[pytest.approx(6.0), pytest.approx(0.5)]]


def test_a_model_that_knows_nothing_has_the_entropy_of_the_targets() -> None:
    targets = drawn(4000)
    loss = gaussian_nll(ONE)
    assert float(loss(loss.equal(targets), targets)) == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.05)


@pytest.mark.parametrize("spec", [ONE, TWO])
def test_the_pinball_loss_is_scikit_learn_s(spec: DataSpec) -> None:
    levels = (0.05, 0.5, 0.8)
    loss = quantile(spec, levels=levels)
    outputs, targets = drawn(60, 3 * spec.outputs), drawn(60, spec.outputs, seed=1)
    given = outputs.unflatten(1, (3, spec.outputs))
    each = [mean_pinball_loss(targets, given[:, place], alpha=level) for place, level in enumerate(levels)]
    assert float(loss(outputs, targets)) == pytest.approx(sum(each) / 3, rel=1e-12)


def test_quantiles_that_cross_are_put_in_order_and_the_middle_one_is_predicted() -> None:
    loss = quantile(ONE, levels=(0.1, 0.5, 0.9))
    outputs = torch.tensor([[1.0, -1.0, 0.0]])
    assert loss.predictions(outputs).tolist() == [[0.0]]
    told = loss.details(outputs)
    assert {name: value.tolist() for name, value in told.items()} == {
        "quantile 0.1": [[7.0]],
        "quantile 0.5": [[10.0]],
        "quantile 0.9": [[13.0]],
    }
    assert quantile(ONE, levels=(0.1, 0.3, 0.95)).predictions(outputs).tolist() == [[0.0]]  # 0.3 is nearest to 0.5


def test_equal_quantiles_are_those_of_the_targets() -> None:
    loss, targets = quantile(TWO, levels=(0.1, 0.9)), drawn(500, 2)
    expected = torch.quantile(targets.float(), torch.tensor([0.1, 0.9]), 0)
    torch.testing.assert_close(loss.equal(targets)[7], expected.flatten())


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.5, 0.5)])
def test_levels_that_do_not_ascend_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="needs levels that ascend"):
        quantile(ONE, levels=levels)


@pytest.mark.parametrize("make", [gaussian_nll, quantile])
def test_classes_are_refused(make) -> None:
    with pytest.raises(DataError, match="needs data with the task regression"):
        make(DataSpec((4,), "classification", 3))
