"""Parts that meet trouble, for tests of lanes."""

from __future__ import annotations

from trainkit import Batch, Component, Metrics, Run, StepResult, hookimpl


class Trips:
    """Raises at the end of an epoch, or after an update."""

    stateless = True

    def __init__(self, epoch: int, update: int) -> None:
        self.epoch = epoch
        self.update = update

    @hookimpl
    def trainkit_epoch_end(self, run: Run, metrics: Metrics) -> None:
        if run.epoch == self.epoch:
            raise ValueError("tripped at the end of an epoch")

    @hookimpl
    def trainkit_step_end(self, run: Run, result: StepResult) -> None:
        if run.step == self.update:
            raise ValueError("tripped after an update")


def trips(*, epoch: int = -1, update: int = -1) -> Trips:
    """Raise at the end of an epoch, or after an update.

    Args:
        epoch: its number.
        update: its number.

    Source: made up.
    """
    return Trips(epoch, update)


class Own:
    """Makes updates itself: none."""

    stateless = True

    @hookimpl
    def trainkit_train_step(self, run: Run, batches: list[Batch]) -> StepResult | None:
        return None


def own_step() -> Own:
    """Say that it makes the updates.

    Source: made up.
    """
    return Own()


@hookimpl
def trainkit_components() -> list[Component]:
    """The parts."""
    return [Component("callback", trips), Component("callback", own_step)]
