"""When the trials of a study were trained, from its log: which ones at once, and where time was lost."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainkit.errors import MachineError
from trainkit.search.log import NAME, Event, read_events

_RESTS = {"pause": "paused", "prune": "pruned", "done": "done", "retry": "begun again", "interrupt": "interrupted"}


@dataclass(frozen=True)
class Stretch:
    """A piece of a trial that was trained without a break.

    Args:
        trial: its number.
        part: which of its runs, where it has several.
        begin: seconds since the study began, the time between its processes left out.
        end: when it came to rest.
        how: ``done``, ``paused``, ``pruned``, ``begun again``, ``interrupted``, or why it failed.
    """

    trial: int
    part: int
    begin: float
    end: float
    how: str


@dataclass(frozen=True)
class Course:
    """How a study went on.

    Args:
        stretches: of training, in the order in which they ended.
        seconds: from its beginning to the last thing that happened, the time between its processes left out.
        over: why the search is over; empty while it goes on.
    """

    stretches: Sequence[Stretch]
    seconds: float
    over: str

    @property
    def rows(self) -> list[int]:
        """The row of each stretch in a picture that has as many rows as were trained at once at the most."""
        return _rows(self.stretches)


def course_of(folder: Path) -> Course:
    """How a study went on, from its log; nothing where it cannot be read.

    A process of the study that was killed left no word of its end: the time until another one went on is then seen as
    a gap.
    """
    made: list[Stretch] = []
    over, began, now, lost = "", math.nan, 0.0, 0.0
    away = False  # whether no process of the study runs
    several = False
    with contextlib.suppress(MachineError, KeyError, TypeError, ValueError):
        for event in read_events(folder / NAME):
            at = float(event["time"])
            if event["event"] == "study":
                began, several = at, event.get("parts", 1) > 1
            if away:
                lost, away = lost + (at - began - lost - now), False
            now = max(now, at - began - lost)  # a clock may be set back
            if event["event"] == "session":
                away = True
            elif event["event"] == "end":
                over = str(event["reason"])
            elif event["event"] == "widen":
                over = ""
            elif (found := _stretch(event, now, several)) is not None:
                made.append(found)
    return Course(made, now, over)


def _stretch(event: Event, now: float, several: bool) -> Stretch | None:
    """What an event says of training: the log has how long it took, and when it ended."""
    kind, seconds = event["event"], float(event.get("seconds", 0.0))
    if seconds <= 0 or not math.isfinite(seconds) or (several and kind in ("pause", "prune", "done", "fail")):
        return None  # of trials with several runs each run has its own line
    if kind in ("part", "fail"):
        how = str(event["status"])
    elif kind in _RESTS:
        how = _RESTS[kind]
    else:
        return None
    return Stretch(int(event["trial"]), int(event.get("part", 0)), max(0.0, now - seconds), now, how)


def _rows(stretches: Sequence[Stretch]) -> list[int]:
    order = sorted(range(len(stretches)), key=lambda place: (stretches[place].begin, stretches[place].trial))
    rows, free, busy = [0] * len(stretches), list[int](), list[tuple[float, int]]()
    count = 0
    for place in order:
        one = stretches[place]
        slack = 0.02 * (one.end - one.begin) + 1e-3  # one that follows another begins before that one's end is noted
        while busy and busy[0][0] <= one.begin + slack:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, count = count, count + 1
        heapq.heappush(busy, (one.end, row))
        rows[place] = row
    return rows
