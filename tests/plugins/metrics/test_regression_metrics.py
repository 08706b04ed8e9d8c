"""Metrics of regression against scikit-learn, in original units."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sklearn.metrics
import torch
from torch import Tensor

from trainkit import DataError, DataSpec
from trainkit_metrics import mae, r2, rmse

MEAN, STD = (100.0, -4.0, 0.0), (20.0, 0.5, 1.0)
STANDARDISED = DataSpec((5,), "regression", 3, target_mean=MEAN, target_std=STD)
PLAIN = DataSpec((5,), "regression", 3)
SINGLE = DataSpec((5,), "regression", 1, target_mean=(9.0,), target_std=(3.0,))


def figure(metric: Any, outputs: Tensor, targets: Tensor) -> float:
    for o, t in zip(outputs.split([50, 3, 1, 46]), targets.split([50, 3, 1, 46]), strict=True):
        metric.update(o, t)
    return float(metric.compute())


@pytest.fixture
def targets() -> Tensor:
    return torch.randn(100, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def outputs(targets: Tensor) -> Tensor:
    return targets + 0.5 * torch.randn(100, 3, generator=torch.Generator().manual_seed(2)) + 0.1


def original(values: Tensor) -> Tensor:
    return values.double() * torch.tensor(STD, dtype=torch.float64) + torch.tensor(MEAN, dtype=torch.float64)


def test_errors_are_in_original_units(outputs: Tensor, targets: Tensor) -> None:
    true, found = original(targets), original(outputs)
    expected = sklearn.metrics.mean_absolute_error(true, found)
    assert figure(mae(STANDARDISED), outputs, targets) == pytest.approx(expected, rel=1e-12)
    expected = math.sqrt(sklearn.metrics.mean_squared_error(true, found))
    assert figure(rmse(STANDARDISED), outputs, targets) == pytest.approx(expected, rel=1e-12)
    expected = sklearn.metrics.r2_score(true, found)
    assert figure(r2(STANDARDISED), outputs, targets) == pytest.approx(expected, rel=1e-12)


def test_targets_that_were_not_standardised_keep_their_units(outputs: Tensor, targets: Tensor) -> None:
    expected = sklearn.metrics.mean_absolute_error(targets.double(), outputs.double())
    assert figure(mae(PLAIN), outputs, targets) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factory", [mae, rmse, r2], ids=lambda f: f.__name__)
def test_one_output_takes_flat_targets(factory: Any, outputs: Tensor, targets: Tensor) -> None:
    flat = figure(factory(SINGLE), outputs[:, :1], targets[:, 0])
    assert flat == figure(factory(SINGLE), outputs[:, :1], targets[:, :1])


@pytest.mark.parametrize("factory", [mae, rmse, r2], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("outputs", "targets"), [((8,), (8, 1)), ((8, 1), (4,)), ((8, 3), (8,)), ((8, 3), (8, 1))])
def test_never_broadcasts(factory: Any, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="do not fit targets"):
        factory(PLAIN).update(torch.zeros(outputs), torch.zeros(targets))


def test_r2_keeps_its_digits_far_from_zero(outputs: Tensor, targets: Tensor) -> None:
    """Sums of squares would lose all digits here: a spread of 1 about a mean of a hundred million."""
    expected = sklearn.metrics.r2_score(targets.double(), outputs.double())
    assert figure(r2(PLAIN), outputs.double() + 1e8, targets.double() + 1e8) == pytest.approx(expected, rel=1e-6)


def test_r2_of_equal_targets_is_sklearns(outputs: Tensor) -> None:
    same = torch.full((100, 3), 0.3)
    assert figure(r2(PLAIN), outputs, same) == 0.0
    assert figure(r2(PLAIN), same, same) == 1.0
    quarter = torch.full((100, 3), 0.25)  # sklearn's own sums round 0.3 to a spread that is not 0
    assert sklearn.metrics.r2_score(quarter, outputs) == 0.0
    half = torch.cat((same[:, :2], outputs[:, 2:]), 1)
    assert figure(r2(PLAIN), half, half) == 1.0


@pytest.mark.parametrize("factory", [mae, rmse, r2], ids=lambda f: f.__name__)
def test_outputs_that_are_not_finite_give_nan(factory: Any, outputs: Tensor, targets: Tensor) -> None:
    outputs[7] = math.nan
    assert math.isnan(figure(factory(PLAIN), outputs, targets))
    assert math.isnan(figure(factory(PLAIN), outputs, torch.full_like(targets, 2.0)))


@pytest.mark.parametrize(
    ("make", "reference"),
    [(mae, "mean_absolute_error"), (rmse, "root_mean_squared_error"), (r2, "r2_score")],
    ids=["mae", "rmse", "r2"],
)
def test_each_target_has_its_own_figure_by_name(make, reference) -> None:
    spec = DataSpec((4,), "regression", 2, target_mean=(1.0, 0.0), target_std=(2.0, 30.0), targets=("price", "weight"))
    draw = torch.Generator().manual_seed(0)
    outputs, targets = (torch.randn(50, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    metric, whole = make(spec, each=True), make(spec)
    for one in (metric, whole):
        one.update(outputs[:20], targets[:20])
        one.update(outputs[20:], targets[20:])
    units = torch.tensor(spec.target_std)
    expected = getattr(sklearn.metrics, reference)(targets * units, outputs * units, multioutput="raw_values")
    found = metric.compute()
    assert list(found) == ["all", "price", "weight"]
    assert [found["price"], found["weight"]] == pytest.approx(list(expected), rel=1e-9)
    assert found["all"] == whole.compute()
    assert list(make(DataSpec((4,), "regression", 1), each=True).names) == ["0"]
