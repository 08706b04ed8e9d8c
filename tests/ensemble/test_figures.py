"""Models on the same samples: the same draws for all, bins and classes that add up to the figures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainkit.dataset import DataSpec
from trainkit.ensemble.bootstrap import drawn_figures, interval, mean_figures
from trainkit.ensemble.figures import Compared, Given, by_class, reliability, variance_scale
from trainkit.scoring import scores, terms

SPEC = DataSpec((4,), "classification", 5, classes=("a", "b", "c", "d", "e"))


def drawn(samples: int = 300, models: int = 3) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 4, (samples,), generator=generator)
    outputs = [2 * torch.randn(samples, 5, generator=generator) for _ in range(models)]
    for given in outputs:
        given[torch.arange(samples), targets] += 2
    return outputs, targets


def test_differences_and_means_are_those_of_the_same_draws() -> None:
    outputs, targets = drawn()
    temperatures = (0.7, 1.3, 2.0)
    models = [Given(given, temperature) for given, temperature in zip(outputs, temperatures, strict=True)]
    compared = Compared(models, targets, SPEC, 15, 40, 9)
    for kind in ("raw", "calibrated"):
        given = [o if kind == "raw" else o / t for o, t in zip(outputs, temperatures, strict=True)]
        figures = [scores(one, targets, SPEC) for one in given]
        draws = drawn_figures([terms(one, targets, SPEC) for one in given], 40, 9)
        for number in range(3):
            nll = compared.one(number)[kind]["nll"]
            low, high = interval(draws[number]["nll"])
            assert nll == pytest.approx({"value": figures[number]["nll"], "low": low, "high": high})
        low, high = interval(draws[0]["ece"] - draws[2]["ece"])
        value = figures[0]["ece"] - figures[2]["ece"]
        assert compared.apart(0, 2)[kind]["ece"] == pytest.approx({"value": value, "low": low, "high": high})
        mean = compared.mean([1, 2])[kind]["accuracy"]
        low, high = interval(mean_figures(draws[1:])["accuracy"])
        value = (figures[1]["accuracy"] + figures[2]["accuracy"]) / 2
        assert mean == pytest.approx({"value": value, "low": low, "high": high})
        low, high = interval(draws[0]["nll"] - mean_figures(draws[1:])["nll"])
        assert compared.apart(0, [1, 2])[kind]["nll"]["low"] == pytest.approx(low)


def test_only_the_ensemble_has_a_likelihood_of_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    targets, outputs = torch.randn(50, 1, generator=generator), torch.randn(50, 1, generator=generator)
    spec = DataSpec((4,), "regression", 1)
    models = [Given(outputs), Given(outputs + 1, variance=torch.ones(50, 1))]
    compared = Compared(models, targets, spec, 15, 10, 0)
    assert set(compared.one(0)) == {"raw"}
    assert set(compared.one(1)["raw"]) - set(compared.one(0)["raw"]) == {"nll"}
    assert set(compared.apart(1, 0)["raw"]) == {"mse", "mae", "r2"}


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_bins_add_up_to_the_calibration_error(bins: int) -> None:
    outputs, targets = drawn()
    found = reliability(outputs[0], targets, SPEC, bins)
    assert sum(one["samples"] for one in found) == len(targets)
    for one in found:
        assert one["low"] < one["confidence"] <= one["high"]
    error = sum(one["samples"] * abs(one["accuracy"] - one["confidence"]) for one in found) / len(targets)
    assert error == pytest.approx(scores(outputs[0], targets, SPEC, bins)["ece"])
    right = sum(one["samples"] * one["accuracy"] for one in found) / len(targets)
    assert right == pytest.approx(scores(outputs[0], targets, SPEC)["accuracy"])


def test_classes_add_up_to_the_accuracy() -> None:
    outputs, targets = drawn()
    found = by_class({"one": outputs[0], "other": outputs[1]}, targets, SPEC)
    assert [one["class"] for one in found] == ["a", "b", "c", "d"]
    for name, given in (("one", outputs[0]), ("other", outputs[1])):
        right = sum(one["samples"] * one[name] for one in found) / len(targets)
        assert right == pytest.approx(scores(given, targets, SPEC)["accuracy"])


def test_a_variance_that_is_too_small_is_to_be_multiplied() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = 3 * torch.randn(20_000, generator=generator)
    found = variance_scale(torch.zeros(20_000, 1), targets, torch.ones(20_000, 1))
    assert found == pytest.approx(9, rel=0.05)
