"""Intervals by bootstrap: as a plain loop over draws gives them, paired, and wide as the theory says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainkit.dataset import DataSpec
from trainkit.ensemble import bootstrap
from trainkit.ensemble.bootstrap import difference, drawn_figures, interval, mean_figures, with_intervals
from trainkit.scoring import Terms, scores, terms

CLASSES = DataSpec((4,), "classification", 5)
NUMBERS = DataSpec((4,), "regression", 2)


def models(samples: int, count: int = 3, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 5, (samples,), generator=generator)
    outputs = [torch.randn(samples, 5, generator=generator) for _ in range(count)]
    for given in outputs:
        given[torch.arange(samples), targets] += 1.5
    return outputs, targets


def test_draws_are_what_a_plain_loop_finds() -> None:
    outputs, targets = models(60)
    found = drawn_figures([terms(given, targets, CLASSES) for given in outputs], 20, seed=5)
    rows = torch.randint(60, (20, 60), generator=torch.Generator().manual_seed(5))
    for given, drawn in zip(outputs, found, strict=True):
        for number, row in enumerate(rows):
            expected = scores(given[row], targets[row], CLASSES)
            assert {name: float(value[number]) for name, value in drawn.items()} == pytest.approx(expected, abs=1e-12)


def test_draws_of_numbers_are_what_a_plain_loop_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(60, 2, generator=generator), torch.randn(60, 2, generator=generator)
    (found,) = drawn_figures([terms(outputs, targets, NUMBERS)], 20, seed=5)
    rows = torch.randint(60, (20, 60), generator=torch.Generator().manual_seed(5))
    for number, row in enumerate(rows):
        expected = scores(outputs[row], targets[row], NUMBERS)
        assert {name: float(value[number]) for name, value in found.items()} == pytest.approx(expected, abs=1e-12)


def test_how_many_are_worked_on_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = models(50)
    own = [terms(given, targets, CLASSES) for given in outputs]
    whole = drawn_figures(own, 33, seed=1)
    monkeypatch.setattr(bootstrap, "_NUMBERS", 50 * 7)
    for one, other in zip(whole, drawn_figures(own, 33, seed=1), strict=True):
        for name in one:
            torch.testing.assert_close(other[name], one[name], rtol=1e-12, atol=1e-12)
            assert len(one[name]) == 33


def test_the_seed_alone_decides() -> None:
    outputs, targets = models(50, 1)
    own = [terms(outputs[0], targets, CLASSES)]
    first, again, other = (drawn_figures(own, 10, seed)[0]["nll"] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    assert drawn_figures(own, 10, -1)[0]["nll"].isfinite().all()


def test_the_interval_of_an_accuracy_is_as_wide_as_its_standard_error_says() -> None:
    right = (torch.arange(1000) < 900).double()[:, None]
    made = Terms(right, lambda means: {"accuracy": means[..., 0]})
    low, high = interval(drawn_figures([made], 4000, seed=0)[0]["accuracy"])
    error = math.sqrt(0.9 * 0.1 / 1000)
    assert low == pytest.approx(0.9 - 1.96 * error, abs=0.002)
    assert high == pytest.approx(0.9 + 1.96 * error, abs=0.002)


def test_pairs_show_a_difference_that_intervals_of_each_would_hide() -> None:
    outputs, targets = models(400, 1)
    better = outputs[0].clone()
    better[torch.arange(400), targets] += 0.1
    one, other = drawn_figures([terms(given, targets, CLASSES) for given in (better, outputs[0])], 500, seed=0)
    assert interval(one["nll"])[1] > interval(other["nll"])[0]
    assert interval(difference(one, other)["nll"])[1] < 0


def test_equal_models_differ_by_nothing() -> None:
    outputs, targets = models(50, 1)
    one, other = drawn_figures([terms(outputs[0], targets, CLASSES)] * 2, 50, seed=0)
    assert interval(difference(one, other)["ece"]) == (0.0, 0.0)


def test_the_mean_of_models_is_taken_draw_by_draw() -> None:
    outputs, targets = models(50)
    found = drawn_figures([terms(given, targets, CLASSES) for given in outputs], 50, seed=0)
    mean = mean_figures(found)
    torch.testing.assert_close(mean["nll"], (found[0]["nll"] + found[1]["nll"] + found[2]["nll"]) / 3)


def test_values_come_with_their_bounds() -> None:
    drawn = {"nll": torch.arange(101, dtype=torch.float64)}
    assert with_intervals({"nll": 7.0}, drawn)["nll"] == pytest.approx({"value": 7.0, "low": 2.5, "high": 97.5})


def test_one_sample_has_no_width() -> None:
    outputs, targets = models(1, 1)
    (found,) = drawn_figures([terms(outputs[0], targets, CLASSES)], 10, seed=0)
    expected = scores(outputs[0], targets, CLASSES)
    assert interval(found["nll"]) == pytest.approx((expected["nll"], expected["nll"]))
