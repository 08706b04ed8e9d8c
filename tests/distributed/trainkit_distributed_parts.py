"""Components that these tests alone need."""

from __future__ import annotations

import random

import numpy
import torch
from torch import Tensor, nn

from trainkit import (
    Batch,
    Component,
    DataSpec,
    Metrics,
    Run,
    exchanged,
    hookimpl,
    renew_batch_norm,
    weights_of,
)


class Wandering(nn.Module):
    """A model that draws by every means while it is trained, and keeps what it drew by hand."""

    stateless = True  # what it drew is looked at in the lines alone

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, outputs)
        self.drawn: list[float] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(random.random() + float(numpy.random.random()))
            inputs = inputs + self.drawn[-1] / 10 + torch.randn_like(inputs) / 10
        outputs: Tensor = self.layer(inputs)
        return outputs

    @hookimpl
    def trainkit_figures(self) -> Metrics:
        drawn, self.drawn = self.drawn, []
        return {"drawn": float(len(drawn)), "different": float(len(set(drawn)))}


def wandering(data_spec: DataSpec, /) -> nn.Module:
    """Draw by every means."""
    return Wandering(data_spec.input_shape[0], data_spec.outputs)


def comparing() -> nn.Module:
    """Compare the samples of a batch with each other."""
    return nn.CrossEntropyLoss()


class ByIndex:
    """A loss of its own, of which the samples' numbers are a part."""

    stateless = True

    @hookimpl
    def trainkit_loss(self, run: Run, outputs: Tensor, batch: Batch) -> Tensor:
        weights = 1 + (batch.index % 3).to(outputs.dtype)
        each = nn.functional.cross_entropy(outputs, batch.targets, reduction="none")
        return (each * weights).mean()


class Unwilling:
    """Wants to stop before the first update, in the last process alone."""

    stateless = True

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        if run.group.rank == run.group.size - 1:
            run.stop_reason = "unwilling"


class Afterwards:
    """Measures statistics once more when the run is over; a logger is the first process's alone."""

    @hookimpl
    def trainkit_run_end(self, run: Run) -> None:
        with exchanged(run.model, weights_of(run.model)):
            assert renew_batch_norm(run)


@hookimpl
def trainkit_components() -> list[Component]:
    """A model, a loss, callbacks and a logger."""
    return [
        Component("model", wandering),
        Component("loss", comparing, capabilities={"whole_batches": True}),
        Component("callback", ByIndex, "by_index", owns=["loss"]),
        Component("callback", Unwilling, "unwilling"),
        Component("logger", Afterwards, "afterwards"),
    ]
