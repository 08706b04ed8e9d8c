"""Each contract of schedules catches a schedule that breaks it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Events, Schedule
from trainkit.testing import ScheduleContract

MONOTONE = {"monotone": True}


def straight(t: int, T: int, events: Events = ()) -> float:
    return 1 - min(t, T) / (T + 1)


def line() -> Schedule:
    return straight


def counting() -> Schedule:
    """Counts its calls in place of updates."""
    calls = -1

    def factor(t: int, T: int, events: Events = ()) -> float:
        nonlocal calls
        calls += 1
        return straight(calls, T)

    return factor


def beginning_anew() -> Schedule:
    """Counts from the first update that it is asked for."""
    first: list[int] = []

    def factor(t: int, T: int, events: Events = ()) -> float:
        first[:] = first or [t]
        return straight(max(0, t - first[0]), T)

    return factor


def of(value: Callable[[int, int], Any]) -> Callable[[], Schedule]:
    """A factory of a schedule that takes no notice of events."""

    def factory() -> Schedule:
        return lambda t, T, events=(): value(t, T)

    return factory


def listening() -> Schedule:
    return lambda t, T, events=(): straight(t, T) * 0.5 ** len([at for at, _ in events if at <= t])


def emptying() -> Schedule:
    def factor(t: int, T: int, events: Any = ()) -> float:
        if events:
            events.clear()
        return straight(t, T)

    return factor


class Checked:
    """A schedule that is asked for its length."""

    def __init__(self, refuse: Callable[[int], None], body: Schedule = straight) -> None:
        self.check = refuse
        self.body = body

    def __call__(self, t: int, T: int, events: Events = ()) -> float:
        return self.body(t, T)


def speechless() -> Schedule:
    def refuse(T: int) -> None:
        if T < 10:
            raise ValueError

    return Checked(refuse)


def failing() -> Schedule:
    def refuse(T: int) -> None:
        assert T >= 10

    return Checked(refuse)


def refusing() -> Schedule:
    """Divides by zero too, in a run of a length that it refuses."""

    def refuse(T: int) -> None:
        if T < 2:
            raise ValueError("one update is no line\nwrite a longer run")

    return Checked(refuse, of(lambda t, T: 1 - t / (T - 1))())


def made(factory: Callable[[], Schedule], name: str) -> Component:
    return Component("schedule", factory, name, capabilities=MONOTONE)


HEALTHY = made(line, "line")
WAVE = of(lambda t, T: 0.5 + 0.5 * math.cos(math.pi * t / T))
MUTANTS = [
    Mutant(ScheduleContract, "is_pure", made(counting, "counting"), HEALTHY, "whatever was asked for before"),
    Mutant(
        ScheduleContract,
        "goes_on_where_a_run_is_continued",
        made(beginning_anew, "beginning_anew"),
        HEALTHY,
        "built anew at update 1, as in a run that is continued",
    ),
    Mutant(
        ScheduleContract,
        "gives_finite_numbers",
        made(of(lambda t, T: math.inf if t > T else 0.5), "endless"),
        HEALTHY,
        "update 96 of 48 has the value inf",
    ),
    Mutant(
        ScheduleContract,
        "gives_finite_numbers",
        made(of(lambda t, T: torch.tensor(straight(t, T))), "tensors"),
        HEALTHY,
        "has a Tensor; return a float",
    ),
    Mutant(ScheduleContract, "holds_its_end", made(WAVE, "wave"), HEALTHY, "update 49 of 48 .* stays at its end"),
    Mutant(
        ScheduleContract,
        "fits_or_refuses_every_length",
        made(of(lambda t, T: 1 - t / (T - 1)), "divided"),
        made(refusing, "refusing"),
        "in a run of 1 updates it raises ZeroDivisionError",
    ),
    Mutant(
        ScheduleContract,
        "fits_or_refuses_every_length",
        made(speechless, "speechless"),
        HEALTHY,
        r"check\(1\) raises ValueError without a word",
    ),
    Mutant(
        ScheduleContract, "fits_or_refuses_every_length", made(failing, "failing"), HEALTHY, "raises AssertionError"
    ),
    Mutant(
        ScheduleContract,
        "fits_or_refuses_every_length",
        made(of(lambda t, T: math.nan if t == 7 == T else 0.5), "hole"),
        HEALTHY,
        "update 7 of 7 has no finite value",
    ),
    Mutant(
        ScheduleContract,
        "leaves_events_to_reactions",
        made(listening, "listening"),
        HEALTHY,
        "what acts upon events is a reaction",
    ),
    Mutant(
        ScheduleContract,
        "leaves_events_to_reactions",
        made(emptying, "emptying"),
        HEALTHY,
        "changes the list of events",
    ),
    Mutant(
        ScheduleContract,
        "is_monotone_as_declared",
        made(of(lambda t, T: min(t, 20) - max(0, t - 20) if t <= T else 0.0), "turning"),
        HEALTHY,
        "declares monotone, and both rises and falls",
    ),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(ScheduleContract, MUTANTS)
