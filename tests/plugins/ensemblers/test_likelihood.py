"""Weights and linear models that are fitted, against scipy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from tests.plugins.ensemblers.made import (
    BINARY,
    CLASSES,
    NUMBERS,
    Bench,
    Told,
    drawn,
    fitted,
    given_by,
    stored,
    weights_of,
)
from trainkit import DataSpec, UsageError
from trainkit_ensemblers.linear import fit_classes, fit_numbers
from trainkit_ensemblers.methods import convex, stacking
from trainkit_ensemblers.selection import LEAST_WEIGHT, least_squares, likeliest
from trainkit_ensemblers.stacked import STRENGTHS, Stacking, deal

# ---------------------------------------------------------------- convex


def best_on_simplex(loss: Any, count: int) -> numpy.ndarray[Any, Any]:
    return minimize(
        loss,
        numpy.full(count, 1 / count),
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    ).x


@pytest.mark.parametrize("seed", range(3))
def test_convex_weights_maximise_the_likelihood(seed: int) -> None:
    outputs, targets = drawn(4, 150, seed=seed, worst=1.5)
    each = softmax(outputs.double().numpy(), axis=2)[:, range(150), targets]
    expected = best_on_simplex(lambda weights: -numpy.log(weights @ each).mean(), 4)
    found = likeliest(torch.from_numpy(each).log())
    assert float(found.sum()) == pytest.approx(1)
    numpy.testing.assert_allclose(found, expected, atol=1e-2)  # the last steps of EM are small ones
    best = -numpy.log(expected @ each).mean()
    assert -numpy.log(found.numpy() @ each).mean() == pytest.approx(best, abs=1e-5)


def test_a_step_never_makes_the_samples_less_likely_and_small_probabilities_are_not_lost() -> None:
    logs = torch.tensor([[-1000.0, -0.1, -2.0], [-900.0, -3.0, -1.0]], dtype=torch.float64)
    found = likeliest(logs)
    assert bool(found.isfinite().all())
    weights = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    grid = torch.stack([weights, 1 - weights])
    values = (logs[:, :, None] + grid.log()[:, None]).logsumexp(0).mean(0)
    assert float(found[0]) == pytest.approx(float(weights[values.argmax()]), abs=2e-3)


def test_members_that_weigh_next_to_nothing_are_left_out() -> None:
    outputs, targets = drawn(3, 200)
    outputs[0, torch.arange(200), targets] = -20.0  # always wrong
    made = fitted(convex(), outputs, targets)
    assert "m0" not in weights_of(made)
    assert sum(weights_of(made).values()) == pytest.approx(1)
    assert min(weights_of(made).values()) >= LEAST_WEIGHT
    assert made.state()["combine"] == "probability"


def test_convex_weights_of_a_regression_are_of_least_squares() -> None:
    outputs, targets = drawn(4, 80, NUMBERS, seed=1)
    table, wanted = outputs.double().flatten(1), targets.double().flatten()
    expected = best_on_simplex(lambda weights: ((weights @ table.numpy() - wanted.numpy()) ** 2).mean(), 4)
    numpy.testing.assert_allclose(least_squares(table, wanted), expected, atol=1e-5)
    assert len(fitted(convex(), outputs, targets, NUMBERS).members()) == int((expected > LEAST_WEIGHT).sum())


# ---------------------------------------------------------------- linear models


def columns_of(outputs: Tensor) -> numpy.ndarray[Any, Any]:
    return numpy.concatenate(list(numpy.log(numpy.clip(softmax(outputs.double().numpy(), axis=2), 1e-6, None))), axis=1)


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_logistic_regression_is_that_of_scikit_learn(strength: float) -> None:
    outputs, targets = drawn(3, 200, seed=2)
    table = columns_of(outputs)
    weight, bias = fit_classes(torch.from_numpy(table), targets, 3, strength)
    expected = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(table, targets.numpy())
    found = softmax(table @ weight.numpy().T + bias.numpy(), axis=1)
    numpy.testing.assert_allclose(found, expected.predict_proba(table), atol=1e-5)
    numpy.testing.assert_allclose(weight, expected.coef_, atol=1e-4 * max(1.0, strength))


def test_ridge_regression_is_that_of_scikit_learn() -> None:
    outputs, targets = drawn(3, 60, NUMBERS)
    table = outputs.double().transpose(0, 1).flatten(1)
    weight, bias = fit_numbers(table, targets.double(), 0.3)
    expected = Ridge(alpha=1 / 0.3).fit(table.numpy(), targets.double().numpy())
    numpy.testing.assert_allclose(weight, expected.coef_, rtol=1e-8)
    numpy.testing.assert_allclose(bias, expected.intercept_, rtol=1e-6, atol=1e-12)


def test_a_class_that_no_sample_has_is_never_likely() -> None:
    outputs, targets = drawn(2, 100)
    weight, bias = fit_classes(torch.from_numpy(columns_of(outputs)), targets.clamp(max=1), 3, 1.0)
    found = softmax(columns_of(outputs) @ weight.numpy().T + bias.numpy(), axis=1)
    assert found[:, 2].max() < 1e-5
    expected = LogisticRegression(C=2.0, tol=1e-10).fit(columns_of(outputs), targets.clamp(max=1).numpy())
    numpy.testing.assert_allclose(found[:, :2], expected.predict_proba(columns_of(outputs)), atol=1e-4)


# ---------------------------------------------------------------- stacking


def cross_validated(table: Any, targets: Any, folds: Any, strength: float) -> float:
    """The negative log likelihood of each sample by a model of the other folds, with scikit-learn."""
    given = numpy.empty((len(targets), 3))
    for fold in range(5):
        model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(
            table[folds != fold], targets[folds != fold]
        )
        given[folds == fold] = model.predict_proba(table[folds == fold])
    return float(-numpy.log(given[range(len(targets)), targets]).mean())


def test_stacking_takes_the_penalty_that_is_best_by_cross_validation() -> None:
    outputs, targets = drawn(2, 120, seed=5)
    told = Told()
    made = fitted(stacking(3), outputs, targets, say=told)
    table, wanted = columns_of(outputs), targets.numpy()
    part = deal(120, 5, 3, targets).numpy()
    values = [cross_validated(table, wanted, part, strength) for strength in STRENGTHS]
    state = made.state()
    assert state["C"] == STRENGTHS[values.index(min(values))]
    assert state["cross_validated_nll"] == pytest.approx(min(values), abs=1e-4)
    expected = LogisticRegression(C=state["C"], tol=1e-10, max_iter=10_000).fit(table, wanted)
    numpy.testing.assert_allclose(given_by(made, 120).softmax(1), expected.predict_proba(table), atol=1e-4)
    mean = softmax(outputs.double().numpy(), axis=2).mean(0)
    assert state["mean_nll"] == pytest.approx(-numpy.log(mean[range(120), wanted]).mean(), rel=1e-9)
    assert f"nll {min(values):.4f} by cross-validation" in told


def test_folds_of_the_cross_validation_have_classes_in_equal_shares() -> None:
    targets = torch.tensor([0] * 31 + [1] * 12 + [2] * 7)
    part = deal(50, 5, 0, targets)
    for label in range(3):
        counts = torch.bincount(part[targets == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert torch.equal(part, deal(50, 5, 0, targets))
    assert not torch.equal(part, deal(50, 5, 1, targets))


def test_stacking_refuses_what_is_too_few_to_learn_from() -> None:
    outputs, targets = drawn(2, 59)
    message = r"stacking fits 6 columns to 59 validation samples, and below 10 samples a column \(60\)"
    with pytest.raises(UsageError, match=message):
        fitted(stacking(0), outputs, targets)
    fitted(stacking(0), *drawn(2, 60))
    fitted(stacking(0, force=True), outputs, targets)


@pytest.mark.parametrize(("spec", "columns"), [(CLASSES, 6), (BINARY, 2), (NUMBERS, 4)])
def test_too_few_samples_are_refused_before_training(spec: DataSpec, columns: int) -> None:
    for samples in (10 * columns - 1, 10 * columns):
        bench = Bench()
        bench.spec = replace(spec, sizes={"train": 500, "val": samples})
        if samples < 10 * columns:
            with pytest.raises(UsageError, match=f"stacking fits {columns} columns to {samples} validation samples"):
                stacking(0, members=2).gather(bench)
            assert not bench.asked
            assert len(stacking(0, members=2, force=True).gather(bench)) == 2
            assert len(stacking(0, members=1).gather(bench)) == 1  # there is nothing to stack
        else:
            assert len(stacking(0, members=2).gather(bench)) == 2
    wide = Bench()
    wide.spec = replace(spec, sizes={"train": 500, "val": 10 * columns})
    with pytest.raises(UsageError, match=f"stacking fits {columns + 1} columns"):
        stacking(0, members=2, passthrough=True).gather(wide)


def test_what_folds_hold_out_is_counted_when_they_are_trained() -> None:
    bench = Bench()
    bench.recipe = {**bench.recipe, "data": {**bench.recipe["data"], "folds": 5}}
    bench.spec = replace(CLASSES, sizes={"train": 500, "val": 1})
    assert len(stacking(0, members=2).gather(bench)) == 2


def test_stacking_that_is_fitted_anew_keeps_its_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = drawn(2, 120, seed=5)
    made = fitted(stacking(3), outputs, targets)

    def crossed(*_: object) -> None:
        raise AssertionError("the penalty is known")

    monkeypatch.setattr(Stacking, "_cross_validated", crossed)
    again = fitted(stored(made, lambda: stacking(3)).anew(), outputs, targets)
    torch.testing.assert_close(given_by(again, 120), given_by(made, 120))
    assert again.added is not made.added
    fewer = fitted(made.anew(), outputs[:, :80], targets[:80])
    assert not torch.allclose(given_by(fewer, 80), given_by(made, 80))


def test_stacking_learns_from_no_sample_that_a_member_was_trained_on() -> None:
    outputs, targets = drawn(2, 200)
    held = torch.ones(2, 200, dtype=torch.bool)
    held[0, :100] = False
    learnt = outputs.clone()
    learnt[0, torch.arange(100), targets[:100]] += 50
    made, honest = (
        fitted(stacking(0), learnt, targets, held_out=held),
        fitted(stacking(0), outputs[:, 100:], targets[100:]),
    )
    assert torch.equal(made.state()["weight"], honest.state()["weight"])
    assert made.state()["samples"] == 100
    held = torch.eye(2, dtype=torch.bool).repeat_interleave(100, dim=1)
    with pytest.raises(UsageError, match="stacking compares members on samples that none of them was trained on"):
        fitted(stacking(0), outputs, targets, held_out=held)


def test_the_inputs_are_columns_too_where_they_are_passed_on() -> None:
    """The class follows from the input alone, which members know nothing of."""
    targets = (torch.arange(200) >= 100).long()
    outputs, _ = drawn(2, 200)
    made, without = fitted(stacking(0, passthrough=True), outputs, targets), fitted(stacking(0), outputs, targets)
    assert made.state()["weight"].shape == (3, 7)
    right = float((given_by(made, 200).argmax(1) == targets).float().mean())
    assert right > 0.95 > 0.7 > float((given_by(without, 200).argmax(1) == targets).float().mean())


def test_a_binary_task_is_stacked_with_one_column_a_member() -> None:
    outputs, targets = drawn(3, 100, BINARY)
    made = fitted(stacking(0), outputs, targets, BINARY)
    state = made.state()
    table = outputs.double()[..., 0].T.clamp(-numpy.log(1e6), numpy.log(1e6)).numpy()
    # Two rows of weights share the penalty: as one row with twice the C.
    expected = LogisticRegression(C=2 * state["C"], tol=1e-10, max_iter=10_000).fit(table, targets.numpy())
    numpy.testing.assert_allclose(given_by(made, 100)[:, 0], expected.decision_function(table), atol=1e-3)
    assert state["weight"].shape == (2, 3)


def test_a_regression_is_stacked_by_ridge_regression() -> None:
    outputs, targets = drawn(3, 100, NUMBERS)
    made = fitted(stacking(0), outputs, targets, NUMBERS)
    table = outputs.double().transpose(0, 1).flatten(1).numpy()
    expected = Ridge(alpha=1 / made.state()["C"]).fit(table, targets.double().numpy())
    numpy.testing.assert_allclose(given_by(made, 100), expected.predict(table), atol=1e-5)
    assert made.state()["cross_validated_mse"] < made.state()["mean_mse"]
