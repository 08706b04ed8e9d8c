"""Reactions: reference values, torch's, and what becomes of several of them, whenever a run is stopped and goes on."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainkit_schedules as schedules
from trainkit import Phase, Reaction, Schedule
from trainkit.reactions import Watch
from trainkit.scheduled import product, warmed_up
from trainkit_schedules.looking import Covered

VALUES = json.loads((Path(__file__).parents[2] / "reference_values.json").read_text(encoding="utf-8"))
REFERENCE = {case["id"]: case for case in VALUES["metric_driven"]}
RELATIVE = 1e-12
NAN = math.nan
Play = tuple[list[tuple[int, str]], list[float]]


def play(reaction: Reaction, figures: Sequence[float], body: Schedule | None = None, T: int = 1000) -> Play:
    """Show a figure after each update: the events, and the value of every update after a figure."""
    events: list[tuple[int, str]] = []
    schedule = reaction.react(body or schedules.constant(), 0)
    values = []
    for t, figure in enumerate(figures):
        kind = reaction.observe(t, figure)
        if kind is not None:
            events.append((t, kind))
            assert reaction.describe(kind)
        values.append(schedule(t, T, events))
    return events, values


@pytest.mark.parametrize("name", ["plateau/halve", "plateau/negative_metric", "plateau/max"])
def test_plateau_meets_the_reference_values(name):
    case = REFERENCE[name]
    params = dict(case["params"])
    sign = -1.0 if params.pop("mode") == "max" else 1.0  # what the core does
    reaction = schedules.plateau(**params | {"min": params.pop("min_lr") / case["base"]} if "min_lr" in params else {})
    events, values = play(reaction, [sign * metric for metric in case["metrics"]])
    assert [t for t, _ in events] == case["reductions_at"]
    assert [case["base"] * value for value in values] == pytest.approx(case["lr_after_each"], rel=RELATIVE, abs=0)


@pytest.mark.parametrize("name", ["stagnation/improving", "stagnation/flat"])
def test_stagnation_meets_the_reference_values(name):
    case = REFERENCE[name]
    events, _ = play(schedules.stagnation_restart(**case["params"]), case["metrics"])
    assert events == [(t, "restart") for t in case["restarts_at"]]


def test_a_restart_meets_the_reference_values():
    case = REFERENCE["stagnation/cosine_restart_event"]
    schedule = schedules.stagnation_restart().react(schedules.cosine(), 0)
    events = [(at, "restart") for at in case["params"]["restart_events"]]
    for t, value in case["values"]:
        assert case["base"] * schedule(t, case["T"], events) == pytest.approx(value, rel=RELATIVE, abs=0)


def test_a_freeze_meets_the_reference_values():
    case = REFERENCE["freeze/cosine"]
    ((begin, end),) = case["params"]["holds"]
    fixed = schedules.freeze(at=[begin], length=end - begin).react(schedules.cosine(), 0)
    decided = schedules.freeze(patience=3).react(schedules.cosine(), 0)
    limited = schedules.freeze(patience=3, length=end - begin).react(schedules.cosine(), 0)
    for t, value in case["values"]:
        for schedule, events in (
            (fixed, []),
            (decided, [(begin, "hold"), (end, "resume")]),
            (limited, [(begin, "hold")]),
        ):
            assert case["base"] * schedule(t, case["T"], events) == pytest.approx(value, rel=RELATIVE, abs=0)


def by_torch(figures: Sequence[float], **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0.0, **settings)
    rates = []
    for figure in figures:
        theirs.step(figure)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@settings(max_examples=150, deadline=None)
@given(
    figures=st.lists(st.sampled_from([0.0, 0.5, 0.79, 0.8, 0.8001, 0.81, 1.0, 2.0, NAN]), max_size=60),
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    threshold=st.sampled_from([0.0, 1e-4, 0.01, 0.2]),
    patience=st.integers(0, 4),
    cooldown=st.integers(0, 3),
    lowest=st.sampled_from([0.0, 0.2]),
)
def test_plateau_agrees_with_torch_where_figures_are_not_negative(
    figures, mode, threshold_mode, threshold, patience, cooldown, lowest
):
    shared = {"threshold": threshold, "threshold_mode": threshold_mode, "patience": patience, "cooldown": cooldown}
    reaction = schedules.plateau(factor=0.5, min=lowest, **shared)
    _, values = play(reaction, [-figure if mode == "max" else figure for figure in figures])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = by_torch(figures, mode=mode, factor=0.5, min_lr=lowest, **shared)
    assert values == pytest.approx(theirs, rel=1e-9)


def test_torch_never_reduces_on_a_flat_negative_figure():
    flat = [-1.0] * 30
    assert set(by_torch(flat, patience=2)) == {1.0}, "torch has put it right: say so in plateau"
    events, _ = play(schedules.plateau(patience=2), flat)
    assert [t for t, _ in events] == list(range(3, 30, 3))


def test_what_is_not_a_number_never_counts_as_better():
    assert [t for t, _ in play(schedules.plateau(patience=2), [NAN] * 7)[0]] == [2, 5]
    assert play(schedules.plateau(patience=2), [NAN, 1.0, NAN, math.inf, 0.5, -math.inf, NAN, 0.4])[0] == []
    assert play(schedules.stagnation_restart(window=3), [1.0, 0.9, NAN, NAN, NAN, 0.8])[0] == [(4, "restart")]
    assert play(schedules.stagnation_restart(window=3), [NAN] * 4)[0] == [(3, "restart")]
    assert play(schedules.stagnation_restart(window=3), [NAN, NAN, NAN, 1.0, 1.0])[0] == []
    held = play(schedules.freeze(patience=1), [1.0, NAN, NAN, NAN, 0.5, 0.4])[0]
    assert held == [(2, "hold"), (4, "resume")]


def test_the_lowest_rate_holds_a_reduction_up_but_not_the_body():
    reduced = schedules.plateau(factor=0.1, min=0.05).react(schedules.linear(), 0)
    events = [(10, "reduce"), (20, "reduce")]
    assert reduced(15, 100, events) == 0.1 * 0.85
    assert reduced(20, 100, events) == 0.05
    assert reduced(97, 100, events) == schedules.linear()(97, 100), "the body has gone lower by itself"


def test_halve_is_the_plateau_that_it_stands_for():
    figures = [1.0, *[0.9] * 20]
    assert play(schedules.halve(), figures) == play(schedules.plateau(factor=0.5, patience=3), figures)
    assert play(schedules.halve(), figures)[1][-1] == 0.5**4


def test_restarts_keep_their_distance_and_their_peak():
    events, values = play(schedules.stagnation_restart(window=2, min_gap=7, peak=0.5), [1.0] * 20)
    assert [t for t, _ in events] == [2, 9, 16], "the first one has none before it"
    assert values == [1.0, 1.0, *[0.5] * 18]
    first = schedules.stagnation_restart(peak=0.5).react(schedules.cosine(), 0)
    assert first(30, 100, [(10, "restart"), (30, "restart")]) == 0.5
    assert first(65, 100, [(10, "restart"), (30, "restart")]) == 0.5 * schedules.cosine()(35, 70)


def test_a_restart_before_the_clock_begins_changes_nothing():
    schedule = schedules.stagnation_restart().react(schedules.cosine(), 50)
    assert [schedule(t, 100, [(-20, "restart")]) for t in range(100)] == [
        schedules.cosine()(t, 100) for t in range(100)
    ]


def test_holds_at_stated_times_count_from_the_start_of_the_run():
    reaction = schedules.freeze(at=[30, 5, 33], length=10)  # the middle one lies half in a warm-up of 10
    whole = warmed_up(reaction.react(schedules.linear(), 10), 10)
    body = [round(100 * (1 - whole(t, 110))) for t in range(10, 60)]
    assert body == [*[0] * 5, *range(16), *[15] * 12, *range(15, 32)][:50]


def test_a_hold_ends_with_the_next_better_figure_or_after_its_length():
    figures = [1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1]
    events, values = play(schedules.freeze(patience=1, length=4), figures, schedules.linear(), 100)
    assert events == [(2, "hold"), (3, "resume"), (5, "hold"), (10, "hold"), (11, "resume")], (
        "9 is the first look after the second hold"
    )
    clock = [0, 1, 2, 2, 3, 4, 4, 4, 4, 4, 5, 5]
    assert [round(100 * (1 - value)) for value in values] == clock


def test_a_freeze_without_patience_looks_at_nothing():
    assert play(schedules.freeze(at=[3], length=2), [1.0] * 30)[0] == []


# ------------------------------------------------------------ several of them


Reactions = list[tuple[str, Reaction]]


def stacked(body: Schedule, reactions: Reactions, start: int = 0) -> Schedule:
    """The first reaction innermost, as the core stacks them."""
    for label, reaction in reactions:
        body = Watch(label, reaction, "val.loss", 0).reacting(body, start)
    return body


def test_the_order_says_whether_a_restart_takes_reductions_back():
    plateau, restart = ("plateau", schedules.plateau(factor=0.5)), ("restart", schedules.stagnation_restart())
    events = [(10, "plateau:reduce"), (20, "restart:restart"), (30, "plateau:reduce")]
    inside = stacked(schedules.constant(), [plateau, restart])
    outside = stacked(schedules.constant(), [restart, plateau])
    assert [inside(t, 100, events) for t in (9, 10, 20, 29, 30)] == [1.0, 0.5, 1.0, 1.0, 0.5]
    assert [outside(t, 100, events) for t in (9, 10, 20, 29, 30)] == [1.0, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("outside", [False, True])
def test_a_hold_stops_the_clock_of_a_restarted_schedule_too(outside):
    freeze, restart = ("freeze", schedules.freeze(patience=1)), ("restart", schedules.stagnation_restart())
    order = [restart, freeze] if outside else [freeze, restart]
    events = [(20, "restart:restart"), (30, "freeze:hold"), (40, "freeze:resume")]
    schedule = stacked(schedules.linear(), order)
    values = [schedule(t, 100, events) for t in (20, 30, 35, 40, 50)]
    assert values == pytest.approx([1 - over / 80 for over in (0, 10, 10, 10, 20)], rel=1e-12)


def test_what_happens_after_a_moment_does_not_change_its_value():
    events = [(10, "plateau:reduce"), (20, "restart:restart"), (25, "freeze:hold"), (28, "plateau:reduce")]
    reactions = [
        ("plateau", schedules.plateau(factor=0.5)),
        ("freeze", schedules.freeze(patience=1)),
        ("restart", schedules.stagnation_restart()),
    ]
    for order in (reactions, reactions[::-1]):
        schedule = stacked(schedules.cosine(end=0.1), order)
        for t in range(60):
            seen = [(at, kind) for at, kind in events if at <= t]
            assert schedule(t, 60, events) == schedule(t, 60, seen), t


def small(draw: Callable[..., Any]) -> Callable[[], Reaction]:
    """Any reaction that is easily moved, as a function that makes it anew."""
    name = draw(st.sampled_from(["plateau", "halve", "stagnation_restart", "freeze"]))
    patience = draw(st.integers(0, 2))
    length = draw(st.none() | st.integers(1, 8))
    given: dict[str, Any] = {
        "plateau": {"factor": 0.3, "patience": patience, "cooldown": draw(st.integers(0, 2)), "min": 0.1},
        "halve": {"patience": patience},
        "stagnation_restart": {"window": patience + 1, "min_gap": draw(st.integers(0, 5)), "peak": 0.9},
        "freeze": {"patience": patience, "length": length, "at": [4, 20] if length else []},
    }[name]
    return lambda: getattr(schedules, name)(**given)


BODIES = {
    "cosine": schedules.cosine(),
    "exponential": schedules.exponential(rate=0.9, every=3),
    "product": product([schedules.linear(end=0.1), schedules.step(every=9, gamma=0.5)]),
    "phases": schedules.phases(phases=[Phase(schedules.linear(end=0.5), 7), Phase(schedules.cosine(), None)]),
    "cycles": schedules.cosine_restarts(first=5, decay=0.8, end=0.05),
}


class Session:
    """A run that is all schedule: reactions that look every few updates, and the events that they leave."""

    def __init__(self, makers: list[Callable[[], Reaction]], body: Schedule, warmup: int, every: int) -> None:
        self.reactions = [(f"r{number}", maker()) for number, maker in enumerate(makers)]
        self.schedule = warmed_up(stacked(body, self.reactions, warmup), warmup)
        self.every = every
        self.events: list[tuple[int, str]] = []
        self.values: list[float] = []

    def run(self, begin: int, end: int, total: int, figures: Sequence[float]) -> None:
        for t in range(begin, end):
            self.values.append(self.schedule(t, total, self.events))
            if (t + 1) % self.every == 0:
                for label, reaction in self.reactions:
                    if (kind := reaction.observe(t + 1, figures[t])) is not None:
                        self.events.append((t + 1, f"{label}:{kind}"))

    def stopped(self) -> str:
        return json.dumps([self.events, [dict(r.save()) for _, r in self.reactions]], allow_nan=False)

    def go_on(self, saved: str) -> None:
        events, states = json.loads(saved)
        self.events = [(at, kind) for at, kind in events]
        for (_, reaction), state in zip(self.reactions, states, strict=True):
            reaction.restore(state)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_run_that_is_stopped_anywhere_goes_on_as_if_it_had_not_been(data):
    makers = [small(data.draw) for _ in range(data.draw(st.integers(1, 3)))]
    body = BODIES[data.draw(st.sampled_from(sorted(BODIES)))]
    total = data.draw(st.integers(1, 60))
    warmup, every = data.draw(st.integers(0, total)), data.draw(st.integers(1, 3))
    figures = data.draw(
        st.lists(st.sampled_from([0.1, 0.5, 0.5001, 1.0, -1.0, NAN, math.inf]), min_size=total, max_size=total)
    )
    stop = data.draw(st.integers(0, total))

    whole = Session(makers, body, warmup, every)
    whole.run(0, total, total, figures)
    first = Session(makers, body, warmup, every)
    first.run(0, stop, total, figures)
    second = Session(makers, body, warmup, every)
    second.go_on(first.stopped())
    second.run(stop, total, total, figures)

    assert first.values + second.values == whole.values
    assert second.events == whole.events
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in whole.values)
    afterwards = [whole.schedule(t, total, whole.events) for t in reversed(range(total))][::-1]
    assert afterwards == whole.values, "what a preview shows is what the run had"


# ---------------------------------------------------------------- growth


class Counted(list):
    """Events that count how often somebody goes through them."""

    passes = 0

    def __iter__(self):
        Counted.passes += 1
        return super().__iter__()


@pytest.mark.parametrize("kind", ["reduce", "restart", "hold"])
def test_an_update_takes_no_longer_the_more_events_there_are(kind):
    """A list that has not changed is looked at once, whatever is asked of it, by every part of the schedule."""
    made = {
        "reduce": schedules.plateau(),
        "restart": schedules.stagnation_restart(),
        "hold": schedules.freeze(patience=3, length=2),
    }

    def schedule(t: int, T: int, events: Any = ()) -> float:
        return 1 - t / T

    for name, reaction in made.items():
        schedule = Watch(name, reaction, "val.loss", 0).reacting(schedule, 5)
    schedule = warmed_up(schedule, 5)
    events = Counted((10 * number, f"{kind}:{kind}") for number in range(1, 900))
    fresh = [schedule(t, 20_000, list(events)) for t in range(9100, 9200)]
    Counted.passes = 0
    assert [schedule(t, 20_000, events) for t in range(9100, 9200)] == fresh
    assert Counted.passes < 10
    events.append((9150, f"{kind}:{kind}"))
    assert schedule(9200, 20_000, events) == schedule(9200, 20_000, list(events)), "one more is seen"


@settings(deadline=None, max_examples=200)
@given(
    windows=st.lists(st.tuples(st.integers(-20, 60), st.integers(0, 30)), max_size=6),
    times=st.lists(st.integers(0, 100), min_size=1, max_size=10),
)
def test_covered_updates_are_counted_once_each(windows, times):
    covered = Covered([(begin, begin + length) for begin, length in windows])
    for t in times:
        inside = {u for begin, length in windows for u in range(max(0, begin), begin + length) if u < t}
        assert covered.before(t) == len(inside)
