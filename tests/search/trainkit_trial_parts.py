"""Parts that go wrong in the ways that trials do, for the tests of jobs and executors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trainkit import Batch, Component, Dataset, DataSpec, Draw, Run, RunError, Split, hookimpl

MADE: list[int] = []  # seeds that the data was made with, in this process


class Act:
    """Does something at one update.

    Args:
        what: what to do.
        at: the update.
        once: a file that says that it was done, and is not done again; empty for always.
    """

    stateless = True

    def __init__(self, what: str, at: int, once: str) -> None:
        self.what, self.at, self.once = what, at, once

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if self.what == "slow":
            time.sleep(0.02)
        if run.step != self.at or (self.once and os.path.exists(self.once)):
            return
        if self.once:
            open(self.once, "w").close()
        if self.what == "cuda memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.what == "memory":
            raise MemoryError
        if self.what == "defect":
            raise KeyError(f"lost at {run.step}")
        if self.what == "run error":
            raise RunError("this run does not go on")
        if self.what == "full":
            raise OSError(28, "No space left on device", str(run.folder / "metrics.jsonl"))
        if self.what == "print":
            print("printed by a part")
            os.system("echo printed by a child")
        if self.what == "environment":
            print("devices:", os.environ.get("CUDA_VISIBLE_DEVICES"))
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "exit":
            os._exit(7)
        if self.what == "hang":
            time.sleep(3600)


def act(*, what: str, at: int = 10, once: str = "") -> Act:
    return Act(what, at, once)


class Count:
    """Remembers how many updates it saw, and shows it as a figure."""

    def __init__(self, weight: float) -> None:
        self.weight, self.seen = weight, 0

    @hookimpl
    def trainkit_step_end(self) -> None:
        self.seen += 1

    @hookimpl
    def trainkit_figures(self) -> dict[str, float]:
        return {"seen": self.seen * self.weight}

    @hookimpl
    def trainkit_save(self) -> dict[str, Any]:
        return {"seen": self.seen}

    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


def count(*, weight: float = 1.0) -> Count:
    return Count(weight)


def greedy(data_spec: DataSpec, /) -> nn.Module:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def picky(data_spec: DataSpec, /, *, heads: int = 3) -> nn.Module:
    if heads != 3:
        raise ValueError(f"{heads} heads do not fit\n  heads: 3")
    return nn.Linear(data_spec.input_shape[0], data_spec.outputs)


def drawn(seed: int, /, *, samples: int = 64) -> Dataset:
    """Data that uses the global generator too, as careless components do."""
    MADE.append(seed)
    torch.rand(seed % 7 + 1)
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, 6, generator=chance)
    targets = (inputs.sum(1) > 0).long()
    cut = samples // 2
    splits = {"train": Split(inputs[:cut], targets[:cut]), "val": Split(inputs[cut:], targets[cut:])}
    sizes = {name: len(split) for name, split in splits.items()}
    counts = tuple(int((targets[:cut] == number).sum()) for number in range(2))
    spec = DataSpec((6,), "classification", 2, ("no", "yes"), counts, sizes, f"{seed}")
    return Dataset(spec, splits)


def jittered(data_spec: DataSpec, /) -> Any:
    """An augmentation that is drawn when it is built."""
    shift = float(torch.rand(()))

    class Jitter:
        def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
            return Batch(batch.inputs + shift, batch.targets, batch.index)

    return Jitter()


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("callback", act),
        Component("callback", count),
        Component("model", greedy),
        Component("model", picky),
        Component("data", drawn),
        Component("augmentation", jittered),
    ]
