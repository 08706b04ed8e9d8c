"""Scheduled values: warm-up before a schedule, cool-down after it, and setting every value for the next update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from trainkit.protocols import Events, Schedule
from trainkit.remembering import for_events
from trainkit.run import Run, ScheduledValue


def warmed_up(
    body: Schedule,
    warmup: int,
    rise: Callable[[int], float] | None = None,
    overlay: bool = False,
    cooldown: int = 0,
) -> Schedule:
    """Put a warm-up before a schedule, and hold its end value after it.

    The body starts at its full value at ``t = W`` and has ``T - W - C`` updates of its own clock; the last ``C`` have
    the value of its end. With the default rise no update has rate zero.

    Args:
        body: the schedule.
        warmup: W, updates of the warm-up.
        rise: the factor of each of them; by default (t + 1) / (W + 1).
        overlay: start the body's clock with the run instead, hidden until the warm-up is over.
        cooldown: C, updates for which the end value is held.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2; arXiv 1706.02677. Overlay: the default of
    timm.
    """
    if warmup == 0 and cooldown == 0:
        return body
    climb = rise or rising(warmup)
    begin = 0 if overlay else warmup
    shifted = for_events(lambda events: [(at - begin, kind) for at, kind in events])

    def factor(t: int, T: int, events: Events = ()) -> float:
        if t < warmup:
            return climb(t)
        length = T - begin - cooldown
        past = shifted(events) if events and begin else events
        return body(min(t - begin, length) if cooldown else t - begin, length, past)

    return factor


def rising(warmup: int, start: float | None = None, shape: str = "linear") -> Callable[[int], float]:
    """The factors of a warm-up over ``warmup`` updates, which would be 1 at ``t = warmup``.

    Args:
        warmup: W, the length in updates.
        start: factor of update 0; ``None`` is 1 / (W + 1).
        shape: linear: start + (1 - start) t / W; cosine: half a cosine; exp: start^(1 - t / W), with a start above 0.
    """
    low = 1 / (warmup + 1) if start is None else start

    def factor(t: int) -> float:
        if shape == "exp":
            return float(low ** (1 - t / warmup))
        if shape == "cosine":
            return low + (1 - low) * math.sin(math.pi / 2 * t / warmup) ** 2
        return (t + 1) / (warmup + 1) if start is None else low + (1 - low) * t / warmup

    return factor


def product(schedules: Sequence[Schedule]) -> Schedule:
    """The product of schedules on one clock."""

    def factor(t: int, T: int, events: Events = ()) -> float:
        return math.prod(schedule(t, T, events) for schedule in schedules)

    return factor


def set_values(run: Run, groups: list[dict[str, Any]], t: int) -> None:
    """Set every scheduled value for update ``t``; tensors in the optimizer's groups are filled in place."""
    total, events = run.schedule_updates, run.events
    shared: dict[int, float] = {}
    for value in run.schedules:
        key = id(value.schedule)
        if key not in shared:
            shared[key] = value.schedule(t, total, events)
        number = value.base * shared[key]
        if value.put is not None:
            value.put(max(1, round(number)) if value.whole else number)
            continue
        assert value.group is not None
        group = groups[value.group]
        current = group[value.name]
        if isinstance(current, Tensor):
            current.fill_(number)
        else:
            group[value.name] = number


def values_at(schedules: tuple[ScheduledValue, ...], t: int, total: int, events: Events = ()) -> dict[str, float]:
    """Every scheduled value of update ``t`` by label."""
    return {value.label: value.at(t, total, events) for value in schedules}
