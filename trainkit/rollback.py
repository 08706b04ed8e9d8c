"""Going back to the last checkpoint with smaller learning rates (``nonfinite = "rollback"``).

A rollback is an event ``(t, "run.rollback:0.5")``: from update ``t`` on every learning rate is multiplied by the
number, so that a schedule stays a pure function of time and events. The events of a run are in its checkpoints; a run
that is killed before its next checkpoint meets the same values that are not finite, and goes back the same way.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from trainkit import checkpoint
from trainkit.errors import CheckpointError, NotFinite, RunError
from trainkit.protocols import Events, Schedule
from trainkit.run import Run, ScheduledValue

EVENT = "run.rollback:"


class GoBack(Exception):
    """The run is to be built again, from its last checkpoint."""


class Rollbacks:
    """The rollbacks of a run that have happened in this process and need not be in a checkpoint yet."""

    def __init__(self) -> None:
        self.factors: list[float] = []
        self.why = ""

    def add(self, error: NotFinite, run: Run) -> None:
        """Decide to go back.

        Raises:
            RunError: if the recipe does not ask for it, or not once more.
        """
        settings = run.recipe["run"]
        made = [float(kind.removeprefix(EVENT)) for _, kind in run.events if kind.startswith(EVENT)]
        if settings["nonfinite"] != "rollback":
            raise error
        if len(made) >= settings["rollbacks"]:
            raise RunError(
                f"{str(error).splitlines()[0]}; the run has gone back {len(made)} times, with learning rates times "
                f"{math.prod(made):.6g} at last\n"
                '  lower optimizer.lr, add [[callback]] use = "clip_norm", or raise rollbacks in [run]'
            ) from error
        self.factors = [*made, settings["rollback_factor"]]
        self.why = str(error).splitlines()[0]

    @staticmethod
    def forget(parent: Path) -> None:
        """Remove checkpoints that are there because somebody stopped the run after the last one that was due.

        The run goes back to where it would have gone had it not been interrupted.
        """
        extra: list[Path] = []
        for folder in checkpoint.newest_first(parent):
            try:
                due = checkpoint.load(folder)[1].get("due", True)
            except CheckpointError:
                continue
            if due:
                for other in extra:
                    shutil.rmtree(other, ignore_errors=True)
                return
            extra.append(folder)

    def apply(self, run: Run) -> None:
        """Give the events to a run that stands at the checkpoint, or at its start, and let its rates follow them."""
        known = sum(kind.startswith(EVENT) for _, kind in run.events)
        fresh = self.factors[known:]
        run.events += [(run.step, f"{EVENT}{factor!r}") for factor in fresh]
        if fresh:
            run.say(
                f"{self.why}: the run goes back to update {run.step}, with learning rates times {fresh[-1]:g} "
                f"(rollback {len(self.factors)} of {run.recipe['run']['rollbacks']})"
            )
        if known or fresh:
            run.schedules = following(run.schedules)


def following(values: Sequence[ScheduledValue]) -> tuple[ScheduledValue, ...]:
    """Scheduled values whose learning rates follow rollbacks."""
    followed: dict[int, Schedule] = {}  # groups share a schedule, which is then asked once
    for value in values:
        if value.name == "lr" and id(value.schedule) not in followed:
            followed[id(value.schedule)] = _follow(value.schedule)
    return tuple(
        dataclasses.replace(value, schedule=followed[id(value.schedule)]) if value.name == "lr" else value
        for value in values
    )


def _follow(body: Schedule) -> Schedule:
    def factor(t: int, T: int, events: Events = ()) -> float:
        made = [float(kind.removeprefix(EVENT)) for at, kind in events if kind.startswith(EVENT) and at <= t]
        return math.prod(made) * body(t, T, [event for event in events if not event[1].startswith(EVENT)])

    return factor
