"""When trials were trained, as a study's log tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.search.timeline import Course, Stretch, course_of


def log(folder: Path, *events: tuple[float, str, dict[str, Any]], parts: int = 1) -> Path:
    """A study's log: the time, the event, and what else it has."""
    head = {"event": "study", "parts": parts, "time": 1000.0}
    lines = [head, *({"event": event, "time": 1000 + at, **more} for at, event, more in events)]
    (folder / "study.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_each_training_ends_when_the_log_says_and_lasted_so_long(tmp_path: Path) -> None:
    found = course_of(
        log(
            tmp_path,
            (0.1, "ask", {"trial": 0}),
            (0.2, "ask", {"trial": 1}),
            (4.0, "pause", {"trial": 0, "seconds": 3.5}),
            (5.0, "fail", {"trial": 1, "seconds": 2.0, "status": "nan"}),
            (5.5, "go", {"trial": 0}),
            (7.0, "interrupt", {"trial": 0, "seconds": 1.0}),
            (9.0, "retry", {"trial": 0, "seconds": 1.5}),
            (12.0, "done", {"trial": 0, "seconds": 2.5}),
            (12.5, "prune", {"trial": 2, "seconds": 0.0}),  # before it was trained
            (13.0, "end", {"reason": "all 3 trials made"}),
        )
    )
    assert found.stretches == [
        Stretch(0, 0, 0.5, 4.0, "paused"),
        Stretch(1, 0, 3.0, 5.0, "nan"),
        Stretch(0, 0, 6.0, 7.0, "interrupted"),
        Stretch(0, 0, 7.5, 9.0, "begun again"),
        Stretch(0, 0, 9.5, 12.0, "done"),
    ]
    assert (found.seconds, found.over) == (13.0, "all 3 trials made")
    assert found.rows == [0, 1, 0, 0, 0]


def test_of_several_runs_each_has_its_own_line(tmp_path: Path) -> None:
    runs = [
        (at, "part", {"trial": 0, "part": part, "status": "done", "seconds": 1.0}) for part, at in enumerate((2.0, 3.0))
    ]
    found = course_of(log(tmp_path, *runs, (3.0, "done", {"trial": 0, "seconds": 2.0}), parts=2))
    assert found.stretches == [Stretch(0, 0, 1.0, 2.0, "done"), Stretch(0, 1, 2.0, 3.0, "done")]
    assert found.rows == [0, 0]


def test_the_time_between_two_processes_is_left_out_and_a_widened_search_goes_on(tmp_path: Path) -> None:
    found = course_of(
        log(
            tmp_path,
            (2.0, "done", {"trial": 0, "seconds": 1.0}),
            (3.0, "end", {"reason": "all 1 trials made"}),
            (4.0, "session", {"seconds": 4.0}),
            (5000.0, "widen", {"trials": 2}),
            (5003.0, "done", {"trial": 1, "seconds": 2.0}),
        )
    )
    assert [(one.begin, one.end) for one in found.stretches] == [(1.0, 2.0), (5.0, 7.0)]
    assert (found.seconds, found.over) == (7.0, "")


@pytest.mark.parametrize("text", ["", "{", "3\n", '{"event": "study"}\n', '{"event": "study", "time": "now"}\n'])
def test_what_cannot_be_read_has_no_course(tmp_path: Path, text: str) -> None:
    assert course_of(tmp_path) == Course([], 0.0, "")
    (tmp_path / "study.jsonl").write_text(text)
    assert course_of(tmp_path) == Course([], 0.0, "")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), max_size=25))
def test_as_many_rows_as_were_trained_at_once(spans: list[tuple[int, int]]) -> None:
    made = Course([Stretch(n, 0, begin, begin + long, "done") for n, (begin, long) in enumerate(spans)], 60.0, "")
    rows = made.rows
    for one, row in zip(made.stretches, rows, strict=True):
        for other, its in zip(made.stretches, rows, strict=True):
            if row == its and one is not other:
                assert one.end <= other.begin or other.end <= one.begin
    at_once = [sum(one.begin <= at < one.end for one in made.stretches) for at in range(60)]
    assert max(rows, default=-1) + 1 == max(at_once)
