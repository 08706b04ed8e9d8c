"""Scheduled batch sizes: the plan of a run's batches, and how many updates its data then takes.

Growing batches do what a falling learning rate does, with fewer updates.

Source: Smith et al. 2018, "Don't Decay the Learning Rate, Increase the Batch Size"; arXiv 1711.00489.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Callable
from itertools import count

from trainkit.clock import Clock, Span
from trainkit.errors import RecipeError
from trainkit.feed.cuts import Cuts, walk
from trainkit.feed.resident import ResidentFeed
from trainkit.feed.streamed import StreamedFeed
from trainkit.instantiate import Builder, TablePath
from trainkit.reactions import Reactions
from trainkit.recipe import problem_at
from trainkit.run import ScheduledValue
from trainkit.targets import BATCH_SIZE
from trainkit.timetable import whole_schedule

MOST_UPDATES = 10_000_000  # sizes are worked out update by update, and kept
_TRIES = 4  # lengths taken from each other before halving, which always comes to an end
_TOO_LARGE = 1 << 62


def plan_batch_sizes(
    builder: Builder, feed: ResidentFeed | StreamedFeed, planned: Callable[[int], int] | None = None
) -> Clock:
    """Let the feed follow ``[[schedule.also]] target = "data.batch_size"``, where the recipe has it.

    A duration in epochs, samples or tokens promises an amount of data, so the run's length follows from the sizes.

    Args:
        builder: its clock has the run's length as it is with the recipe's batch size.
        feed: gets the plan.
        planned: of a run that is continued: given its length, the length that its schedules see.

    Returns:
        The clock of the run.

    Raises:
        RecipeError: if a batch would have more samples than there are, or the run no update.
    """
    assert builder.clock is not None
    clock = builder.clock
    tables = builder.tables["schedule"]["also"]
    path: TablePath | None = next(
        (("schedule", "also", number) for number, table in enumerate(tables) if table["target"] == BATCH_SIZE), None
    )
    if path is None:
        return clock if planned is None else dataclasses.replace(clock, planned_updates=planned(clock.total_updates))
    sizes = _Sizes(builder, feed, path)
    seen, total = settle(sizes.updates, clock.total_updates)
    if not sizes.fit(seen):
        sizes.at(clock.total_updates)  # no length fits the schedule: say so of one that the user knows
    if planned is not None and (held := planned(total)) not in (seen, total):
        seen, total = held, sizes.updates(held) or total
    if total < 1:
        message = f'duration = "{builder.tables["run"]["duration"]}" comes to no update at all'
        raise RecipeError([problem_at(builder.tables, "run.duration", message, "lengthen it, or begin with less")])
    cuts = sizes.cuts(seen, total)
    feed.follow(cuts)
    return dataclasses.replace(
        clock, total_updates=total, planned_updates=0 if seen == total else seen, epoch_starts=cuts.starts
    )


def settle(updates_of: Callable[[int], int | None], first: int) -> tuple[int, int]:
    """Find a run's length where schedules see that length, and the length follows from what they say.

    Each length is tried with what the one before it came to, from ``first`` on, until one comes to itself. Where that
    does not happen at once, the space between a length that comes to more than itself and one that does not is halved
    until they are neighbours; the one that comes nearer to itself counts, or the longer one. Schedules then see a
    length that is not quite the run's, whose data is still what was asked for.

    Args:
        updates_of: the updates that a run takes whose schedules see the given length; ``None`` where they do not fit
            it, which counts as too short.
        first: the first length to try.

    Returns:
        The length that schedules see, and the updates of the run.
    """
    known: dict[int, int] = {}

    def tried(length: int) -> int:
        if length not in known:
            updates = updates_of(length)
            known[length] = length + 1 if updates is None else updates
        return known[length]

    length = first
    for _ in range(_TRIES):
        if length < 1 or tried(length) == length:
            return length, length
        length = tried(length)
    low = max((n for n, updates in known.items() if updates > n), default=0)
    high = min((n for n, updates in known.items() if updates < n and n > low), default=2 * max(known))
    while tried(high) > high and high < MOST_UPDATES:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if (updates := tried(middle)) == middle:
            return middle, middle
        low, high = (middle, high) if updates > middle else (low, middle)
    seen = min(high, low, key=lambda n: abs(tried(n) - n)) if low else high
    return seen, tried(seen)


class _Sizes:
    """What one table of a recipe says of batch sizes."""

    def __init__(self, builder: Builder, feed: ResidentFeed | StreamedFeed, path: TablePath) -> None:
        assert builder.clock is not None
        self.builder = builder
        self.clock = builder.clock
        self.path = path
        self.samples = len(feed.plan.dataset.splits["train"])
        self.drop_last = feed.plan.drop_last
        table = builder.table(path)
        absolute = builder.recipe.components[path].capabilities.get("absolute")
        self.base: float = table["base"] if table["base"] is not None else 1.0 if absolute else feed.batch_size
        self.duration = Span.parse(builder.tables["run"]["duration"])

    def at(self, length: int) -> Callable[[int], int]:
        """The size of a batch by position, in a run whose schedules see ``length``."""
        self.builder.clock = dataclasses.replace(self.clock, total_updates=length, planned_updates=0)
        value = ScheduledValue(BATCH_SIZE, self.base, whole_schedule(self.builder, self.path, Reactions()), whole=True)
        known = array("q")

        def size(position: int) -> int:
            while len(known) <= position:
                if len(known) >= MOST_UPDATES:
                    message = (
                        f"the batch size is scheduled in runs of at most {MOST_UPDATES:,} updates; this one is longer"
                    )
                    self._refuse(message, "shorten the run, or leave the batch size alone")
                try:
                    known.append(min(int(value.at(len(known), length)), _TOO_LARGE))
                except OverflowError:
                    known.append(_TOO_LARGE)
            return known[position]

        return size

    def fit(self, length: int) -> bool:
        """Whether the schedule takes a run of that length."""
        try:
            self.at(length)
        except RecipeError:
            return False
        return True

    def updates(self, length: int) -> int | None:
        """The updates of the run, if schedules see ``length``; ``None`` where the schedule does not fit that."""
        if not self.fit(length):
            return None
        size, span, accumulate = self.at(length), self.duration, self.clock.accumulate
        if span.unit == "ba":
            return math.floor(span.amount)
        if span.unit == "ep":
            epochs, part = divmod(span.amount, 1)
            updates = 0
            for number, (sizes, _) in enumerate(walk(self.samples, accumulate, self.drop_last, size)):
                if number == epochs:
                    return updates + math.floor(part * len(sizes))
                updates += len(sizes)
        left = span.amount / (self.clock.tokens_per_sample or 1 if span.unit == "tok" else 1)
        for position in count():
            left -= min(size(position), self.samples) * accumulate
            if left < 0:
                return position
        raise AssertionError("both loops are endless")

    def cuts(self, length: int, total: int) -> Cuts:
        """The plan of a run of ``total`` updates whose schedules see ``length``.

        Raises:
            RecipeError: if a batch of it would have more samples than there are.
        """
        size = self.at(length)
        for position in range(total):
            if (wanted := size(position)) > self.samples:
                shown = "too large a number" if wanted == _TOO_LARGE else str(wanted)
                message = f"{BATCH_SIZE} is {shown} at update {position}; the training split has {self.samples} samples"
                self._refuse(message, "let it grow less: see 'maximum' where the schedule has one")
        return Cuts.plan(self.samples, self.clock.accumulate, self.drop_last, size, total)

    def _refuse(self, message: str, cure: str) -> None:
        where = f"[{'.'.join(map(str, self.path))}]"
        raise RecipeError([problem_at(self.builder.tables, self.path, f"{where} {message}", cure)])
