"""The page of a run, as blocks: what stands on it, whatever the folder holds."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainkit.manager import Plugins
from trainkit.page import Bars, Block, Code, Curves, Facts, Heatmap, Pictures, Scatter, Section, Table, Text
from trainkit.report.open import look_into
from trainkit.report.run_page import RunPage, run_sections
from trainkit.report.state import is_held
from trainkit.report.summary import is_better_higher, samples_per_update
from trainkit.results import read_result
from trainkit.rundir import RunFolder

HIGHER = {"accuracy": True, "rmse": False}


def sections_of(folder: Path, split: str | None = None, plugins: Plugins | None = None) -> list[Section]:
    page = RunPage(folder, HIGHER)
    page.update()
    result, summary = page.read()
    look, why = look_into(folder, split, plugins, lambda *told: None) if plugins else (None, "because")
    return run_sections(result, page.seen, summary, look, why)


def blocks(sections: list[Section], kind: type[Any]) -> Iterator[Any]:
    return (block for section in sections for block in section.blocks if isinstance(block, kind))


def texts(sections: list[Section]) -> str:
    return "\n".join(block.text for block in blocks(sections, Text))


def titled(sections: list[Section], kind: type[Any], title: str) -> Any:
    found = [block for block in blocks(sections, kind) if block.title.startswith(title)]
    assert len(found) == 1, [block.title for block in blocks(sections, kind)]
    return found[0]


@pytest.fixture(scope="module")
def whole(pictures: Path, plugins: Plugins) -> list[Section]:
    return sections_of(pictures, "val", plugins)


@pytest.fixture
def copy(pictures: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pictures, tmp_path / "run"))


def test_all_parts_are_there_in_order(whole: list[Section]) -> None:
    assert [section.title for section in whole] == [
        "Summary",
        "Curves",
        "Schedules as run",
        "Gradients and weights",
        "Predictions on val",
        "Worst samples",
        "First weights",
        "Time",
        "Environment",
        "Recipe",
    ]
    assert all(section.blocks for section in whole)


def test_figures_are_those_of_the_report(whole: list[Section], pictures: Path) -> None:
    report = json.loads((pictures / "report.json").read_text())
    table = titled(whole, Table, "figures")
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["loss", "accuracy"]
    for figure, row in rows.items():
        for split in ("train", "val", "test"):
            assert row[split] == report["metrics"][f"{split}.{figure}"]
    assert rows["loss"]["best val"] == report["best"]["value"]
    assert rows["loss"]["at update"] == report["best"]["step"]
    assert rows["loss"]["gap"] == rows["loss"]["val"] - rows["loss"]["train"]
    assert rows["accuracy"]["gap"] == rows["accuracy"]["train"] - rows["accuracy"]["val"]
    facts = dict(next(blocks(whole, Facts)).rows)
    assert f"at update {report['best']['step']}, after " in facts["best val.loss"]
    assert facts["updates"] == report["steps"] == 24
    assert facts["SHA-256 of the weights"] == report["weights_sha256"]


def test_what_came_into_the_model_is_said(copy: Path) -> None:
    def begins() -> Any:
        return dict(next(blocks(sections_of(copy), Facts)).rows).get("begins with")

    assert begins() is None
    about = {"place": "runs/base/checkpoints/step-7", "taken": {"a": "x.a", "b": "x.b"}, "new": {"c": [2]}, "left": {}}
    (copy / "pretrained.json").write_text(json.dumps(about))
    assert begins() == "runs/base/checkpoints/step-7: 2 tensors, 1 new"
    (copy / "pretrained.json").write_text('{"place": ')  # a stranger's
    sections = sections_of(copy)
    assert any("pretrained.json cannot be read" in text.text for text in blocks(sections, Text))
    assert "model" in dict(next(blocks(sections, Facts)).rows)


def test_curves_show_each_split_the_best_and_the_test(whole: list[Section], pictures: Path) -> None:
    report = json.loads((pictures / "report.json").read_text())
    loss = titled(whole, Curves, "loss")
    assert [line.name for line in loss.lines] == ["train", "val"]
    step = report["best"]["step"]
    at = json.loads((pictures / "metrics.jsonl").read_text().splitlines()[2 * (step // 6 - 1)])
    assert loss.marks == [("step", float(step), "best"), ("epoch", step / 6, "best"), ("time", at["time"], "best")]
    assert loss.levels == [(report["metrics"]["test.loss"], "test")]
    assert tuple(loss.lines[1].x["epoch"]) == (1, 2, 3, 4)
    assert loss.lines[1].y[-1] == report["metrics"]["val.loss"]
    assert titled(whole, Curves, "accuracy").marks == []


def test_schedules_norms_and_ratios(whole: list[Section]) -> None:
    rate = titled(whole, Curves, "learning rate")
    assert len(rate.lines) == 1  # groups with one rate are one curve
    assert rate.lines[0].name == "lr/0, lr/1"
    assert not rate.smooth
    expected = [0.05 * (1 + math.cos(math.pi * t / 24)) for t in (5, 11, 17, 23)]
    assert list(rate.lines[0].y) == pytest.approx(expected, abs=1e-9)
    assert titled(whole, Curves, "gradient norm").lines
    assert titled(whole, Curves, "weight norm").lines
    ratio = titled(whole, Curves, "size of an update")
    assert ratio.levels == [(1e-3, "1e-3: usual")]
    assert ratio.log
    assert {line.name for line in ratio.lines} == {"update_ratio/0", "update_ratio/1"}


def test_predictions_calibration_and_pictures(whole: list[Section]) -> None:
    heat = titled(whole, Heatmap, "confusion")
    assert sum(map(sum, heat.values)) == 32
    calibration = titled(whole, Curves, "calibration")
    ideal, model = calibration.lines
    assert list(ideal.y) == list(ideal.x["confidence"]) == [0.0, 1.0]
    for low, share, high in zip(model.low, model.y, model.high, strict=True):
        assert 0 <= low <= share + 1e-9
        assert share - 1e-9 <= high <= 1
    assert sum(titled(whole, Bars, "samples by confidence").values) == 32
    confused = titled(whole, Table, "most frequent confusions")
    wrong = sum(map(sum, heat.values)) - sum(heat.values[i][i] for i in range(3))
    assert sum(row[2] for row in confused.rows) == wrong
    by_class = titled(whole, Table, "by class")
    assert sum(row[1] for row in by_class.rows) == 32
    assert by_class.rows[0][2] == heat.values[0][0] / sum(heat.values[0])
    assert len(titled(whole, Pictures, "highest loss").images) == 16
    assert ", taken for " in titled(whole, Pictures, "mistakes").images[0].text
    assert [len(block.images) for block in whole[6].blocks if isinstance(block, Pictures)] == [8]


def test_time_environment_and_recipe(whole: list[Section], pictures: Path) -> None:
    times = titled(whole, Bars, "where the time went")
    assert list(times.names[:3]) == ["updates", "evaluation of test", "evaluation of val"]
    assert sum(times.values) == pytest.approx(json.loads((pictures / "report.json").read_text())["seconds"], abs=2e-3)
    assert "--profile" in texts(whole)
    recipe, log = blocks(whole, Code)
    assert recipe.text == (pictures / "recipe.toml").read_text()
    assert "start: 24 updates" in log.text
    environment = dict(whole[-2].blocks[0].rows)
    assert environment["seed"] == 3
    assert environment["plugins trainkit"]


def test_a_regression_shows_residuals(numbers: Path, plugins: Plugins) -> None:
    sections = sections_of(numbers, "test", plugins)
    for number in range(2):
        against = titled(sections, Scatter, f"predicted of output {number}")
        own = [point for point in against.points if point.group == "samples"]
        residuals = titled(sections, Scatter, f"residuals of output {number}")
        for point, error in zip(own, residuals.points, strict=False):
            assert error.y == pytest.approx(point.y - point.x, abs=1e-9)
            assert error.x == point.y
        assert len(own) == 24
        assert sum(titled(sections, Bars, f"distribution of residuals of output {number}").values) == 24
    assert not next(iter(blocks(sections, Curves))).log
    table = titled(sections, Table, "largest errors")
    assert table.columns == ("sample", "output", "true", "predicted", "error")
    assert all(error == taken - true for *_, true, taken, error in table.rows)
    errors = [abs(error) for *_, error in table.rows]
    assert errors == pytest.approx(sorted(errors, reverse=True))  # nothing is standardised here
    assert "Not recorded" in texts(sections)  # no callback wrote norms


def test_without_predictions_it_says_why(pictures: Path) -> None:
    sections = sections_of(pictures)
    assert next(section for section in sections if section.title == "Predictions").blocks == [Text("because", "note")]


def test_a_run_that_goes_on_has_no_end_yet(copy: Path) -> None:
    (copy / "report.json").unlink()
    page = RunPage(copy, {})
    page.update()
    assert page.read()[1].status == "running"
    assert "killed" in page.read()[1].reason
    with RunFolder(copy, resume=True):
        assert is_held(copy)
        assert page.read()[1].reason == "its process is at work"
    assert not is_held(copy)
    _, summary = page.read()
    assert (summary.updates, summary.epochs) == (24, 4.0)
    assert summary.rows[1].best is None  # nothing says which way is good


def test_a_run_that_has_written_nothing_yet_has_a_page(copy: Path) -> None:
    for name in ("report.json", "metrics.jsonl", "log.txt", "history.jsonl", "environment.json"):
        (copy / name).unlink()
    sections = sections_of(copy)
    assert "Nothing has been measured yet." in texts(sections)
    assert "No time has been taken yet." in texts(sections)
    assert "<!doctype html>" in RunPage(copy, {}).html(reload=2.0).lower()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", "{"),
        ("report.json", '{"status": 3, "seconds": "x", "best": [1], "steps": true, "epochs": null}'),
        ("report.json", '{"status": "finished", "best": {"metric": "val.loss", "step": "x", "value": null}}'),
        ("environment.json", '{"device": ["x"], "seed": {"a": {"b": 1}}}'),
        ("environment.json", "[1]"),
        ("history.jsonl", '{"event": {"x": 1}}\n[2]\n'),
        ("profile.json", '{"parts": {"data": 3, "step": {"calls": "x", "seconds": 1}}}'),
        ("profile.json", '{"parts": [1]}'),
        ("log.txt", "\x1b[31mred" * 100_000),
        ("recipe.toml", "recipe = 1\n[metric]\nuse = 3\n"),
        ("recipe.toml", "recipe = 1\ndata = 3\nrun = []\n[schedule]\nalso = [1, {target = 2}]\n"),
        (
            "recipe.toml",
            'metric = [1, {use = 2}, {use = "accuracy"}]\n[data]\nbatch_size = "x"\n[run]\naccumulate = 0\n',
        ),
    ],
)
def test_a_strangers_folder_is_no_error(copy: Path, name: str, content: str) -> None:
    (copy / name).write_text(content)
    page = RunPage(copy, HIGHER)
    page.update()
    assert len(page.html()) < 2_000_000


def test_names_of_a_stranger_stay_text(copy: Path) -> None:
    line = {"step": 30, "epoch": 5, "split": "val", "time": 9.0, "<script>alert(1)</script>": 1.0, "a/</script>": 2.0}
    with (copy / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n" + json.dumps({**line, "step": 31}) + "\n")
    page = RunPage(copy, {})
    page.update()
    html = page.html()
    assert "<script>alert(1)" not in html
    assert "alert(1)" in html


def test_what_was_measured_with_profile_is_a_table(copy: Path) -> None:
    parts = {"step": {"calls": 24, "seconds": 0.5}, "data": {"calls": 24, "seconds": 0.75}}
    (copy / "profile.json").write_text(json.dumps({"parts": parts}))
    page = RunPage(copy, {})
    assert "measured with --profile" in page.html()
    page.profile = {"save": {"calls": 1, "seconds": 2.0}}
    result, summary = page.read()
    sections = run_sections(result, page.seen, summary, profile=page.profile)
    assert titled(sections, Table, "measured").rows == [("save", 1, 2.0)]


def test_which_way_is_good() -> None:
    assert is_better_higher("loss", {}) is False
    assert is_better_higher("top_k_5", {"top_k": True}) is True
    assert is_better_higher("f1.macro", {"f1": True}) is True
    assert is_better_higher("f1x", {"f1": True}) is None
    assert is_better_higher("return_std", {"return": True}) is None


def test_samples_of_an_update(copy: Path) -> None:
    result = read_result(copy)
    assert samples_per_update(result) == 16
    result.tables["schedule"]["also"] = [{"target": "data.batch_size"}]
    assert samples_per_update(result) is None


def all_blocks(sections: list[Section]) -> list[Block]:
    return [block for section in sections for block in section.blocks]


def test_no_number_of_a_curve_is_not_finite(whole: list[Section]) -> None:
    curves = [line for block in all_blocks(whole) if isinstance(block, Curves) for line in block.lines]
    assert curves
    for line in curves:
        assert all(math.isfinite(value) for value in line.y)
        assert all(len(places) == len(line.y) for places in line.x.values())
