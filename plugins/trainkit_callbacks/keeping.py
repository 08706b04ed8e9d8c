"""Checkpoints that are saved at given updates and stay."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit import RecipeError, Run, hookimpl
from trainkit_callbacks.names import problem


class KeepCheckpoints:
    """See `trainkit_callbacks.keep_checkpoints`."""

    stateless = True  # when follows from the recipe and the run's length

    def __init__(
        self, at: Sequence[int], every: int | None, cycles: int | None, start: int, phase: float, warmup: int
    ) -> None:
        self.at = at
        self.every = every
        self.cycles = cycles
        self.start = start
        self.phase = phase
        self.warmup = warmup

    def updates(self, total: int) -> list[int]:
        """The updates after which a checkpoint of a run of ``total`` updates is kept."""
        found = {at for at in self.at if at <= total}
        length = total - self.warmup
        if self.cycles is not None and length > 0:
            cycle = -(-length // self.cycles)
            found |= {self.warmup + min(end, length) for end in range(cycle, length + cycle, cycle)}
        if self.every is not None:
            first = self.warmup + self.start + round(self.phase * self.every)
            found |= {at for at in range(first, total + 1, self.every) if at > 0}
        return sorted(found)

    @hookimpl
    def trainkit_prepare_model(self, run: Run) -> None:
        total = run.total_updates
        if late := [at for at in self.at if at > total]:
            message = f"at: update {late[0]} comes after the end of the run, which has {total}"
            raise RecipeError([problem(run, "keep_checkpoints", "at", message, "name an earlier time")])
        if not (kept := self.updates(total)):
            setting = "every" if self.every is not None else "cycles"
            message = f"no checkpoint would be kept: the run has {total} updates, and the first would come later"
            raise RecipeError(
                [problem(run, "keep_checkpoints", setting, message, "start earlier, or lengthen the run")]
            )
        run.keep_at.update(kept)
