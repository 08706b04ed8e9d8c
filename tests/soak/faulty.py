"""A plugin that raises where it is told, for the soak and the tests; its state counts the calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from trainkit import Component, DataSpec, hookimpl

HOOKS = (
    *("prepare_model", "run_start", "epoch_start", "loss", "gradients", "step_end", "figures", "evaluate"),
    *("epoch_end", "stop_reason", "save", "restore", "run_end"),
)


class Fault:
    """What is raised, at which call of which hook; ``error`` is ``None`` in a plugin that is in order."""

    error: Callable[[], BaseException] | None = None  # makes it: one that was raised before has a trace already
    hook = ""
    call = 1
    calls = 0


def _come(hook: str) -> None:
    if Fault.error is not None and hook == Fault.hook:
        Fault.calls += 1
        if Fault.calls == Fault.call:
            raise Fault.error()


class Faulty:
    """Takes part in every hook and changes nothing."""

    def __init__(self) -> None:
        self.updates = 0

    @hookimpl
    def trainkit_prepare_model(self) -> None:
        _come("prepare_model")

    @hookimpl
    def trainkit_run_start(self) -> None:
        _come("run_start")

    @hookimpl
    def trainkit_epoch_start(self) -> None:
        _come("epoch_start")

    @hookimpl
    def trainkit_loss(self) -> None:
        _come("loss")

    @hookimpl
    def trainkit_gradients(self) -> None:
        _come("gradients")

    @hookimpl
    def trainkit_step_end(self) -> None:
        self.updates += 1
        _come("step_end")

    @hookimpl
    def trainkit_figures(self) -> Mapping[str, float]:
        _come("figures")
        return {"updates": float(self.updates)}

    @hookimpl
    def trainkit_evaluate(self) -> None:
        _come("evaluate")

    @hookimpl
    def trainkit_epoch_end(self) -> None:
        _come("epoch_end")

    @hookimpl
    def trainkit_stop_reason(self) -> None:
        _come("stop_reason")

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        _come("save")
        return {"updates": self.updates}

    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        _come("restore")
        self.updates = state["updates"]

    @hookimpl
    def trainkit_run_end(self) -> None:
        _come("run_end")


def faulty() -> Faulty:
    """Raise where a test says so."""
    _come("factory")
    return Faulty()


class Hungry(nn.Module):
    """A network that needs more memory than there is for more than a few samples at once."""

    def __init__(self, features: int, outputs: int, most: int) -> None:
        super().__init__()
        self.body = nn.Linear(features, 8)
        self.head = nn.Linear(8, outputs)
        self.most = most

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        result: torch.Tensor = self.head(self.body(inputs).tanh())
        return result


def hungry(data_spec: DataSpec, /, *, most: int = 4) -> nn.Module:
    """A network for a few samples at once."""
    return Hungry(data_spec.input_shape[0], data_spec.outputs, most)


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("callback", faulty), Component("model", hungry)]
