"""What every schedule keeps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from trainkit.component import Component
from trainkit.errors import RecipeError
from trainkit.protocols import Events, Schedule
from trainkit.testing.build import made
from trainkit.testing.contract import Contract

T = 48  # updates of the run: 16 epochs, so that the times of examples, a few updates each, lie well within
SHORT = 50


class ScheduleContract(Contract):
    """A schedule is a pure function of time, ``f(t, T, events)``."""

    kind = "schedule"

    @pytest.fixture
    def schedule(self, component: Component) -> Schedule:
        """The schedule that the component's example makes, for a run of T updates."""
        return made(component, updates=T)  # type: ignore[no-any-return]

    def test_is_pure(self, component: Component, schedule: Schedule) -> None:
        """The same update of the same run has the same value, in whatever order values are asked for."""
        forwards = [schedule(t, T) for t in range(T + 5)]
        backwards = [schedule(t, T) for t in reversed(range(T + 5))][::-1]
        between = [(schedule(t, T // 2), schedule(t, T))[1] for t in range(T + 5)]
        for t, values in enumerate(zip(forwards, backwards, between, strict=True)):
            assert len(set(values)) == 1, (
                f"{_said(component)}: update {t} of {T} has the values {sorted(set(values))}, whatever was asked for "
                "before; make the value of t, T and events alone"
            )

    def test_goes_on_where_a_run_is_continued(self, component: Component, schedule: Schedule) -> None:
        """Built anew in the middle of a run, it has the values that the first one would have had."""
        straight = [schedule(t, T) for t in range(T)]
        for stop in (1, T // 2, T - 1):
            again: Schedule = made(component, updates=T)
            after = [again(t, T) for t in range(stop, T)]
            assert after == straight[stop:], (
                f"{_said(component)}: built anew at update {stop}, as in a run that is continued, it gives {after[:3]} "
                f"..., and {straight[stop : stop + 3]} ... in one go; keep nothing from one call to the next"
            )

    def test_gives_finite_numbers(self, component: Component, schedule: Schedule) -> None:
        """Every value is a finite number of Python's, from update 0 to the end, and long after it."""
        for t in (*range(T + 1), 2 * T, 1000 * T):
            value = schedule(t, T)
            assert type(value) in (float, int), (
                f"{_said(component)}: update {t} of {T} has a {type(value).__name__}; return a float, as a tensor "
                "makes every update wait for the device"
            )
            assert math.isfinite(value), f"{_said(component)}: update {t} of {T} has the value {value}"

    def test_holds_its_end(self, component: Component, schedule: Schedule) -> None:
        """After T it holds its end value, unless the run's length has no part in it: then it may go on."""
        end = schedule(T, T)
        for t in (T + 1, T + T // 2, 2 * T, 10 * T):
            value = schedule(t, T)
            assert value == end or value == schedule(t, 100 * T), (
                f"{_said(component)}: update {t} of {T} has the value {value:g}, and its end is {end:g}; a schedule "
                "that depends on T stays at its end, as with min(t, T)"
            )

    def test_fits_or_refuses_every_length(self, component: Component) -> None:
        """In runs of any length its values are finite, or its ``check`` refuses the length in words."""
        schedule: Schedule = made(component, updates=T)
        check = getattr(schedule, "check", lambda length: None)
        for length in range(1, SHORT + 1):
            refusal: str | None = None
            try:
                check(length)
            except ValueError as error:
                refusal = str(error)
            except Exception as error:
                raise AssertionError(
                    f"{_said(component)}: check({length}) raises {type(error).__name__}: {error}; raise ValueError "
                    "with what does not fit, and in a second line what to do"
                ) from error
            assert refusal is None or refusal.strip(), (
                f"{_said(component)}: check({length}) raises ValueError without a word; say what does not fit, and in "
                "a second line what to do"
            )
            if refusal is not None:
                continue
            try:
                bad = [t for t in range(length + 1) if not math.isfinite(schedule(t, length))]
            except Exception as error:
                raise AssertionError(
                    f"{_said(component)}: in a run of {length} updates it raises {type(error).__name__}: {error}; give "
                    "a value for every length, or refuse it by check(T)"
                ) from error
            assert not bad, (
                f"{_said(component)}: update {bad[0]} of {length} has no finite value; refuse it by check(T)"
            )

    def test_leaves_events_to_reactions(self, component: Component, schedule: Schedule) -> None:
        """Events of reactions may come with any call, and change nothing by themselves."""
        events: list[tuple[int, str]] = [(3, "other:reduce"), (T // 2, "other:restart")]
        given: Events = events
        for t in range(T + 1):
            value = schedule(t, T, given)
            assert value == schedule(t, T), (
                f"{_said(component)}: update {t} of {T} has the value {value:g} after events of others, and "
                f"{schedule(t, T):g} without; what acts upon events is a reaction"
            )
        assert events == [(3, "other:reduce"), (T // 2, "other:restart")], (
            f"{_said(component)}: it changes the list of events, which is the run's own; copy it"
        )

    def test_is_monotone_as_declared(self, component: Component) -> None:
        """Declared ``monotone``, it only falls or only rises, in a run of any length and after its end."""
        if not component.capabilities.get("monotone"):
            pytest.skip("it does not declare monotone")
        for length in (1, 2, 10, T, 1000):
            try:
                schedule: Schedule = made(component, updates=length)
            except RecipeError:
                continue  # its times do not fit so short a run
            values = [schedule(t, length) for t in range(length + 5)]
            steps = [after - before for before, after in pairwise(values) if abs(after - before) > 1e-15 * abs(before)]
            turns = any(step > 0 for step in steps) and any(step < 0 for step in steps)
            assert not turns, (
                f"{_said(component)}: it declares monotone, and both rises and falls in a run of {length} updates; "
                "leave monotone out"
            )


def _said(component: Component) -> str:
    return f"schedule '{component.name}'"
