"""Losses against torch's references, over uneven batches, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import trainkit_losses
from trainkit import Component, DataError, DataSpec
from trainkit.testing import LossContract
from trainkit_losses import binary, cross_entropy, huber, mae, mse, nll

CLASSES = DataSpec((5,), "classification", 4, classes=("ant", "bee", "cat", "dog"), class_counts=(10, 20, 30, 40))
BINARY = DataSpec((5,), "binary", 1, classes=("no", "yes"), class_counts=(30, 10))
NUMBER = DataSpec((5,), "regression", 1)
NUMBERS = DataSpec((5,), "regression", 3)
TEXT = DataSpec((7,), "tokens", 4, class_counts=(10, 20, 30, 40))
TASKS = {"classification": CLASSES, "binary": BINARY, "regression": NUMBER}
COMPONENTS = {component.name: component for component in trainkit_losses.trainkit_components()}
SUITS = {
    "cross_entropy": "classification",
    "nll": "classification",
    "binary": "binary",
    "focal": "classification, binary",
    "mse": "regression",
    "mae": "regression",
    "huber": "regression",
    "gaussian_nll": "regression",
    "quantile": "regression",
}
WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def sample(task: str, count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    if task == "classification":
        return torch.randn(count, 4, generator=draw), torch.randint(4, (count,), generator=draw)
    outputs = 2 * torch.randn(count, 1, generator=draw)
    targets = torch.randn(count, generator=draw)
    return outputs, (targets > 0).float() if task == "binary" else targets


def test_listing_the_losses_does_not_import_torch() -> None:
    code = "import sys, trainkit_losses as m; m.trainkit_components(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=lambda c: c.name)
class TestEveryLoss:
    def test_refuses_data_of_another_task(self, component: Component) -> None:
        for task, data in TASKS.items():
            if task not in SUITS[component.name].split(", "):
                with pytest.raises(DataError, match=f"loss {component.name} needs .* task is {task}: use loss "):
                    component.factory(data)


class TestBalanced(LossContract):
    """Its mean is over weights, which no example of ours has."""

    component = Component("loss", cross_entropy, example={"balance": True}, capabilities={"lanes": True})


class TestWeightedPositives(LossContract):
    component = Component("loss", binary, example={"balance": True}, capabilities={"compiles": True})


# ---------------------------------------------------------------- cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    outputs, targets = sample("classification")
    soft = torch.softmax(torch.randn(12, 4), 1)
    loss = cross_entropy(CLASSES, label_smoothing=smoothing)
    for wanted in (targets, soft):
        expected = functional.cross_entropy(outputs, wanted, label_smoothing=smoothing)
        torch.testing.assert_close(loss(outputs, wanted), expected)


def test_a_mean_over_samples_has_no_weight() -> None:
    losses = [cross_entropy(CLASSES), nll(CLASSES), binary(BINARY, pos_weight=3.0), mse(NUMBER), huber(NUMBER)]
    assert not any(hasattr(loss, "weight") for loss in losses)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_is_torchs(smoothing: float) -> None:
    outputs, targets = sample("classification")
    loss = cross_entropy(CLASSES, class_weights=WEIGHTS, label_smoothing=smoothing)
    expected = functional.cross_entropy(outputs, targets, torch.tensor(WEIGHTS), label_smoothing=smoothing)
    torch.testing.assert_close(loss(outputs, targets), expected)


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), soft=st.booleans(), smoothing=st.sampled_from([0, 0.1])
)
@settings(max_examples=25, deadline=None)
def test_weighted_batches_add_up_to_the_whole_set(sizes: list[int], soft: bool, smoothing: float) -> None:
    """Batch means weighted by ``weight(targets)`` are the mean over everything, whatever the batches."""
    loss: Any = cross_entropy(CLASSES, class_weights=WEIGHTS, label_smoothing=smoothing)
    outputs, targets = sample("classification", sum(sizes), seed=len(sizes))
    outputs = outputs.double()
    if soft:
        targets = sample("classification", len(outputs), seed=9)[0].double().softmax(1)
    parts = list(zip(outputs.split(sizes), targets.split(sizes), strict=True))
    total = sum(loss(o, t) * loss.weight(t) for o, t in parts)
    whole = loss(outputs, targets)
    torch.testing.assert_close(total / sum(loss.weight(t) for _, t in parts), whole, rtol=1e-6, atol=0)


def test_accumulated_gradients_equal_those_of_the_whole_batch() -> None:
    loss: Any = cross_entropy(CLASSES, class_weights=WEIGHTS)
    outputs, targets = sample("classification")
    outputs = outputs.double().requires_grad_()
    (whole,) = torch.autograd.grad(loss(outputs, targets), outputs)
    total = loss.weight(targets)
    for o, t in zip(outputs.split([7, 5]), targets.split([7, 5]), strict=True):
        (loss(o, t) * loss.weight(t) / total).backward()
    torch.testing.assert_close(outputs.grad, whole, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_one_hot_probabilities_give_what_their_classes_give(smoothing: float) -> None:
    outputs, targets = sample("classification")
    hot = functional.one_hot(targets, 4).float()
    for weights in (None, WEIGHTS):
        loss: Any = cross_entropy(CLASSES, class_weights=weights, label_smoothing=smoothing)
        torch.testing.assert_close(loss(outputs, hot), loss(outputs, targets))
    assert loss.weight(hot) == loss.weight(targets)


def test_balance_lets_every_class_count_alike() -> None:
    loss: Any = cross_entropy(CLASSES, balance=True)
    for number, count in enumerate([10, 20, 30, 40]):
        assert loss.weight(torch.full((count,), number)).item() == pytest.approx(100 / 4)
        assert loss.weight(torch.tensor([number])).item() == pytest.approx(100 / 4 / count)


def test_training_goes_on_after_a_first_batch_in_inference_mode() -> None:
    loss = cross_entropy(CLASSES, class_weights=WEIGHTS)
    outputs, targets = sample("classification")
    hot = functional.one_hot(targets, 4).float()
    with torch.inference_mode():
        loss(outputs, hot)
    loss(outputs.requires_grad_(), hot).backward()
    assert outputs.grad is not None


def test_nll_of_log_probabilities_is_cross_entropy() -> None:
    outputs, targets = sample("classification")
    soft = torch.softmax(torch.randn(12, 4), 1)
    for wanted in (targets, soft):
        expected = functional.cross_entropy(outputs, wanted)
        torch.testing.assert_close(nll(CLASSES)(outputs.log_softmax(1), wanted), expected)


@pytest.mark.parametrize(
    "targets",
    [
        torch.zeros(12),
        torch.zeros(12, dtype=torch.int32),
        torch.zeros(12, 1),
        torch.zeros(12, 4, dtype=torch.int64),
        torch.zeros(12, 5),
        torch.zeros(6, 4),
    ],
    ids=lambda t: f"{t.dtype}{tuple(t.shape)}",
)
def test_class_losses_refuse_targets_that_do_not_fit(targets: Tensor) -> None:
    outputs, _ = sample("classification")
    for loss in (cross_entropy(CLASSES), cross_entropy(CLASSES, balance=True), nll(CLASSES)):
        with pytest.raises(DataError, match=r"outputs \(12, 4\) do not fit targets .* int64 classes \(batch,\)"):
            loss(outputs, targets)


@pytest.mark.parametrize(
    ("data", "given", "text"),
    [
        (CLASSES, {"class_weights": (1.0, 2.0)}, "has 2 class_weights, the data has 4 classes"),
        (CLASSES, {"class_weights": WEIGHTS, "balance": True}, "both class_weights and balance"),
        (DataSpec((5,), "classification", 4), {"balance": True}, "counts the samples of 0 classes, not of 4"),
        (
            DataSpec((5,), "classification", 2, classes=("ant", "bee"), class_counts=(3, 0)),
            {"balance": True},
            "class 'bee' has no samples in the training split",
        ),
    ],
)
def test_cross_entropy_refuses_weights_that_do_not_fit(data: DataSpec, given: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        cross_entropy(data, **given)


# ---------------------------------------------------------------- binary


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
def test_binary_is_torchs(shape: tuple[int, ...]) -> None:
    outputs, targets = sample("binary")
    expected = functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)
    torch.testing.assert_close(binary(BINARY)(outputs, targets.reshape(shape)), expected)
    torch.testing.assert_close(binary(BINARY)(outputs, targets.long().reshape(shape)), expected)


def test_binary_weighs_positives() -> None:
    outputs, targets = sample("binary")
    weight = torch.tensor(3.0)
    expected = functional.binary_cross_entropy_with_logits(outputs[:, 0], targets, pos_weight=weight)
    torch.testing.assert_close(binary(BINARY, pos_weight=3.0)(outputs, targets), expected)
    torch.testing.assert_close(binary(BINARY, balance=True)(outputs, targets), expected)  # 30 / 10


def test_binary_refuses_what_it_cannot_weigh() -> None:
    with pytest.raises(DataError, match="both pos_weight and balance"):
        binary(BINARY, pos_weight=2.0, balance=True)
    with pytest.raises(DataError, match="class 'yes' has no samples"):
        binary(DataSpec((5,), "binary", 1, classes=("no", "yes"), class_counts=(30, 0)), balance=True)


# ---------------------------------------------------------------- regression


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (mse(NUMBERS), functional.mse_loss),
        (mae(NUMBERS), functional.l1_loss),
        (huber(NUMBERS, delta=0.3), lambda o, t: functional.huber_loss(o, t, delta=0.3)),
    ],
    ids=["mse", "mae", "huber"],
)
def test_regression_losses_are_torchs(loss: Any, reference: Any) -> None:
    outputs, targets = torch.randn(12, 3), torch.randn(12, 3)
    torch.testing.assert_close(loss(outputs, targets), reference(outputs, targets))
    single, flat = torch.randn(12, 1), torch.randn(12)
    torch.testing.assert_close(loss(single, flat), reference(single[:, 0], flat))
    torch.testing.assert_close(loss(single, flat.double()), reference(single[:, 0], flat))


@pytest.mark.parametrize("factory", [mse, mae, huber], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("outputs", "targets"), [((12, 1), (6,)), ((12,), (12, 1)), ((12, 3), (12,)), ((12, 3), (12, 1)), ((1, 3), (12, 3))]
)
def test_regression_losses_never_broadcast(factory: Any, outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="do not fit targets"):
            factory(NUMBER)(torch.zeros(outputs), torch.zeros(targets))


def tokens(samples: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return 2 * torch.randn(samples, 7, 4, generator=draw), torch.randint(4, (samples, 7), generator=draw)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_tokens_is_the_mean_over_all_positions(smoothing: float) -> None:
    outputs, targets = tokens()
    loss: Any = cross_entropy(TEXT, label_smoothing=smoothing)
    # torch has classes in the second dimension
    expected = functional.cross_entropy(outputs.transpose(1, 2), targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss(outputs, targets), expected)
    torch.testing.assert_close(loss.each(outputs, targets).mean(), expected)
    assert loss.each(outputs, targets).shape == (6,)
    chances = functional.one_hot(targets, 4).float()
    torch.testing.assert_close(loss(outputs, chances), expected)


def test_weights_of_tokens_are_those_of_their_classes() -> None:
    outputs, targets = tokens()
    loss: Any = cross_entropy(TEXT, class_weights=WEIGHTS)
    weights = torch.tensor(WEIGHTS)
    expected = functional.cross_entropy(outputs.transpose(1, 2), targets, weights)
    torch.testing.assert_close(loss(outputs, targets), expected)
    assert float(loss.weight(targets)) == pytest.approx(float(weights[targets].sum()))


def test_nll_of_tokens_is_that_of_their_positions_in_a_row() -> None:
    outputs, targets = tokens()
    logs = outputs.log_softmax(-1)
    expected = functional.nll_loss(logs.reshape(-1, 4), targets.reshape(-1))
    torch.testing.assert_close(nll(TEXT)(logs, targets), expected)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 7), (6, 8, 4), (42, 4)])
def test_outputs_that_are_not_of_each_position_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"do not fit targets \(6, 7\)"):
        cross_entropy(TEXT)(torch.zeros(shape), tokens()[1])
