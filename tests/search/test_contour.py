"""What two settings do together: a surface that is right where trials are, and says nothing where none are."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.search.contour import CELLS, LEAST, Contour, contour_of
from trainkit.search.looking import visible_limits
from trainkit.space import Dimension, Space
from trainkit.trial import Objective, Record, Study, Trial

A, B = Dimension("a", "float", 0.0, 1.0), Dimension("b", "float", 1e-4, 1.0, "log")
C = Dimension("c", "choice", choices=("one", "two", "three"))
N = Dimension("n", "int", 2, 6)
LOSS = (Objective("val.loss"),)


def study(
    space: Space,
    value: Callable[[Mapping[str, Any]], float],
    trials: int = 40,
    where: Callable[[float], float] = lambda share: share,
    objectives: tuple[Objective, ...] = LOSS,
) -> Study:
    """Trials at random points, whose values are a formula; ``where`` moves their shares of each range."""
    chance = random.Random(3)
    made = Study(Path("study"), "random", space, objectives, trials, 0)
    for number in range(trials):
        point = space.at([where(chance.random()) for _ in space.dimensions])
        figures = (value(point),) * len(objectives)
        values = tuple(-f if o.mode == "max" else f for f, o in zip(figures, objectives, strict=True))
        made.records.append(Record(Trial(number, point, "done", values), figures))
    return made


def of(made: Study) -> Contour:
    found = contour_of(made)
    assert found is not None
    return found


def bowl(point: Mapping[str, Any]) -> float:
    return float(1 + 4 * (point["a"] - 0.3) ** 2 + 2 * (B.share(point["b"]) - 0.7) ** 2)


def test_the_surface_is_the_formula_that_trials_follow() -> None:
    made = study(Space((A, B)), bowl)
    found, (_, high) = of(made), visible_limits([record.figures[0] for record in made.records], True)
    assert (len(found.values), {len(row) for row in found.values}) == (CELLS, {CELLS})
    for up, y in enumerate(found.y.values):
        for across, x in enumerate(found.x.values):
            if (value := found.values[up][across]) is not None:
                inside = 3 <= up < CELLS - 3 and 3 <= across < CELLS - 3  # beyond, there are trials on one side alone
                assert value == pytest.approx(min(bowl({"a": x, "b": y}), high), abs=0.12 if inside else 0.4)
    assert sum(value is not None for row in found.values for value in row) > 0.9 * CELLS**2
    lowest = min((v, x, y) for y, row in enumerate(found.values) for x, v in enumerate(row) if v is not None)
    assert lowest[1] == pytest.approx(found.x.place(0.3), abs=1.5)
    assert lowest[2] == pytest.approx(found.y.place(B.at(0.7)), abs=1.5)


def test_a_figure_that_is_better_when_higher_stays_as_it_was_measured() -> None:
    made = study(Space((A, B)), lambda p: -bowl(p), objectives=(Objective("val.accuracy", "max"),))
    highest = max(value for row in of(made).values for value in row if value is not None)
    assert highest == pytest.approx(-1, abs=0.15)


def test_nothing_is_told_where_no_trial_is_near() -> None:
    steep = study(Space((A, B)), lambda p: (p["a"] * 12 % 1) + (B.share(p["b"]) * 10 % 1), where=lambda s: s / 3)
    rows = of(steep).values
    assert rows[0][0] is not None
    assert all(value is None for row in rows[-5:] for value in row[-5:])


def test_the_two_most_important_settings_are_taken_and_others_add_noise() -> None:
    chance = random.Random(5)
    space = Space((C, A, N, B))
    made = study(space, lambda p: bowl(p) + 0.2 * chance.random(), trials=60)
    made.findings = {"importances": {name: {"value": v} for name, v in (("b", 0.5), ("a", 0.4), ("n", 0.1))}}
    found = of(made)
    assert (found.x.dimension, found.y.dimension) == (B, A)
    at = found.values[round(found.y.place(0.3))][round(found.x.place(B.at(0.7)))]
    assert at == pytest.approx(1.1, abs=0.25)


def test_settings_that_do_not_count_together_are_passed_over() -> None:
    inner = [Dimension(f"c#{n}.lr", "float", 0.0, 1.0, when={"c": (n,)}) for n in (0, 1)]
    made = study(Space((C, *inner, A)), lambda p: 1.0 + p["a"], trials=45)
    names = ["c#0.lr", "c#1.lr", "a", "c"]
    made.findings = {"importances": {name: {"value": 1.0 - place / 9} for place, name in enumerate(names)}}
    found = of(made)
    assert [found.x.dimension.name, found.y.dimension.name] == ["c#0.lr", "a"]
    assert {r.trial.point["c"] for r in found.trials} == {"one"}


def test_a_choice_has_a_place_for_each_of_its_values() -> None:
    worth = {"one": 3.0, "two": 1.0, "three": 2.0}
    found = of(study(Space((C, N)), lambda p: worth[p["c"]], trials=60))
    assert found.x.labels == ["one", "two", "three"]
    assert found.y.labels == ["2", "3", "4", "5", "6"]
    assert [found.x.place(choice) for choice in C.choices] == [0, 1, 2]
    assert [found.y.place(number) for number in (2, 4, 6)] == [0, 2, 4]
    for row in found.values:
        assert row == pytest.approx([3.0, 1.0, 2.0], abs=0.1)


@pytest.mark.parametrize(
    "made",
    [
        study(Space((A, B)), bowl, trials=LEAST - 1),
        study(Space((A,)), lambda p: p["a"]),
        study(Space((A, B)), bowl, where=lambda share: 0.5),
        study(Space((A, B)), bowl, objectives=(Objective("val.loss"), Objective("parameters"))),
        study(Space((A, B)), bowl, trials=0),
    ],
)
def test_too_little_for_a_surface(made: Study) -> None:
    assert contour_of(made) is None


def test_trials_that_failed_or_were_shorter_or_lie_outside_have_no_part() -> None:
    made = study(Space((A, B)), bowl, trials=30)
    made.records[0].trial.status = "pruned"
    made.records[1].trial.final = False
    made.records[2].figures = (float("inf"),)
    made.records[3].trial.point = {"a": "auto", "b": 0.1}
    made.records[4].trial.point = {"a": 0.5}
    assert {record.trial.number for record in of(made).trials} == set(range(5, 30))


def test_a_constant_is_flat_and_one_bad_trial_hides_nothing() -> None:
    assert {value for row in of(study(Space((A, B)), lambda p: 2.5)).values for value in row} == {2.5}
    made = study(Space((A, B)), bowl)
    made.records[7].figures, made.records[7].trial.values = (1e30,), (1e30,)
    assert max(value for row in of(made).values for value in row if value is not None) < 10


def test_many_trials_are_thinned_out_and_the_best_stay() -> None:
    made = study(Space((A, B)), bowl, trials=500)
    found = of(made)
    assert len(found.trials) == 240
    best = sorted(made.records, key=lambda record: record.trial.values)[:100]
    assert {record.trial.number for record in best} <= {record.trial.number for record in found.trials}


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(-1e6, 1e6), min_size=LEAST, max_size=20))
def test_no_value_is_beyond_what_is_shown(values: list[float]) -> None:
    given = iter(values)
    made = study(Space((A, B)), lambda p: next(given), trials=len(values))
    low, high = visible_limits(values, True)
    for row in of(made).values:
        assert all(value is None or low <= value <= high for value in row)
