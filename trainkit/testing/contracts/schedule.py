"""What every schedule keeps."""

from __future__ import annotations

import math

import pytest

from trainkit.component import Component
from trainkit.protocols import Schedule
from trainkit.testing.build import made
from trainkit.testing.contract import Contract

T = 12  # updates of the run


class ScheduleContract(Contract):
    """A schedule is a pure function of time, ``f(t, T, events)``."""

    kind = "schedule"

    @pytest.fixture
    def schedule(self, component: Component) -> Schedule:
        """The schedule that the component's example makes, for a run of T updates."""
        return made(component, updates=T)  # type: ignore[no-any-return]

    def test_is_pure(self, component: Component, schedule: Schedule) -> None:
        """The same update has the same value, in whatever order values are asked for."""
        forwards = [schedule(t, T) for t in range(T + 1)]
        backwards = [schedule(t, T) for t in reversed(range(T + 1))]
        assert forwards == backwards[::-1], f"{component.name}: the value depends on what was asked for before"

    def test_is_finite_and_defined_after_the_end(self, component: Component, schedule: Schedule) -> None:
        """Values are finite numbers at 0, at T, and after T, where the last one stays."""
        values = [schedule(t, T) for t in (*range(T + 1), 2 * T, 100 * T)]
        assert all(math.isfinite(value) for value in values), f"{component.name}: {values}"
        assert values[-1] == values[T], f"{component.name}: after T it holds its end value"
