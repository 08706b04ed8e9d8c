"""Schedules that do not fit every length, and say so before the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainkit import Events, Schedule


class Checked:
    """A schedule that can be asked whether it fits a length.

    Args:
        schedule: the schedule.
        fits: raises `ValueError` for a ``T`` that it does not fit.
    """

    def __init__(self, schedule: Schedule, fits: Callable[[int], None]) -> None:
        self._schedule = schedule
        self._fits = fits

    def __call__(self, t: int, T: int, events: Events = ()) -> float:
        """The factor for update ``t`` of ``T``."""
        return self._schedule(t, T, events)

    def check(self, T: int, /) -> None:
        """Raise `ValueError` where ``T`` updates do not fit."""
        self._fits(T)


def check_inside(schedule: Schedule, T: int, name: str) -> None:
    """Ask a schedule inside another one; what it refuses is said with its place in the other's table."""
    if (check := getattr(schedule, "check", None)) is None:
        return
    try:
        check(T)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
