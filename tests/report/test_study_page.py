"""The page of a study: made for whatever a search can be, and says what the search has come to."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.report.studies import BOTH, RATE, SIZE, searched
from trainkit.errors import MachineError
from trainkit.page import Bars, Block, Curves, Facts, Heatmap, Parallel, Scatter, Section, Table, Text, Timeline
from trainkit.report.study import study_page, study_sections, write_study_page
from trainkit.report.study_figures import BEST, MOST_DOTS, MOST_POINTS
from trainkit.search.timeline import course_of
from trainkit.space import Dimension
from trainkit.trial import Objective, Study


def sections(study: Study) -> dict[str, Sequence[Block]]:
    made: list[Section] = study_sections(study, course_of(study.folder), study.folder)
    assert study_page(study, study.folder).startswith("<!DOCTYPE html>")
    return {section.title: section.blocks for section in made}


def one(kind: Any, blocks: Sequence[Block]) -> Any:
    (found,) = [block for block in blocks if isinstance(block, kind)]
    return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Thirty trials, whose results follow the learning rate alone; some of them failed."""
    made = searched(tmp_path / "s", lambda p, n: () if n in (3, 9) else (-abs(math.log10(p["optimizer.lr"]) + 2),))
    edge = {"setting": "optimizer.lr", "end": "upper", "bound": 1.0, "proposed": 10.0}
    said = [
        {"about": "edge", "text": "optimizer.lr: at its end"},
        {"about": "failures", "text": "2 of 30 trials failed"},
    ]
    shares = {"optimizer.lr": 0.8, "model.widths.0": 0.15, "schedule.use": 0.05}
    found = {name: {"value": value, "low": value / 2, "high": 1.0} for name, value in shares.items()}
    made.findings = {"findings": said, "importances": found, "edges": [edge], "ties": []}
    return made


def test_all_of_a_search_is_on_its_page(study: Study) -> None:
    found = sections(study)
    assert list(found) == [
        *("What came of it", "History", "Importance", "Each setting", "Settings together", "Ends of ranges"),
        *("On the way", "Time", "All trials"),
    ]
    facts = dict(one(Facts, found["What came of it"]).rows)
    best = study.best()
    assert best is not None
    assert facts["trials"] == "28 done, 2 nan; 30 planned"
    assert facts["best val.accuracy"] == f"{best.figures[0]:.6g}"
    assert str(facts["best trial"]).startswith(f"{best.trial.number}: lr ")
    assert Text("2 of 30 trials failed", "note") in found["What came of it"]
    bars = one(Bars, found["Importance"])
    assert (bars.names, bars.values, bars.low, bars.high) == (
        ["optimizer.lr", "model.widths.0", "schedule.use"],
        *([0.8, 0.15, 0.05], [0.4, 0.075, 0.025], [1.0, 1.0, 1.0]),
    )
    assert found["Ends of ranges"][0] == Text("optimizer.lr: at its end", "bad")
    assert one(Table, found["Ends of ranges"]).rows == [["optimizer.lr", "upper", 1.0, 10.0]]
    table = one(Table, found["All trials"])
    assert [row[:3] for row in table.rows[2:4]] == [[2, "done", study.records[2].figures[0]], [3, "nan", None]]
    assert table.rows[3][-1] == "loss is nan"


def test_the_history_has_a_best_so_far_that_never_gets_worse(study: Study) -> None:
    scatter = one(Scatter, sections(study)["History"])
    line = [(point.x, point.y) for point in scatter.points if point.group == scatter.path == BEST]
    best = study.best()
    assert best is not None
    assert line == sorted(line)
    assert line[-1] == (29, best.figures[0])
    assert {point.x for point in scatter.points if point.group == "failed"} == {3, 9}
    assert sum(point.group == "done" for point in scatter.points) == 28
    table = one(Table, sections(study)["History"])
    assert [row[0] for row in table.rows] == [record.trial.number for record in study.ranked()[:10]]
    assert [row[-1] for row in table.rows] == ["best", *["worse"] * 9]


def test_each_setting_has_a_slice_the_most_important_first(study: Study) -> None:
    slices = [block for block in sections(study)["Each setting"] if isinstance(block, Scatter)]
    assert [block.title.split(",")[0] for block in slices] == [
        *("optimizer.lr", "model.widths.0", "schedule.use", "optimizer.betas.1")
    ]
    rate, size, choice, beta = slices
    assert "importance 0.80 (0.40 to 1.00)" in rate.title
    assert [block.log_x for block in slices] == [True, False, False, False]
    assert list(choice.ticks_x.values()) == ["cosine", "linear"]
    assert {point.x for point in choice.points} <= set(choice.ticks_x)
    assert list(beta.ticks_x.values())[::4] == ["0.9", "0.999"]
    assert all(point.x == study.records[_number(point.text)].trial.point["optimizer.lr"] for point in rate.points)
    assert {point.group for point in size.points} == {"first third of trials", "second third", "last third"}


def test_settings_together(study: Study) -> None:
    blocks = sections(study)["Settings together"]
    lines, surface = one(Parallel, blocks), one(Heatmap, blocks)
    assert list(lines.axes) == ["lr", "widths.0", "schedule", "betas.1", "val.accuracy"]
    assert len(lines.rows) == len(lines.texts) == len(lines.good) == 28
    assert all(share is not None and 0 <= share <= 1 for row in lines.rows for share in row)
    best = study.best()
    assert best is not None
    assert _number(lines.texts[-1]) == best.trial.number, "the best one is drawn last, above the others"
    assert lines.good[-1] == 1.0
    assert (surface.x, surface.y) == ("optimizer.lr", "model.widths.0")
    assert surface.rows[0] == "64", "large values stand at the top"
    for point in surface.points:
        trial = study.records[_number(point.text)].trial
        assert point.x == pytest.approx(RATE.share(trial.point["optimizer.lr"]) * (len(surface.columns) - 1))
        assert point.y == pytest.approx((1 - SIZE.share(trial.point["model.widths.0"])) * (len(surface.rows) - 1))


def test_what_went_on(study: Study) -> None:
    found = sections(study)
    curves = one(Curves, found["On the way"])
    assert len(curves.lines) == 28
    best = study.best()
    assert best is not None
    assert curves.lines[-1].name == f"trial {best.trial.number}"
    assert list(curves.lines[-1].y) == pytest.approx([best.figures[0] - 0.5, best.figures[0]])
    assert list(curves.lines[-1].x.values()) == [[0.5, 1.0]]
    assert [line.name for line in curves.lines].count("other trials") == 20
    spans = one(Timeline, found["Time"]).spans
    assert [(span.start, span.end, span.group) for span in spans[2:4]] == [(4.0, 6.0, "done"), (6.0, 8.0, "nan")]
    assert {span.lane for span in spans} == {"1"}


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    study = searched(
        tmp_path / "s", lambda p, n: (1 - 1 / p["model.widths.0"], 10.0 * p["model.widths.0"]), objectives=BOTH
    )
    found = sections(study)
    assert list(found)[:4] == ["What came of it", "Pareto front", "Each setting", "Settings together"]
    scatter = one(Scatter, found["Pareto front"])
    assert [(p.x, p.y) for p in scatter.points if p.group == scatter.path == "front"] == sorted(
        (record.figures[1], record.figures[0]) for record in study.records
    ), "of trials that are alike none beats the other"
    assert one(Parallel, found["Settings together"]).axes[-2:] == ["val.accuracy", "parameters"]
    assert {row[-1] for row in one(Table, found["Pareto front"]).rows} == {"front"}


@pytest.mark.parametrize("trials", [0, 1, 4])
def test_nothing_is_done_yet_or_all_have_failed(tmp_path: Path, trials: int) -> None:
    found = sections(searched(tmp_path / "s", lambda p, n: (), trials=trials))
    assert Text("No trial is done, so that there is no winner.", "bad") in found["What came of it"]
    assert "Each setting" not in found
    failed = [point for point in found["History"][0].points] if trials else []  # type: ignore[union-attr]
    assert len(failed) == trials


def test_few_trials_tell_little_and_more_tell_that_ranges_are_wide_enough(tmp_path: Path) -> None:
    few, many = (
        sections(searched(tmp_path / str(trials), lambda p, n: (float(n % 7),), trials=trials)) for trials in (6, 30)
    )
    assert few["Ends of ranges"] == [Text("6 finished trials are too few to tell whether a range ends too early.")]
    assert many["Ends of ranges"] == [Text("The best trials crowd no end of a range.", "good")]
    missing = Text("For a surface over two settings there must be 8 finished trials that have both.")
    assert missing in few["Settings together"]
    assert missing not in many["Settings together"]


def test_the_ensemble_of_its_trials_is_linked_though_it_is_made_later(tmp_path: Path) -> None:
    study = searched(tmp_path / "s", lambda p, n: (1.0,), trials=2)
    assert not [block for block in sections(study)["What came of it"] if isinstance(block, Table)]
    (study.folder / "recipe.toml").write_text("[ensemble]\nuse = 'greedy'\n")
    (study.folder / "best.toml").touch()
    table = one(Table, sections(study)["What came of it"])
    assert table.links == ["ensemble/report.html", "best.toml"]


def test_settings_that_do_not_always_count_and_values_from_elsewhere(tmp_path: Path) -> None:
    choices = Dimension("optimizer", "choice", choices=({"use": "sgd"}, {"use": "adamw"}))
    inner = [Dimension(f"optimizer#{n}.lr", "float", 1e-4, 1.0, "log", when={"optimizer": (n,)}) for n in (0, 1)]
    study = searched(tmp_path / "s", lambda p, n: (float(n),), (choices, *inner))
    study.records[0].trial.point = {"optimizer": 7, "optimizer#0.lr": "auto"}
    study.records[1].figures = (math.inf,)
    found = sections(study)
    lines = one(Parallel, found["Settings together"])
    assert {sum(share is None for share in row) for row in lines.rows} == {1, 3}
    columns = one(Table, found["All trials"]).columns
    assert columns.count("lr") == 1, "what ranges inside choices vary under one name is one column"


def test_a_long_search_stays_a_small_page(tmp_path: Path) -> None:
    many = tuple(Dimension(f"loss.weight_of_part_{place}", "float") for place in range(14))
    study = searched(tmp_path / "s", lambda p, n: (math.sin(n),), many, trials=3000)
    found = sections(study)
    assert len([block for block in found["Each setting"] if isinstance(block, Scatter)]) == 12
    assert {len(b.points) for b in found["Each setting"] if isinstance(b, Scatter)} == {MOST_POINTS // 12}
    assert "200 of 3000 trials are drawn, the best among them." in str(found["Each setting"])
    assert sum(point.group == "done" for point in found["History"][0].points) == MOST_DOTS  # type: ignore[union-attr]
    listed = [row[0] for row in one(Table, found["All trials"]).rows]
    assert listed == sorted(listed)
    assert {record.trial.number for record in study.ranked()[: len(listed) // 2]} <= set(listed)
    assert len(study_page(study, study.folder).encode()) < 2_000_000


def test_what_a_stranger_wrote_stays_text(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    odd = (
        Dimension(f"loss.{bad}", "float"),
        Dimension("data.path", "choice", choices=(bad, "</script><b>", "\x1b[2J")),
    )
    study = searched(tmp_path / "<b>s", lambda p, n: (float(n),), odd, (Objective(f"val.{bad}"),))
    study.searcher = bad
    study.records[0].message = bad
    study.findings = {
        "findings": [{"about": bad, "text": bad}],
        "importances": {bad: dict(value=1.0, low=0.5, high=1.0)},
    }
    (study.folder / "recipe.toml").write_text(f'# {bad}\nname = "{bad}"\n')
    (study.folder / "environment.json").write_text(json.dumps({bad: {bad: bad}, "plugins": [bad]}))
    page = study_page(study, tmp_path)
    assert bad not in page
    assert "<b>" not in page
    assert "\x1b" not in page


def test_a_log_that_no_search_wrote_is_said(tmp_path: Path) -> None:
    study = searched(tmp_path / "s", lambda p, n: (float(n),))
    study.records[3].trial.status = {"no": "status"}  # type: ignore[assignment]
    with pytest.raises(MachineError, match="this is not the log of a search"):
        write_study_page(study)
    assert not (study.folder / "report.html").exists()


def _number(text: str) -> int:
    """The trial that a hover text names."""
    found = re.match(r"trial (\d+):", text)
    assert found is not None
    return int(found[1])
