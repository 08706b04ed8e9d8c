"""A plugin that does something in one process of a group and not in the others, for the soak and the tests."""

from __future__ import annotations

import os
import signal
from typing import Any, Literal

from torch import Tensor

from trainkit import Batch, Component, Run, hookimpl

_done: set[str] = set()  # what this process has done, also where it has built its run anew


class Ranked:
    """Acts at one update, or in the evaluation there, once."""

    stateless = True

    def __init__(self, act: str, rank: int, update: int) -> None:
        self.act, self.update = act, update
        self.here = int(os.environ.get("RANK", "0")) == rank
        self.first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

    def _now(self, run: Run, act: str) -> bool:
        if act != self.act or run.position != self.update or not self.here or not self.first or act in _done:
            return False
        _done.add(act)
        return True

    @hookimpl
    def trainkit_loss(self, run: Run, outputs: Tensor, batch: Batch) -> Tensor | None:
        """Be another than it is, or be the last that this process does; the update is the one about to be made."""
        if self._now(run, "kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._now(run, "term"):
            os.kill(os.getpid(), signal.SIGTERM)
        return run.loss(outputs, batch.targets) * float("nan") if self._now(run, "nan") else None

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Any:
        """Ask to stop within the evaluation."""
        if self._now(run, f"term in {split}"):
            os.kill(os.getpid(), signal.SIGTERM)
        return (yield)


class Stops:
    """Stops the run after one update, as whoever looks at the clock does."""

    stateless = True

    def __init__(self, rank: int, update: int) -> None:
        self.rank, self.update = rank, update

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """Want to stop, in one process alone."""
        if run.position == self.update and int(os.environ.get("RANK", "0")) == self.rank:
            run.stop_reason = f"process {self.rank} has had enough"


Act = Literal["kill", "term", "nan", "term in val", "term in test"]


def ranked(*, act: Act, rank: int, update: int) -> Ranked:
    """Act in one process."""
    return Ranked(act, rank, update)


def stops(*, rank: int, update: int) -> Stops:
    """Stop in one process."""
    return Stops(rank, update)


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("callback", ranked), Component("callback", stops)]
