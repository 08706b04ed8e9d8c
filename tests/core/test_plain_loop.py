"""What a run does by default, means of speed and all, is what a loop written by hand does, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainkit import Run, hookimpl
from trainkit.manager import Plugins

PARTS = Path(__file__).parent / "trainkit_compile_parts.py"
SGD = ('optimizer={use="sgd", lr=0.1, momentum=0.9}', lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True))
ADAMW = (
    'optimizer={use="adamw", lr=0.01, weight_decay=0.1, no_decay="none"}',
    lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
)


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed ones, and models that are not as others."""
    return Plugins([str(PARTS)])


class Kept:
    """Keeps the model as it is before the first update."""

    stateless = True
    model: nn.Module

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.model = copy.deepcopy(run.model)


def by_hand(run: Run, model: nn.Module, make: Callable[[Any], torch.optim.Optimizer], accumulate: int = 1) -> nn.Module:
    """Train a model on the run's batches, as one writes it without a framework."""
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    model.train()
    for epoch in range(run.epoch):
        batches = list(run.feed.train(epoch))
        for first in range(0, len(batches), accumulate):
            some = batches[first : first + accumulate]
            total = sum(len(batch) for batch in some)
            optimizer.zero_grad()
            for batch in some:
                loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
                (loss if len(some) == 1 else loss * (len(batch) / total)).backward()
            optimizer.step()
    return model


MODELS = [
    'model={use="mlp", widths=[8, 8]}',
    'model={use="mlp", widths=[8], norm="batch"}',
    "model=linear",
    *(f"model={name}" for name in ("small", "tied", "frozen", "buffered", "overwriting", "penalised", "watched")),
]


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_makes_the_weights_of_a_loop_by_hand(train, model: str, optimizer) -> None:
    settings, make = optimizer
    kept = Kept()
    finished = train(model, settings, listeners=[kept])
    expected = by_hand(finished.run, kept.model, make).state_dict()
    assert list(expected) == list(finished.weights)
    for name, value in finished.weights.items():
        assert torch.equal(value, expected[name]), name


def test_accumulated_batches_make_the_weights_of_a_loop_by_hand(train) -> None:
    settings, make = SGD
    kept = Kept()
    finished = train("run.accumulate=3", settings, listeners=[kept])
    expected = by_hand(finished.run, kept.model, make, accumulate=3).state_dict()
    for name, value in finished.weights.items():
        assert torch.equal(value, expected[name]), name
