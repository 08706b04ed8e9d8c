"""Augmentations that give several views of a sample, and that evaluations see too."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from trainkit import Batch, Dataset, DataSpec, Draw, Split
from trainkit.distributed.share import Share
from trainkit.feed import make_feed


@dataclass(frozen=True)
class Flat:
    """Prepares rows, and rows alone."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """Scale ``(batch, features)``."""
        assert inputs.dim() == 2
        return inputs.float() / 10


@dataclass(frozen=True)
class Pair:
    """Two noisy copies of each sample, at evaluation too."""

    always = True

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Add noise to each."""
        views = torch.stack([batch.inputs + draw(name) for name in "ab"], 1)
        return Batch(views, batch.targets, batch.index)


@dataclass(frozen=True)
class Doubled:
    """An augmentation of training alone."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Double the inputs."""
        return Batch(batch.inputs * 2, batch.targets, batch.index)


def feed(**settings: Any) -> Any:
    rows = torch.arange(1.0, 31).reshape(30, 1).repeat(1, 3)
    split = Split(rows, torch.arange(30) % 2)
    data = Dataset(DataSpec((3,), "classification", 2), {"train": split, "val": split}, Flat())
    given = {"batch_size": 8, "eval_batch_size": 7, "seed": 1, "device": "cpu", "augmentations": (Doubled(), Pair())}
    return make_feed(data, **(given | settings))


def inputs(batches: Any) -> Tensor:
    return torch.cat([batch.inputs for batch in batches])


def test_evaluations_see_the_same_two_views_each_time_and_no_other_augmentation() -> None:
    held = feed()
    views = inputs(held.evaluate("val"))
    assert views.shape == (30, 2, 3)
    assert torch.equal(views, inputs(held.evaluate("val")))
    rest = views * 10 - torch.arange(1.0, 31)[:, None, None]
    assert ((rest > -1e-4) & (rest < 1)).all(), "noise alone, not doubled"
    assert not torch.equal(views[:, 0], views[:, 1])
    assert not torch.equal(views[:, 0], inputs(held.evaluate("train"))[:, 0] * 2)


def test_training_draws_its_views_anew() -> None:
    held = feed()
    first, second = (torch.cat([batch.inputs[batch.index.argsort()] for batch in held.train(e)]) for e in (0, 1))
    assert first.shape == second.shape == (30, 2, 3)
    assert not torch.equal(first, second)
    assert held.spread("val", 4).inputs.shape == (4, 3), "samples as they are"


@pytest.mark.parametrize("settings", [{"loading": "streamed", "workers": 0}, {"eval_batch_size": 30}])
def test_loading_and_batch_size_change_nothing(settings: dict[str, Any]) -> None:
    assert torch.equal(inputs(feed().evaluate("val")), inputs(feed(**settings).evaluate("val")))
    assert torch.equal(inputs(feed().train(1)), inputs(feed(**{"loading": "streamed", "workers": 0}).train(1)))


def test_each_of_several_processes_sees_its_rows() -> None:
    shares = [list(feed().evaluate("val", Share(rank, 2))) for rank in (0, 1)]
    joined = torch.cat([part.inputs for pair in zip(*shares, strict=True) for part in pair])
    assert torch.equal(joined, inputs(feed().evaluate("val")))
