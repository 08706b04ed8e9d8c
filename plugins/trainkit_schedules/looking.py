"""What reactions are made of: the figure they look at, the events they leave, the schedules that follow from these.

What a figure decides is kept as events, so that every schedule here is a pure function of ``(t, T, events)``. A
schedule acts upon its own reaction's events, and hands all that have happened by ``t`` on to its body, on the body's
clock.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainkit import for_events

if TYPE_CHECKING:
    from trainkit import Events, Schedule


class Best:
    """The best value of a figure so far; lower is better, and what is not a finite number never is.

    Args:
        threshold: how much better a value must be to count.
        mode: rel: as a share of the best one's size, which is right for negative figures too; abs: as it is.
    """

    def __init__(self, threshold: float, mode: str) -> None:
        self.threshold = threshold
        self.mode = mode
        self.value: float | None = None

    def beaten_by(self, value: float) -> bool:
        """Whether ``value`` is better; it is the best one then."""
        if not math.isfinite(value) or (self.value is not None and not value < self._bar(self.value)):
            return False
        self.value = value
        return True

    def _bar(self, best: float) -> float:
        if self.mode == "abs":
            return best - self.threshold
        # best - threshold * |best|, rounded as torch does for figures from 0 up. Torch's best * (1 - threshold) lets
        # anything pass where figures are negative.
        return best * (1 - self.threshold if best >= 0 else 1 + self.threshold)


def knowing() -> Callable[[Events, int], Events]:
    """A function that gives the events that have happened by an update: the list itself where all have."""
    latest = for_events(lambda events: max(at for at, _ in events))

    def known(events: Events, t: int) -> Events:
        return [(at, kind) for at, kind in events if at <= t] if events and latest(events) > t else events

    return known


class Plateau:
    """Events ``reduce``; see the factory `plateau`."""

    def __init__(self, best: Best, factor: float, patience: int, cooldown: int, lowest: float) -> None:
        self.best = best
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.lowest = lowest
        self.bad = 0
        self.cooling = 0

    def observe(self, t: int, value: float, /) -> str | None:
        """Count values without improvement."""
        self.bad = 0 if self.best.beaten_by(value) else self.bad + 1
        if self.cooling:
            self.cooling -= 1
            self.bad = 0
        if self.bad <= self.patience:
            return None
        self.bad, self.cooling = 0, self.cooldown
        return "reduce"

    def react(self, body: Schedule, start: int, /) -> Schedule:
        """The body times ``factor`` for each reduction."""
        known, count = knowing(), for_events(lambda events: sum(kind == "reduce" for _, kind in events))

        def factor(t: int, T: int, events: Events = ()) -> float:
            events = known(events, t)
            value = body(t, T, events)
            reductions = count(events)
            # A value that the body itself takes below the lowest is left there.
            return max(value * self.factor**reductions, min(self.lowest, value)) if reductions else value

        return factor

    def describe(self, kind: str, /) -> str:
        """What the event does."""
        least = f", not below {self.lowest:g} of its base value" if self.lowest else ""
        return f"learning rate times {self.factor:g}{least}"

    def save(self) -> Mapping[str, Any]:
        """Best value and counters."""
        return {"best": self.best.value, "bad": self.bad, "cooling": self.cooling}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Undo `save`."""
        self.best.value, self.bad, self.cooling = state["best"], state["bad"], state["cooling"]


class Stagnation:
    """Events ``restart``; see the factory `stagnation_restart`."""

    def __init__(self, window: int, threshold: float, min_gap: int, peak: float) -> None:
        self.window = window
        self.threshold = threshold
        self.min_gap = min_gap
        self.peak = peak
        # Since the last restart: the best value before the window, the values in it, and how many there were.
        self.before: float | None = None
        self.recent: list[float | None] = []
        self.seen = 0
        self.restarts = 0

    def observe(self, t: int, value: float, /) -> str | None:
        """Compare the best value of the window with the best before it."""
        self.seen += 1
        self.recent.append(value if math.isfinite(value) else None)
        if len(self.recent) > self.window:
            self.before = _lowest([self.before, self.recent.pop(0)])
        if self.seen <= self.window or (self.restarts and self.seen < self.min_gap):
            return None
        within = _lowest(self.recent)
        if within is not None and (self.before is None or self.before - within >= self.threshold):
            return None
        self.before, self.recent, self.seen = None, [], 0
        self.restarts += 1
        return "restart"

    def react(self, body: Schedule, start: int, /) -> Schedule:
        """The body from its beginning at each restart, over what the run has left then."""

        @for_events
        def newest(events: Events) -> tuple[int, Events] | None:
            """The last restart, and the events after it."""
            moments = [at for at, kind in events if kind == "restart"]
            if not moments:
                return None
            begin = max(0, *moments)  # a restart within the warm-up has nothing to begin again
            return begin, [(at - begin, kind) for at, kind in events if at > begin]

        known = knowing()

        def factor(t: int, T: int, events: Events = ()) -> float:
            events = known(events, t)
            restart = newest(events)
            if restart is None:
                return body(t, T, events)
            begin, after = restart
            return self.peak * body(t - begin, T - begin, after)

        return factor

    def describe(self, kind: str, /) -> str:
        """What the event does."""
        peak = f", times {self.peak:g}" if self.peak != 1 else ""
        return f"the schedule begins again over what is left of the run{peak}"

    def save(self) -> Mapping[str, Any]:
        """What the next comparison needs."""
        return {"before": self.before, "recent": list(self.recent), "seen": self.seen, "restarts": self.restarts}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Undo `save`."""
        self.before, self.recent = state["before"], list(state["recent"])
        self.seen, self.restarts = state["seen"], state["restarts"]


def _lowest(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


class Hold:
    """Events ``hold`` and ``resume``; see the factory `freeze`."""

    def __init__(self, best: Best, at: Sequence[int], length: int | None, patience: int | None) -> None:
        self.best = best
        self.at = tuple(at)
        self.length = length
        self.patience = patience
        self.bad = 0
        self.since: int | None = None

    def observe(self, t: int, value: float, /) -> str | None:
        """Count values without improvement; a held clock waits for one that is better."""
        if self.patience is None:
            return None
        better = self.best.beaten_by(value)
        if self.since is not None:
            over = self.length is not None and t >= self.since + self.length
            if not over and not better:
                return None
            self.since, self.bad = None, 0
            if not over:
                return "resume"
        self.bad = 0 if better else self.bad + 1
        if self.bad <= self.patience:
            return None
        self.since, self.bad = t, 0
        return "hold"

    def react(self, body: Schedule, start: int, /) -> Schedule:
        """The body, whose clock stands still in every window."""
        fixed = [(at - start, at - start + (self.length or 0)) for at in self.at]

        @for_events
        def holds(events: Events) -> tuple[Covered, Events]:
            """When the clock is held, and the events on the body's clock."""
            covered = Covered([*fixed, *self._windows(events)])
            return covered, [(at - covered.before(at), kind) for at, kind in events]

        known = knowing()

        def factor(t: int, T: int, events: Events = ()) -> float:
            covered, inside = holds(known(events, t))
            return body(t - covered.before(t), T, inside)

        return factor

    def check(self, T: int, /) -> None:
        """Raise `ValueError` where the clock is to be held after the run."""
        for place, at in enumerate(self.at):
            if at >= T:
                raise ValueError(f"at.{place} is update {at}, the run has {T}\n  hold earlier, or lengthen the run")

    def _windows(self, events: Events) -> list[tuple[int, int]]:
        """First update and first update after each hold that events decided; one that goes on has no end yet."""
        windows: list[tuple[int, int]] = []
        for at, kind in events:
            if kind == "hold":
                windows.append((at, sys.maxsize if self.length is None else at + self.length))
            elif kind == "resume" and windows:
                begin, end = windows[-1]
                windows[-1] = (begin, min(at, end))
        return windows

    def describe(self, kind: str, /) -> str:
        """What the event does."""
        if kind == "resume":
            return "the schedule goes on"
        most = f", for {self.length} updates at most" if self.length is not None else ""
        return f"the schedule is held until the figure is better{most}"

    def save(self) -> Mapping[str, Any]:
        """Best value, counter, and since when the clock is held."""
        return {"best": self.best.value, "bad": self.bad, "since": self.since}

    def restore(self, state: Mapping[str, Any], /) -> None:
        """Undo `save`."""
        self.best.value, self.bad, self.since = state["best"], state["bad"], state["since"]


class Covered:
    """Updates that lie in at least one of several windows.

    Args:
        windows: the first update of each, and the first after it.
    """

    def __init__(self, windows: Sequence[tuple[int, int]]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._sums = [0]  # how many lie before each window
        reach = 0
        for begin, end in sorted(windows):
            begin = max(begin, reach)
            if end > begin:
                self._begins.append(begin)
                self._ends.append(end)
                self._sums.append(self._sums[-1] + end - begin)
                reach = end

    def before(self, t: int) -> int:
        """How many of the updates from 0 to ``t - 1`` do."""
        place = bisect_left(self._begins, t)
        return self._sums[place] - max(0, self._ends[place - 1] - t) if place else 0
