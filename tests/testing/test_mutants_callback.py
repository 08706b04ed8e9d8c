"""Each contract of callbacks catches a callback that breaks it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Metrics, Run, exchanged, hookimpl
from trainkit.testing import CallbackContract


def shrink(run: Run, factor: float) -> None:
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.mul_(factor)


class Shrinking:
    """Makes the weights smaller at the end of each epoch, ever more so."""

    def __init__(self) -> None:
        self.epochs = 0

    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        self.epochs += 1
        shrink(run, 1 - 0.01 * self.epochs)

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        with exchanged(run.model, {name: 0.9 * own for name, own in run.model.named_parameters()}):
            return (yield)

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"epochs": self.epochs}

    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        self.epochs = state["epochs"]


class Forgetful(Shrinking):
    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        pass


class Lucky(Shrinking):
    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        shrink(run, 1 - 0.01 * int.from_bytes(os.urandom(4), "big") / 2**32)


class Talking(Shrinking):
    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        print("an epoch is over")


class Mute:
    """Keeps a number, and says nothing of it."""

    def __init__(self) -> None:
        self.epochs = 0

    @hookimpl
    def trainkit_epoch_end(self, run: Run) -> None:
        self.epochs += 1


class Measuring(Shrinking):
    """Leaves the weights that it has measured."""

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run) -> Generator[None, Metrics, Metrics]:
        shrink(run, 0.9)
        return (yield)


class Patching(Shrinking):
    """Acts on every linear layer of the process."""

    @hookimpl
    def trainkit_run_start(self) -> None:
        nn.Linear.forward = halved  # type: ignore[method-assign]


def halved(layer: nn.Linear, inputs: Tensor) -> Tensor:
    return nn.functional.linear(inputs, layer.weight / 2, layer.bias)


class AtEachCall(Shrinking):
    """Counts calls for updates."""

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        shrink(run, 0.99)


def made(build: Callable[[], object]) -> Component:
    def factory() -> object:
        return build()

    return Component("callback", factory, build.__name__.lower())


def planted(test: str, defect: Callable[[], object], because: str) -> Mutant:
    return Mutant(CallbackContract, test, made(defect), made(Shrinking), because)


MUTANTS = [
    planted("resumes_bit_for_bit", Forgetful, "take it back by trainkit_restore"),
    planted("gives_the_same_for_the_same_seed", Lucky, "a second run of the same recipe is another one"),
    planted("prints_nothing", Talking, "it prints 'an epoch is over"),
    planted("says_whether_it_keeps_state", Mute, "write stateless = True where it keeps nothing"),
    planted("leaves_weights_as_evaluations_found_them", Measuring, "an evaluation changes '.*' at update 2"),
    planted("changes_nothing_where_it_is_not_named", Patching, "one that does not name it is another one"),
    planted("sees_updates_as_declared", AtEachCall, "declare every_update"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Linear, "forward", nn.Linear.forward)  # put back when the test is over
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(CallbackContract, MUTANTS)
