"""Scheduled values: warm-up before a schedule, and setting every value for the next update."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from trainkit.protocols import Events, Schedule
from trainkit.run import Run, ScheduledValue


def warmed_up(body: Schedule, warmup: int) -> Schedule:
    """Put a linear warm-up before a schedule: (t + 1) / (W + 1) for t < W, then the body on its own clock.

    The body starts at its full value at ``t = W`` and has ``T - W`` updates; no update has rate zero.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2; arXiv 1706.02677.
    """
    if warmup == 0:
        return body

    def factor(t: int, T: int, events: Events = ()) -> float:
        if t < warmup:
            return (t + 1) / (warmup + 1)
        return body(t - warmup, T - warmup, events)

    return factor


def set_values(run: Run, groups: list[dict[str, Any]], t: int) -> None:
    """Write every scheduled value of update ``t`` into the optimizer's groups; tensors are filled in place."""
    total, events = run.total_updates, run.events
    shared: dict[int, float] = {}
    for value in run.schedules:
        key = id(value.schedule)
        if key not in shared:
            shared[key] = value.schedule(t, total, events)
        number = value.base * shared[key]
        group = groups[value.group]
        current = group[value.name]
        if isinstance(current, Tensor):
            current.fill_(number)
        else:
            group[value.name] = number


def values_at(schedules: tuple[ScheduledValue, ...], t: int, total: int, events: Events = ()) -> dict[str, float]:
    """Every scheduled value of update ``t`` by label."""
    return {value.label: value.base * value.schedule(t, total, events) for value in schedules}
