"""Perplexity and bits per byte beside torchmetrics and what can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.text import Perplexity

from trainkit import DataError, DataSpec
from trainkit.testing.letters import Letters
from trainkit_text.figures import bits_per_byte, perplexity
from trainkit_text.vocabularies import Bytes

TEXT = DataSpec((9,), "tokens", 4, vocabulary=Letters(4))  # a b c é, the last of two bytes


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return 3 * torch.randn(12, 9, 4, generator=draw), torch.randint(4, (12, 9), generator=draw)


def test_perplexity_is_torchmetrics(drawn: tuple[Tensor, Tensor]) -> None:
    ours, reference = perplexity(TEXT), Perplexity()
    for outputs, targets in zip(*(part.split([5, 7]) for part in drawn), strict=True):
        ours.update(outputs, targets)
        reference.update(outputs, targets)
    assert ours.compute() == pytest.approx(float(reference.compute()), rel=1e-5)


def test_perplexity_of_classes_is_that_of_one_position(drawn: tuple[Tensor, Tensor]) -> None:
    outputs, targets = drawn
    ours = perplexity(DataSpec((5,), "classification", 4))
    ours.update(outputs[:, 0], targets[:, 0])
    expected = math.exp(float(functional.cross_entropy(outputs[:, 0], targets[:, 0])))
    assert ours.compute() == pytest.approx(expected, rel=1e-6)


def test_bits_per_byte_count_the_bytes_that_tokens_stand_for(drawn: tuple[Tensor, Tensor]) -> None:
    outputs, targets = drawn
    ours = bits_per_byte(TEXT)
    ours.update(outputs[:7], targets[:7])
    ours.update(outputs[7:], targets[7:])
    nats = float(functional.cross_entropy(outputs.reshape(-1, 4), targets.reshape(-1), reduction="sum"))
    text = "".join("abcé"[number] for number in targets.flatten().tolist())
    assert ours.compute() == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-6)


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte() -> None:
    spec = DataSpec((6,), "tokens", 256, vocabulary=Bytes())
    outputs, targets = torch.zeros(3, 6, 256), torch.arange(18).view(3, 6)
    for make, expected in ((bits_per_byte, 8.0), (perplexity, 256.0)):
        metric = make(spec)
        metric.update(outputs, targets)
        assert metric.compute() == pytest.approx(expected, rel=1e-6)


def test_a_perplexity_that_no_number_holds_is_infinite() -> None:
    metric = perplexity(TEXT)
    metric.update(torch.tensor([[[0.0, 9999.0, 0.0, 0.0]]]), torch.tensor([[0]]))
    assert metric.compute() == math.inf


@pytest.mark.parametrize(
    ("make", "spec", "said"),
    [
        (perplexity, DataSpec((5,), "regression", 1), "metric perplexity needs tokens or classes"),
        (
            bits_per_byte,
            DataSpec((5,), "classification", 3),
            "needs text, whose tokens have bytes.*use metric perplexity",
        ),
        (bits_per_byte, DataSpec((5,), "tokens", 3), "with a vocabulary.*use metric perplexity"),
    ],
)
def test_other_data_is_refused(make, spec, said) -> None:
    with pytest.raises(DataError, match=said):
        make(spec)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 5, 4), (3,)), ((3,), (3,))])
def test_outputs_that_do_not_fit_are_refused(shapes) -> None:
    with pytest.raises(DataError, match="do not fit targets"):
        perplexity(TEXT).update(torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.int64))


def test_an_empty_split_has_no_figure() -> None:
    with pytest.raises(DataError, match="bits_per_byte saw no sample"):
        bits_per_byte(TEXT).compute()
