"""What was made of a list of events, until there are more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Made = TypeVar("Made")
Events = Sequence[tuple[int, str]]


def for_events(make: Callable[[Events], Made]) -> Callable[[Events], Made]:
    """Remember what ``make`` gave for a list of events while the same list is as long as it was.

    Schedules are asked at every update. What they make of the events anew would take longer the more have come: a run
    of 10,000 epochs has a thousand. Lists of events grow at their end and change nowhere else.

    Args:
        make: a pure function of the events.
    """
    newest: tuple[Events, int, Made] | None = None

    def remembered(events: Events) -> Made:
        nonlocal newest
        if newest is None or newest[0] is not events or newest[1] != len(events):
            newest = events, len(events), make(events)
        return newest[2]

    return remembered
