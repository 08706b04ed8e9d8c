"""Each contract of reactions catches a reaction that breaks it."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Events, Reaction, Schedule, for_events
from trainkit.testing import ReactionContract


class Patient:
    """Halves the rate after two figures that are not better."""

    def __init__(self) -> None:
        self.best: float | None = None
        self.bad = 0
        self.seen: list[int] = []

    def observe(self, t: int, value: float, /) -> str | None:
        self.seen.append(t)
        if math.isfinite(value) and (self.best is None or value < self.best - 1e-4):
            self.best, self.bad = value, 0
            return None
        self.bad += 1
        if self.bad < 2:
            return None
        self.bad = 0
        return "halve"

    def react(self, body: Schedule, start: int, /) -> Schedule:
        times = for_events(lambda events: sorted(at for at, kind in events if kind == "halve"))

        def factor(t: int, T: int, events: Events = ()) -> float:
            return body(t, T, events) * 0.5 ** sum(at <= t for at in times(events))

        return factor

    def describe(self, kind: str, /) -> str:
        return "learning rate times 0.5"

    def save(self) -> Mapping[str, Any]:
        return {"best": self.best, "bad": self.bad, "seen": list(self.seen)}

    def restore(self, state: Mapping[str, Any], /) -> None:
        self.best, self.bad, self.seen = state["best"], state["bad"], list(state["seen"])


class Labelled(Patient):
    def observe(self, t: int, value: float, /) -> str | None:
        return "patient:halve" if super().observe(t, value) else None


class Speechless(Patient):
    def describe(self, kind: str, /) -> str:
        return ""


class OfNumbers(Patient):
    """Takes every figure for a finite number."""

    def observe(self, t: int, value: float, /) -> str | None:
        int(value)
        return super().observe(t, value)


class Forgetful(Patient):
    """Forgets how long it has waited."""

    def save(self) -> Mapping[str, Any]:
        return {"best": self.best, "seen": []}

    def restore(self, state: Mapping[str, Any], /) -> None:
        self.best = state["best"]


class Lax(Patient):
    """Saves all, and takes back half of it."""

    def restore(self, state: Mapping[str, Any], /) -> None:
        self.best = state["best"]


class Tables(Patient):
    def save(self) -> Mapping[str, Any]:
        return {**super().save(), "seen": set(self.seen)}


class Aliased(Patient):
    def save(self) -> Mapping[str, Any]:
        return {**super().save(), "seen": self.seen}


class OfItself(Patient):
    """Counts its decisions by itself, not by the events."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def react(self, body: Schedule, start: int, /) -> Schedule:
        def factor(t: int, T: int, events: Events = ()) -> float:
            self.calls += 1
            return body(t, T, events) * 0.99**self.calls

        return factor


class Foreseeing(Patient):
    def react(self, body: Schedule, start: int, /) -> Schedule:
        count = for_events(lambda events: sum(kind == "halve" for _, kind in events))
        return lambda t, T, events=(): body(t, T, events) * 0.5 ** count(events)


class Keeping(Patient):
    """Hands no events on."""

    def react(self, body: Schedule, start: int, /) -> Schedule:
        changed = super().react(lambda t, T, events=(): body(t, T), start)
        return lambda t, T, events=(): changed(t, T, events)


class Toiling(Patient):
    def react(self, body: Schedule, start: int, /) -> Schedule:
        def factor(t: int, T: int, events: Events = ()) -> float:
            return body(t, T, events) * 0.5 ** sum(kind == "halve" and at <= t for at, kind in events)

        return factor


class Lucky(Patient):
    """Decides by chance that no seed knows."""

    def react(self, body: Schedule, start: int, /) -> Schedule:
        luck = random.Random(os.urandom(8)).random()
        changed = super().react(body, start)
        return lambda t, T, events=(): luck * changed(t, T, events)


class Talking(Patient):
    def observe(self, t: int, value: float, /) -> str | None:
        print("a figure", value)
        return super().observe(t, value)


def made(factory: Callable[[], Reaction]) -> Component:
    def build() -> Reaction:
        return factory()

    return Component("reaction", build, factory.__name__.lower(), capabilities={"needs_metric": True})


HEALTHY = made(Patient)


def planted(test: str, defect: Callable[[], Reaction], because: str) -> Mutant:
    return Mutant(ReactionContract, test, made(defect), HEALTHY, because)


MUTANTS = [
    planted("decides_in_words", Labelled, "makes 'patient:halve'; return None, or a word"),
    planted("decides_in_words", Speechless, r"describe\('halve'\) gives ''"),
    planted("decides_in_words", OfNumbers, "the figure nan at update .* raises ValueError"),
    planted("goes_on_from_what_it_saved", Forgetful, "stopped after .* figures it decides"),
    planted("goes_on_from_what_it_saved", Lax, "take back in restore all that save gives"),
    planted("goes_on_from_what_it_saved", Tables, "no checkpoint can hold what it saves"),
    planted("saves_a_copy", Aliased, "changed after it was saved; give copies"),
    planted("makes_a_pure_schedule", OfItself, "for the same events"),
    planted("lets_the_past_be", Foreseeing, "leave out the events after t"),
    planted("hands_other_events_on", Keeping, r"knows the events \[\] of other reactions"),
    planted("looks_at_events_once", Toiling, "goes through all events 30 times"),
    planted("resumes_bit_for_bit", Forgetful, "stopped and continued"),
    planted("gives_the_same_for_the_same_seed", Lucky, "a second run of the same recipe is another one"),
    planted("prints_nothing", Talking, "it prints 'a figure"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(ReactionContract, MUTANTS)
