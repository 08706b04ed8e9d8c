"""Focal loss: by its equations, against cross-entropy where gamma is 0, and where floats end."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainkit import DataError, DataSpec, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_losses import binary, cross_entropy, focal

CLASSES = DataSpec((5,), "classification", 3, classes=("ant", "bee", "cat"), class_counts=(10, 20, 30))
BINARY = DataSpec((5,), "binary", 1, classes=("no", "yes"), class_counts=(30, 10))
WEIGHTS = (0.5, 2.0, 1.0)


def sample(spec: DataSpec, count: int = 12) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    outputs = 2 * torch.randn(count, spec.outputs, generator=draw)
    if spec.task == "binary":
        return outputs, torch.randint(2, (count,), generator=draw).float()
    return outputs, torch.randint(3, (count,), generator=draw)


def by_hand(probability: float, gamma: float) -> float:
    return -((1 - probability) ** gamma) * math.log(probability)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_it_is_equation_4_of_its_paper(gamma: float) -> None:
    outputs, targets = sample(CLASSES)
    expected = [by_hand(float(o.softmax(0)[t]), gamma) for o, t in zip(outputs.double(), targets, strict=True)]
    loss = focal(CLASSES, gamma=gamma)
    torch.testing.assert_close(loss(outputs, targets), torch.tensor(sum(expected) / 12, dtype=torch.float32))
    torch.testing.assert_close(loss.each(outputs, targets), torch.tensor(expected, dtype=torch.float32))
    outputs, targets = sample(BINARY)
    sure = [float(o.sigmoid()) if t else 1 - float(o.sigmoid()) for o, t in zip(outputs.double(), targets, strict=True)]
    mean = sum(by_hand(p, gamma) for p in sure) / 12
    torch.testing.assert_close(focal(BINARY, gamma=gamma)(outputs, targets), torch.tensor(mean, dtype=torch.float32))


def test_gamma_0_is_cross_entropy_with_its_weights() -> None:
    outputs, targets = sample(CLASSES)
    for more in ({}, {"class_weights": WEIGHTS}, {"balance": True}):
        ours, theirs = focal(CLASSES, gamma=0.0, **more), cross_entropy(CLASSES, **more)
        for given in (targets, functional.one_hot(targets, 3).float().lerp(torch.full((12, 3), 1 / 3), 0.2)):
            torch.testing.assert_close(ours(outputs, given), theirs(outputs, given))
            if more:
                assert ours.weight(given) == theirs.weight(given)
    outputs, targets = sample(BINARY)
    torch.testing.assert_close(focal(BINARY, gamma=0.0)(outputs, targets), binary(BINARY)(outputs, targets))


def test_weights_are_those_of_equation_5_over_their_sum() -> None:
    """The paper's alpha 0.25 for class 1; torchvision's sigmoid_focal_loss sums to the same."""
    outputs, targets = sample(BINARY)
    probability = outputs[:, 0].sigmoid()
    sure = torch.where(targets > 0, probability, 1 - probability)
    alpha = torch.where(targets > 0, 0.25, 0.75)
    expected = (-alpha * (1 - sure) ** 2 * sure.log()).sum() / alpha.sum()
    loss = focal(BINARY, class_weights=(0.75, 0.25))
    for shape in ((12,), (12, 1)):
        torch.testing.assert_close(loss(outputs, targets.reshape(shape)), expected)
        torch.testing.assert_close(loss.weight(targets.reshape(shape)), alpha.double().sum())


def test_probabilities_as_targets_give_the_mean_over_what_they_say() -> None:
    outputs, _ = sample(CLASSES, 4)
    loss = focal(CLASSES, gamma=2.0)
    alone = [loss(outputs, torch.full((4,), label)) for label in range(3)]
    shares = torch.tensor([0.2, 0.5, 0.3])
    torch.testing.assert_close(
        loss(outputs, shares.expand(4, 3)), sum(s * a for s, a in zip(shares, alone, strict=True))
    )


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("spec", [CLASSES, BINARY], ids=["classes", "binary"])
def test_slopes_are_finite_where_probabilities_are_0_or_1(spec: DataSpec, gamma: float) -> None:
    outputs, targets = sample(spec)
    outputs = (outputs.sign() * 1000).requires_grad_()
    loss = focal(spec, gamma=gamma)(outputs, targets)
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


def test_the_slope_is_that_of_finite_differences() -> None:
    outputs, targets = sample(CLASSES, 5)
    loss = focal(CLASSES, gamma=1.5, class_weights=WEIGHTS)
    assert torch.autograd.gradcheck(lambda given: loss(given, targets), outputs.double().requires_grad_())


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        (BINARY, {"class_weights": WEIGHTS}, "loss focal has 3 class_weights, the data has 2 classes"),
        (CLASSES, {"class_weights": WEIGHTS, "balance": True}, "both class_weights and balance"),
        (DataSpec((5,), "regression", 1), {}, "needs data with the task classification or binary"),
    ],
)
def test_what_does_not_fit_is_refused(spec: DataSpec, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        focal(spec, **settings)


def test_classes_that_are_balanced_twice_are_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "twice.toml"
    path.write_text(
        '[run]\nduration = "1ep"\n[data]\nuse = "wine"\nsampling = "balanced"\n[model]\nuse = "linear"\n'
        '[loss]\nuse = "cross_entropy"\nbalance = true\n[optimizer]\nuse = "sgd"\nlr = 0.1\n'
    )
    with pytest.raises(
        RecipeError, match=r"balance = true weighs rare classes more, and .* draws them more often"
    ) as e:
        load_recipe(path, [], Plugins())
    assert e.value.problems[0].place.line == 10
