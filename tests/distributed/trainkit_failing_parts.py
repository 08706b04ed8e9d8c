"""A component that lets one process of a group fail."""

from __future__ import annotations

from typing import Annotated

from trainkit import Between, Component, Run, RunError, hookimpl


class FailsAlone:
    """Raises in one process after an update."""

    def __init__(self, rank: int, update: int) -> None:
        self.rank = rank
        self.update = update
        self.stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.group.rank == self.rank and run.step == self.update:
            raise RunError("the disk of this process is gone")


def fails_alone(*, rank: Annotated[int, Between(0, 100)] = 1, update: Annotated[int, Between(1, 100)] = 3) -> object:
    """Fail in one process after an update.

    Args:
        rank: which process.
        update: after which update.
    """
    return FailsAlone(rank, update)


@hookimpl
def trainkit_components() -> list[Component]:
    """The callback."""
    return [Component("callback", fails_alone)]
