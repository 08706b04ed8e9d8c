"""Ensembles of one run whose learning rate rises again and again: its weights are kept wherever the rate is lowest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit import Member, UsageError, Workshop
from trainkit_ensemblers.gathering import is_pinned, train_and_keep
from trainkit_ensemblers.methods import Combine
from trainkit_ensemblers.weighted import Weighted

# What the core adds to a schedule: it stays outside a schedule that is put into another one.
OUTER = ("warmup", "warmup_start", "warmup_shape", "warmup_mode", "multiply", "react", "also")


class Snapshots(Weighted):
    """See `trainkit_ensemblers.of_weights.snapshots`."""

    def __init__(self, cycles: int, use_last: int | None, combine: Combine) -> None:
        super().__init__(combine)
        self.cycles = cycles
        self.use_last = use_last

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """The checkpoints of one given run, given checkpoints as they are, or those of a run that is trained."""
        if workshop.given is None:
            schedule: dict[str, Any] = {"use": "snapshot_cycles", "cycles": self.cycles}
            if also := (workshop.recipe.get("schedule") or {}).get("also"):
                schedule["also"] = also
            found: Sequence[Member] = train_and_keep(workshop, {"schedule": schedule}, cycles=self.cycles)
            if len(found) < self.cycles:  # each has a whole number of updates, rounded up
                workshop.say(
                    f"the run has time for {len(found)} of {self.cycles} cycles, as each is a whole number of updates, "
                    "rounded up; for more lengthen it"
                )
        elif len(workshop.given) == 1:
            found = workshop.checkpoints(workshop.given[0])
        else:
            found = of_one_run(workshop.given, "snapshots")
        return found if self.use_last is None else found[-self.use_last :]


def of_one_run(members: Sequence[Member], name: str) -> Sequence[Member]:
    """Members that are checkpoints of the same run.

    Raises:
        UsageError: if they are runs of their own, whose mean would be called by a wrong name.
    """
    for member in members[1:]:
        if member.folder != members[0].folder:
            raise UsageError(
                f"{name} takes one run, or checkpoints of one: {members[0].name} and {member.name} are of different "
                "runs\n  use seeds for the mean of several runs"
            )
    return members


class FastGeometric(Weighted):
    """See `trainkit_ensemblers.of_weights.fge`."""

    def __init__(self, members: int, start: str, cycle: str, high: float, low: float, combine: Combine) -> None:
        super().__init__(combine)
        self.count = members
        self.start = start
        self.cycle = cycle
        self.rates = {"high": high, "low": low}

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        """Kept checkpoints of given runs; of a given run that goes on in cycles; or of a run that is trained."""
        if workshop.given is None:
            return self._train(workshop)
        if len(workshop.given) > 1:
            return of_one_run(workshop.given, "fge")
        kept = workshop.checkpoints(workshop.given[0])
        return kept if all(map(is_pinned, kept)) else self._go_on(workshop, workshop.given[0])

    def _train(self, workshop: Workshop) -> Sequence[Member]:
        """A run that follows the recipe's schedule up to `start`, and then goes in cycles."""
        own = dict(workshop.recipe["schedule"])
        outer = {key: own[key] for key in OUTER if own.get(key) not in (None, [], "0ba")}
        body = {key: value for key, value in own.items() if key not in (*OUTER, "cooldown") and value is not None}
        schedule = {"use": "fge_tail", "body": body, "start": self.start, "cycle": self.cycle, **self.rates, **outer}
        warmup = outer.get("warmup", "0ba") if own.get("warmup_mode") != "overlay" else "0ba"
        times: dict[str, Any] = {"start": self.start, "every": self.cycle, "phase": 0.5, "warmup": warmup}
        found = train_and_keep(workshop, {"schedule": schedule}, **times)
        if len(found) < self.count:
            workshop.say(
                f"the run has time for {len(found)} of {self.count} members; for more lengthen it, start earlier or "
                "shorten the cycles"
            )
        return found[-self.count :]

    def _go_on(self, workshop: Workshop, parent: Member) -> Sequence[Member]:
        """A run that goes on in cycles where a finished one has ended, until there are enough members."""
        cycle = updates_of(self.cycle, parent)
        times: dict[str, Any] = {"start": f"{parent.step}ba", "every": f"{cycle}ba", "phase": 0.5}
        end = parent.step + self.count * cycle - cycle // 2
        changes: Mapping[str, Any] = {
            "run.duration": f"{end}ba",
            "run.on_length_change": "rescale",
            "schedule": {
                "use": "fge_tail",
                "body": {"use": "constant"},
                "start": f"{parent.step}ba",
                "cycle": f"{cycle}ba",
                **self.rates,
            },
        }
        workshop.say(f"{parent.name} goes on for {end - parent.step} updates, in cycles of {cycle}")
        return train_and_keep(workshop, changes, parent, **times)


def updates_of(duration: str, member: Member) -> int:
    """A length in epochs or updates as an even number of updates of a run.

    Raises:
        UsageError: if it is in another unit.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)(ep|ba)", duration)
    if found is None or not member.cost.epochs:
        raise UsageError(
            f'cycle = "{duration}" cannot be told in updates of a run that goes on\n'
            '  write it in epochs or updates, such as "2ep" or "100ba"'
        )
    updates = float(found[1]) * (member.step / member.cost.epochs if found[2] == "ep" else 1)
    return max(2, 2 * round(updates / 2))
