"""Ensemblers and callbacks that go wrong, or go on from each other, for the tests of how ensembles are made."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit import Component, Ensembler, Member, PositiveInt, Run, UsageError, Validation, Workshop, hookimpl


class Mean:
    """The mean of what members give; trains two, and one that begins where the first has ended.

    Args:
        wrong: what goes wrong, and where.
        changes: settings of the second member.
    """

    def __init__(self, wrong: str, changes: Mapping[str, Any]) -> None:
        self.wrong, self.changes = wrong, dict(changes)
        self.has: list[Member] = []

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Two members, or what goes wrong."""
        if self.wrong == "gather":
            raise KeyError("lost")
        if self.wrong == "nothing":
            return []
        if self.wrong == "text":
            return ["a member"]  # type: ignore[list-item]
        if self.wrong == "none":
            return None  # type: ignore[return-value]
        if self.wrong == "refuse":
            raise UsageError("these cannot be combined\n  name others")
        first = workshop.train([{}, {"seed": workshop.seed + 1, **self.changes}])
        if self.wrong == "twice":
            return [first[0], first[0]]
        if self.wrong == "parent":
            return [*first, *workshop.train([{"optimizer.lr": 0.01, "run.duration": "4ep", **LONGER}], first[0])]
        return first

    def add(self, member: Member, /) -> None:
        """Take one."""
        if self.wrong == "add":
            raise ZeroDivisionError
        self.has.append(member)

    def fit(self, validation: Validation, /) -> None:
        """Nothing to decide."""
        if self.wrong == "fit":
            raise IndexError("out")
        if self.wrong == "refuse in fit":
            raise UsageError("there are too few samples\n  bring more")
        if self.wrong == "signal in fit" and not os.path.exists("stopped"):
            open("stopped", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)

    def predict(self, inputs: Tensor, /) -> Tensor:
        """The mean of logits."""
        if self.wrong == "predict":
            raise AttributeError("nothing")
        return torch.stack([member.module(inputs) for member in self.has]).mean(0)

    def members(self) -> Sequence[Member]:
        """All."""
        return [] if self.wrong == "no members" else self.has

    def state(self) -> Mapping[str, Any]:
        """None, or what cannot be stored."""
        return {"what": object()} if self.wrong == "state" else {}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """None."""


# A run that begins where another one has ended goes on from its update: its length is counted from there.
LONGER: dict[str, Any] = {"run.on_length_change": "rescale"}


def pair(
    *,
    wrong: str = "",
    lr: float | None = None,
    crash: PositiveInt | None = None,
) -> Ensembler:
    """Two members, or what goes wrong.

    Args:
        wrong: what goes wrong.
        lr: learning rate of the second member.
        crash: update at which the second member fails.
    """
    changes: dict[str, Any] = {} if lr is None else {"optimizer.lr": lr}
    if crash is not None:
        changes["callback"] = [{"use": "act", "at": crash}]
    return Mean(wrong, changes)


def lacking() -> object:
    """Is no ensembler."""
    return object()


def picky(*, share: float = 0.5) -> Ensembler:
    """Takes a share above 0.

    Args:
        share: the share.
    """
    if share <= 0:
        raise ValueError(f"share {share} leaves nobody\nwrite one above 0")
    return Mean("", {})


class Act:
    """Is slow, or fails at one update.

    Args:
        what: which of the two.
        at: the update.
    """

    stateless = True

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if self.what == "slow":
            time.sleep(0.05)
        if run.step != self.at:
            return
        if self.what == "fail":
            raise ValueError(f"lost at {run.step}")


def act(*, what: str = "fail", at: PositiveInt = 1) -> Act:
    """Is slow, or fails at one update.

    Args:
        what: which of the two.
        at: the update.
    """
    return Act(what, at)


@hookimpl
def trainkit_components() -> list[Component]:
    """All of them."""
    return [
        *(Component("ensembler", factory) for factory in (pair, lacking, picky)),
        Component("callback", act),
    ]
