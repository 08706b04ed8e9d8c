"""What every reaction keeps: its decisions, what it makes of them, and whole runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from trainkit.clock import Clock
from trainkit.component import Component
from trainkit.instantiate import Builder
from trainkit.protocols import Events, Reaction, Schedule, silent
from trainkit.testing.build import path_of, recipe_of
from trainkit.testing.in_runs import InRunsContract
from trainkit.testing.kept import once_for_each

T = 60
START = 4  # updates of the warm-up
NAN = math.nan
# Figures of which something is made: ever better ones, none, hardly any change, ever worse ones, and what is no number.
FIGURES: tuple[float, ...] = (
    *(1.0 - 0.05 * number for number in range(10)),
    *(0.5 + 1e-9 * number for number in range(20)),
    *(0.5 + 0.1 * number for number in range(8)),
    *(NAN, math.inf, -math.inf, NAN, NAN, NAN, NAN, NAN),
    *(-1.0 - 0.5 * number for number in range(4)),
    *(-3.0 for _ in range(10)),
)


class ReactionContract(InRunsContract):
    """A reaction turns figures into events, and events into a change of the schedule, which is a pure function."""

    kind = "reaction"

    def test_decides_in_words(self, component: Component) -> None:
        """Of any figure, NaN included, it makes nothing or the kind of an event, a word, and says what that does."""
        reaction = of(component)
        for t, figure in enumerate(FIGURES, 1):
            try:
                kind = reaction.observe(t, figure)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise AssertionError(f"{_said(component)}: the figure {figure} at update {t} raises {said}") from error
            if kind is None:
                continue
            assert re.fullmatch(r"[^\s:]+", kind) if isinstance(kind, str) else False, (
                f"{_said(component)}: of the figure {figure} it makes {kind!r}; return None, or a word without ':'"
            )
            does = reaction.describe(kind)
            assert does.strip() if isinstance(does, str) else False, (
                f"{_said(component)}: describe('{kind}') gives {does!r}; say in a few words what the event does"
            )

    def test_goes_on_from_what_it_saved(self, component: Component) -> None:
        """Stopped after any figure, saved, and restored into a new one, it decides as it would have in one go."""
        straight = list(decisions(of(component), FIGURES))
        first = of(component)
        for number, figure in enumerate(FIGURES):
            saved = stored(component, first)
            second = of(component)
            second.restore(json.loads(saved))
            assert stored(component, second) == saved, (
                f"{_said(component)}: what it saves after {number} figures, {saved}, is {stored(component, second)} "
                "once restored; take back in restore all that save gives"
            )
            # A few figures on, so that counters that were lost come to matter.
            after = list(decisions(second, FIGURES[number : number + 12], number))
            assert after == straight[number : number + 12], (
                f"{_said(component)}: stopped after {number} figures it decides {after}, and in one go "
                f"{straight[number : number + 12]}; give by save whatever observe needs"
            )
            assert first.observe(number + 1, figure) == straight[number], (
                f"{_said(component)}: asking for its state, or making another one, changes what it decides"
            )

    def test_saves_a_copy(self, component: Component) -> None:
        """What it has saved does not change when it goes on."""
        reaction = of(component)
        saved = []
        for t, figure in enumerate(FIGURES, 1):
            state = reaction.save()
            saved.append((state, _text(component, state)))
            reaction.observe(t, figure)
        changed = [text for state, text in saved if _text(component, state) != text]
        assert not changed, (
            f"{_said(component)}: the state {changed[0] if changed else ''} changed after it was saved; give copies"
        )

    def test_makes_a_pure_schedule(self, component: Component) -> None:
        """What it makes of a schedule is a function of time and events alone: finite, whatever was asked before."""
        events = events_of(component)
        schedule = reacting(of(component))
        forwards = [schedule(t, T, events) for t in range(T + 5)]
        backwards = [schedule(t, T, events) for t in reversed(range(T + 5))][::-1]
        anew = [reacting(of(component))(t, T, list(events)) for t in range(T + 5)]
        for t, values in enumerate(zip(forwards, backwards, anew, strict=True)):
            assert len(set(values)) == 1, (
                f"{_said(component)}: update {t} has the values {sorted(set(values))} for the same events; what react "
                "makes must follow from t, T and events alone, not from what observe has seen"
            )
            assert math.isfinite(values[0]), f"{_said(component)}: update {t} has the value {values[0]}"

    def test_lets_the_past_be(self, component: Component) -> None:
        """An event that comes later does not change the value of an update before it."""
        events = events_of(component)
        schedule = reacting(of(component))
        for t in range(T):
            known = [(at, kind) for at, kind in events if at <= t]
            now, then = schedule(t, T, known), schedule(t, T, events)
            assert now == then, (
                f"{_said(component)}: update {t} had the value {now:g}, and has {then:g} once later events have come; "
                "leave out the events after t"
            )

    def test_hands_other_events_on(self, component: Component) -> None:
        """Events of reactions further inside reach the schedule, at times of that schedule's own clock."""
        seen: dict[int, list[tuple[int, str]]] = {}
        clock: dict[int, int] = {}

        def body(t: int, T: int, events: Events = ()) -> float:
            seen[asked], clock[asked] = list(events), t
            return 1.0

        schedule = of(component).react(body, START)
        events = [(2, "inner:reduce"), (30, "inner#2:hold")]
        asked = 0
        for asked in range(T):
            schedule(asked, T, events)
            kinds = [kind for at, kind in seen[asked] if at <= clock[asked]]
            expected = [kind for at, kind in events if at <= asked]
            assert kinds == expected, (
                f"{_said(component)}: at update {asked} the schedule inside knows the events {kinds} of other reactions"
                f", and {expected} have come; hand on all events, with the time that its clock shows"
            )

    def test_looks_at_events_once(self, component: Component) -> None:
        """A list of events that has not changed is not gone through again at every update."""
        kinds = sorted({kind for _, kind in events_of(component)}) or ["reduce"]
        events = Counted((4 * number, kinds[number % len(kinds)]) for number in range(1, 200))
        schedule = reacting(of(component))
        schedule(1000, 5000, events)
        schedule(1001, 5000, events)
        events.passes = 0
        for t in range(1002, 1032):
            schedule(t, 5000, events)
        assert events.passes < 10, (
            f"{_said(component)}: in 30 updates it goes through all events {events.passes} times, which takes longer "
            "the more there are; make what it needs of them by trainkit.for_events"
        )


class Counted(list[tuple[int, str]]):
    """Events that count how often somebody goes through them."""

    passes = 0

    def __iter__(self) -> Iterator[tuple[int, str]]:
        self.passes += 1
        return super().__iter__()


def _said(component: Component) -> str:
    return f"reaction '{component.name}'"


@once_for_each
def _builder(component: Component) -> Builder:
    recipe = recipe_of(component)
    builder = Builder(recipe, recipe.plugins, silent)
    builder.clock = Clock(batches_per_epoch=3, samples_per_update=16, total_updates=T)
    return builder


def of(component: Component) -> Reaction:
    """A new reaction of the example."""
    reaction: Reaction = _builder(component).make(*path_of(component.kind))
    return reaction


def falling(t: int, T: int, events: Events = ()) -> float:
    """A schedule that falls in a line."""
    return 1 - min(t, T) / (T + 1)


def reacting(reaction: Reaction) -> Schedule:
    """A schedule as the reaction changes it."""
    return reaction.react(falling, START)


def decisions(reaction: Reaction, figures: Sequence[float], since: int = 0) -> Iterator[str | None]:
    """What it decides of one figure after the other."""
    for number, figure in enumerate(figures, since + 1):
        yield reaction.observe(number, figure)


def events_of(component: Component) -> list[tuple[int, str]]:
    """The events of a run with these figures, on the clock of the schedule."""
    found = enumerate(decisions(of(component), FIGURES), 1)
    return [(t - START, kind) for t, kind in found if kind is not None]


def stored(component: Component, reaction: Reaction) -> str:
    """What it saves, as it lies in a checkpoint."""
    return _text(component, reaction.save())


def _text(component: Component, state: Any) -> str:
    try:
        return json.dumps(dict(state), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{_said(component)}: no checkpoint can hold what it saves: {error}; use numbers, lists and text"
        ) from error
