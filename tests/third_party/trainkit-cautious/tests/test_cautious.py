"""The numbers of both components, against their formulas written out again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainkit_cautious import cautious_adamw, hyperbolic


def test_an_update_is_that_of_the_paper() -> None:
    weights = np.array([1.0, -2.0, 3.0, 0.5])
    gradients = np.array([[0.1, -0.2, 0.3, 0.4], [0.2, 0.9, -3.0, 0.1], [-0.5, 0.1, 0.2, 0.1]])
    parameter = torch.nn.Parameter(torch.tensor(weights))
    optimizer = cautious_adamw([{"params": [parameter]}], lr=0.1, weight_decay=0.5)
    mean, square = np.zeros(4), np.zeros(4)
    left_out = 0
    for k, gradient in enumerate(gradients, 1):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        update = mean / (1 - 0.9**k) / (np.sqrt(square / (1 - 0.999**k)) + 1e-8)
        agrees = (update * gradient > 0).astype(float)
        left_out += int((agrees == 0).sum())
        weights = weights - 0.1 * 0.5 * weights - 0.1 * update * agrees / agrees.mean()
    assert left_out > 0
    np.testing.assert_allclose(parameter.detach().numpy(), weights, rtol=1e-12)


def test_the_curve_is_that_of_the_formula() -> None:
    factor = hyperbolic(end=0.1, bound=1.0)
    assert factor(0, 100) == 1.0
    assert factor(100, 100) == pytest.approx(0.1, abs=1e-12)
    assert factor(50, 100) == pytest.approx(1 + 0.9 * (np.sqrt(0.5 * (2 - 1.5)) - 1), rel=1e-12)


def test_the_beginning_depends_less_on_the_length_than_a_line_s() -> None:
    short, long = (
        hyperbolic(end=0.0, bound=4.0),
        hyperbolic(end=0.0, bound=2.0),
    )  # made for 400 updates, cut at 100, 200
    slopes = short(1, 100) - short(0, 100), long(1, 200) - long(0, 200)
    assert slopes[0] / slopes[1] == pytest.approx(np.sqrt(200 * 600 / (100 * 700)), rel=0.01)  # of a line it is 2


def test_both_train_the_tiny_recipe(run_tiny) -> None:
    made = run_tiny(optimizer={"use": "cautious_adamw", "lr": 0.01}, schedule={"use": "hyperbolic"})
    assert made.report.status == "finished"
    rates = [line["lr/0"] for line in made.lines if line["split"] == "train"]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.01
