"""Callbacks that see what a range test does, and some that leave a trace of it."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy
import torch
from torch import Tensor, nn

from trainkit import Between, Component, DataSpec, Run, hookimpl

SEEN: list[dict[str, Any]] = []
KEPT: list[int] = []


class Witness:
    """Notes what each update is made with."""

    stateless = True

    def __init__(self, strength: float) -> None:
        self.strength = strength

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        groups = run.optimizer.param_groups
        SEEN.append(
            {
                "folder": run.folder,
                "strength": self.strength,
                **{key: [group.get(key) for group in groups] for key in ("lr", "weight_decay", "momentum", "betas")},
                "names": [list(group["names"]) for group in groups],
            }
        )


def witness(*, strength: Annotated[float, Between(0, 1)] = 0.5) -> Witness:
    """Note what each update is made with."""
    return Witness(strength)


class Forgetful:
    """Counts the updates of the whole process."""

    stateless = True

    def __init__(self) -> None:
        self.begins_with = len(KEPT)

    @hookimpl
    def trainkit_step_end(self) -> None:
        KEPT.append(1)


def forgetful() -> Forgetful:
    """Keep something in a global variable."""
    return Forgetful()


class Switch:
    """Switches on what nobody switches off."""

    stateless = True

    @hookimpl
    def trainkit_run_start(self) -> None:
        torch.backends.cudnn.benchmark = True


def switch() -> Switch:
    """Set a switch of torch."""
    return Switch()


class Brief:
    """Ends the run after three updates."""

    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 3:
            run.stop_reason = "three are enough"


def brief() -> Brief:
    """End the run after three updates."""
    return Brief()


class Tangled:
    """Holds itself, and numbers in forms that have no bytes of their own."""

    stateless = True

    def __init__(self) -> None:
        self.parents: dict[str, Any] = {"name": "root"}
        self.parents["self"] = [self.parents, self]
        self.sparse = torch.eye(3).to_sparse()
        self.mixed = numpy.array([len(KEPT), "two", None], dtype=object)

    @hookimpl
    def trainkit_step_end(self) -> None: ...


def tangled() -> Tangled:
    """Hold what holds itself."""
    return Tangled()


class Broken(nn.Module):
    """Outputs that are no numbers."""

    def forward(self, values: Tensor) -> Tensor:
        return values * math.nan


def broken(data_spec: DataSpec, /) -> nn.Module:
    """A model whose outputs are not finite from the start."""
    return nn.Sequential(nn.Linear(data_spec.input_shape[0], data_spec.outputs), Broken())


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("callback", witness, example={}),
        Component("callback", forgetful, example={}),
        Component("callback", switch, example={}),
        Component("callback", brief, example={}),
        Component("callback", tangled, example={}),
        Component("model", broken, example={}),
    ]
