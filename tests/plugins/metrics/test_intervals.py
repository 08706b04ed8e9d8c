"""Metrics of distributions: in the units of the original targets, against scikit-learn, torch, and by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.distributions import Normal

from trainkit import DataError, DataSpec
from trainkit_losses import gaussian_nll, quantile
from trainkit_metrics import coverage, density_nll, interval_width, pinball

SPEC = DataSpec((4,), "regression", 2, target_mean=(10.0, -1.0), target_std=(3.0, 0.5))
STD = torch.tensor(SPEC.target_std, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def figure(metric, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    metric.reset()
    for part in (slice(0, 30), slice(30, None)):
        metric.update(outputs[part], targets[part])
    return metric.compute()


def test_figures_of_normal_distributions() -> None:
    loss = gaussian_nll(SPEC)
    outputs, targets = drawn(100, 4), drawn(100, 2, seed=1)
    own = Normal(outputs[:, :2] * STD, (outputs[:, 2:] / 2).exp() * STD)  # about a mean of 0: widths are the same
    low, high = (own.icdf(torch.tensor(level, dtype=torch.float64)) for level in (0.05, 0.95))
    inside = ((low <= targets * STD) & (targets * STD <= high)).double().mean()
    assert figure(coverage(SPEC, loss, level=0.9), outputs, targets) == pytest.approx(float(inside))
    assert figure(interval_width(SPEC, loss, level=0.9), outputs, targets) == pytest.approx(float((high - low).mean()))
    nll = -own.log_prob(targets * STD).mean()
    assert figure(density_nll(SPEC, loss), outputs, targets) == pytest.approx(float(nll))
    quantiles = [own.icdf(torch.tensor(level, dtype=torch.float64)) for level in (0.1, 0.6)]
    each = [mean_pinball_loss(targets * STD, q, alpha=a) for q, a in zip(quantiles, (0.1, 0.6), strict=True)]
    assert figure(pinball(SPEC, loss, levels=(0.1, 0.6)), outputs, targets) == pytest.approx(sum(each) / 2)


def test_figures_of_quantiles() -> None:
    loss = quantile(SPEC, levels=(0.1, 0.5, 0.9))
    outputs, targets = drawn(100, 6).sort(1).values, drawn(100, 2, seed=1)
    low, high = outputs[:, :2] * STD, outputs[:, 4:] * STD
    inside = ((low <= targets * STD) & (targets * STD <= high)).double().mean()
    assert figure(coverage(SPEC, loss), outputs, targets) == pytest.approx(float(inside))
    assert figure(interval_width(SPEC, loss), outputs, targets) == pytest.approx(float((high - low).mean()))
    mean = mean_pinball_loss(targets * STD, outputs[:, 2:4] * STD, alpha=0.5)
    assert figure(pinball(SPEC, loss, levels=(0.5,)), outputs, targets) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("make", "settings", "loss", "message"),
    [
        (pinball, {"levels": ()}, gaussian_nll(SPEC), r"metric pinball needs levels, such as \[0.1, 0.5, 0.9\]; got"),
        (coverage, {}, SimpleNamespace(), "metric coverage needs a loss whose outputs are a distribution: use loss ga"),
        (coverage, {"level": 0.9}, quantile(SPEC), "gives the quantiles 0.1, 0.5, 0.9, not 0.05, 0.95: add it to the"),
        (pinball, {"levels": (0.2,)}, quantile(SPEC), "not 0.2: add it to the loss's levels"),
        (density_nll, {}, quantile(SPEC), "metric density_nll needs a loss of densities: use loss gaussian_nll"),
    ],
)
def test_what_the_loss_does_not_know_is_refused(make, settings, loss, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(SPEC, loss, **settings)


def test_classes_are_refused() -> None:
    with pytest.raises(DataError, match="metric coverage needs numbers as targets"):
        coverage(DataSpec((4,), "binary", 1), SimpleNamespace())
