"""Lines of a run, read while it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit.report import follow
from trainkit.report.follow import Followed
from trainkit.results import curves_of, lines_of


def line(step: int, time: float, split: str = "train", **figures: Any) -> str:
    return json.dumps({"step": step, "epoch": step / 10, "split": split, "time": time, **figures}) + "\n"


LINES = (
    line(10, 2.0, loss=3.0, **{"lr/0": 0.1, "gradient_norm": 2.0})
    + line(10, 2.5, "val", loss=2.0, accuracy=0.5)
    + line(20, 3.5, loss=1.0, **{"lr/0": 0.05, "gradient_norm": None})
    + line(20, 4.5, "val", loss=4.0, accuracy=0.25)
    + line(30, 5.0, loss=2.0)
    + line(30, 5.75, "test", loss=0.5)
)


def state(seen: Followed) -> Mapping[str, Any]:
    curves = {name: curve.points for name, curve in seen.curves.items()}
    sums = seen.updating, dict(seen.measuring), seen.mixed
    return {"curves": curves, "last": seen.last, "low": seen.lowest, "high": seen.highest, "sums": sums} | {
        "pace": seen.pace.points,
        "place": seen.place,
    }


def test_curves_are_those_that_are_read_at_once(pictures: Path) -> None:
    seen = Followed(pictures)
    assert seen.update()
    made = {name: curve.points for name, curve in seen.curves.items()}
    assert made == {name: curve.points for name, curve in curves_of(lines_of(pictures), 1024).items()}
    assert {"train.loss", "val.accuracy", "test.loss", "lr/0", "train.gradient_norm", "update_ratio/0"} <= made.keys()


def test_what_time_was_spent_on_and_how_fast_updates_were(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES)
    seen = Followed(tmp_path)
    seen.update()
    assert seen.updating == pytest.approx(2.0 + 1.0 + 0.5, abs=1e-12)
    assert dict(seen.measuring) == {"val": 1.5, "test": 0.75}
    assert seen.mixed == 0
    assert [point[-1] for point in seen.pace.points] == [5.0, 10.0, 20.0]
    assert seen.last["val.accuracy"] == (0.25, 20)
    assert seen.highest["val.accuracy"] == (0.5, 10)
    assert seen.lowest["train.loss"] == (1.0, 20)
    assert seen.last["train.gradient_norm"] == (2.0, 10)  # null is no value


def test_an_evaluation_without_a_log_line_before_it_is_not_told_apart(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(line(10, 1.0, loss=1.0) + line(15, 3.0, "val", loss=1.0))
    seen = Followed(tmp_path)
    seen.update()
    assert (seen.updating, seen.mixed, dict(seen.measuring)) == (1.0, 2.0, {})


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(0, len(LINES)), max_size=5))
def test_wherever_it_is_cut_each_line_counts_once(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("run")
    whole = Followed(folder)
    (folder / "metrics.jsonl").write_text(LINES)
    whole.update()
    (folder / "metrics.jsonl").write_text("")
    seen = Followed(folder)
    for end in [*sorted(cuts), len(LINES)]:
        (folder / "metrics.jsonl").write_text(LINES[:end])
        seen.update()
    assert state(seen) == state(whole)
    assert not seen.update()


def test_only_new_lines_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    known = follow.line_in
    monkeypatch.setattr(follow, "line_in", lambda text: read.append(text) or known(text))
    seen, file = Followed(tmp_path), tmp_path / "metrics.jsonl"
    assert not seen.update()  # a run that has not written yet
    parts = LINES.splitlines(keepends=True)
    for number, part in enumerate(parts):
        with file.open("a") as out:
            out.write(part)
        assert seen.update()
        assert len(read) == number + 1
    assert not seen.update()
    assert "".join(read) == LINES


def test_a_run_that_went_back_to_a_checkpoint_is_read_anew(tmp_path: Path) -> None:
    file, seen = tmp_path / "metrics.jsonl", Followed(tmp_path)
    file.write_text(LINES)
    seen.update()
    parts = LINES.splitlines(keepends=True)
    # Longer than before: only what stands before the place shows that it is not the same file any more.
    file.write_text("".join(parts[:2]) + line(20, 9.0, loss=7.0) + line(30, 11.0, loss=8.0) * 4)
    assert seen.update()
    assert seen.last["train.loss"] == (8.0, 30)
    assert seen.highest["train.loss"] == (8.0, 30)
    assert "test.loss" not in seen.last


@pytest.mark.parametrize(
    "rubbish", ["no json\n", "[1]\n", '{"step": "x"}\n', "\x00\xff\n", "[" * 5000 + "\n", "x" * (1 << 20) + "x\n"]
)
def test_lines_that_no_run_writes_are_left_out(tmp_path: Path, rubbish: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES + rubbish + line(40, 6.0, loss=0.25))
    seen = Followed(tmp_path)
    seen.update()
    assert seen.last["train.loss"] == (0.25, 40)
    assert len(seen.curves["train.loss"].points) == 4


def test_what_is_no_file_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    assert not Followed(tmp_path).update()
