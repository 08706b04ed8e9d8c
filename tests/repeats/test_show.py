"""What a person sees while runs are made, and which folders count as over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit.repeats import show
from trainkit.repeats.plan import planned
from trainkit.repeats.report import is_over, made_report, report_lines
from trainkit.repeats.show import RepeatsDisplay

FIGURES = {"train.loss": 9.0, "val.loss": 0.25, "val.accuracy": 0.5}


def test_away_from_a_terminal_there_is_a_sign_of_life_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    display = RepeatsDisplay(0, terminal=False)
    display.begin(1, 3)
    for seconds in (1.0, 2.0, 5.5, 6.0):
        now[0] = 100.0 + seconds
        display.measured("seed-4", 0.4, FIGURES)
    display.rested("seed-4", "done", FIGURES, 61.0)
    display.failed("seed-5", "nan", "the loss is nan\nat update 7")
    display.close()
    assert capsys.readouterr().err.splitlines() == [
        "1 of 3 runs are over already",
        "seed-4 at 40 %  val.loss 0.25  val.accuracy 0.5",
        "seed-4  done  val.loss 0.25  val.accuracy 0.5  1:01",
        "seed-5  failed (nan): the loss is nan",
    ]


def test_on_a_terminal_a_bar_says_how_far_it_is(capsys, monkeypatch):
    looks = []

    class Held:
        def __init__(self, look):
            looks.append(look)

        def say(self, text):
            print(text)

        def close(self):
            looks.clear()

    monkeypatch.setattr("trainkit.bars.Bar", Held)
    display = RepeatsDisplay(0, terminal=True)
    display.begin(0, 2)
    assert looks[0]() == (0, 2, "runs")
    display.measured("seed-4", 0.4, FIGURES)
    assert looks[0]() == (0.4, 2, "runs  seed-4 at 40 %  val.loss 0.25")
    display.rested("seed-4", "done", {}, 1.0)
    assert looks[0]() == (1, 2, "runs")
    display.close()
    assert looks == []
    assert "\x1b" not in capsys.readouterr().out


def test_quiet_shows_nothing(capsys):
    display = RepeatsDisplay(-1, terminal=True)
    display.begin(1, 2)
    display.measured("seed-4", 1.0, FIGURES)
    display.rested("seed-4", "done", FIGURES, 1.0)
    display.summarise(["finished"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("tables", "statuses", "over"),
    [
        ({}, {"": "finished"}, True),
        ({}, {"": "stopped"}, True),
        ({}, {"": "failed"}, False),
        ({}, {"": "interrupted"}, False),
        ({}, {}, False),
        ({"search": {}}, {"": "finished"}, True),
        ({"search": {}, "ensemble": {}}, {"": "finished"}, False),  # killed before the ensemble began
        ({"search": {}, "ensemble": {}}, {"": "finished", "ensemble": "interrupted"}, False),
        ({"search": {}, "ensemble": {}}, {"": "finished", "ensemble": "finished"}, True),
    ],
)
def test_which_folders_are_over(tmp_path, tables, statuses, over):
    for name, status in statuses.items():
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "report.json").write_text(json.dumps({"status": status}))
    assert is_over(tmp_path, tables) is over


def test_a_strangers_reports_are_text(tmp_path):
    plan = planned("2", None, 1)
    for repeat, report in zip(plan.repeats, ('{"status": ["\\u001b"], "metrics": 3}', "[" * 4000), strict=True):
        (tmp_path / repeat.name).mkdir()
        (tmp_path / repeat.name / "report.json").write_text(report)
    made = made_report(tmp_path, plan, "finished", "", 1.0, {"seed-2": ""})
    assert ([run["status"] for run in made["runs"]], made["metrics"]) == (["missing", "failed"], {})
    assert report_lines(Path("here"), made) == [
        "finished: 0 of 2 runs in 0:01",
        "  seed-2 failed: ",
        "  next: trainkit resume here",
    ]
