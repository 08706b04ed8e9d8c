"""The page of an ensemble: made for whatever a report can hold, and says what the report says."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.report.ensembles import figure, report
from trainkit.cli import main
from trainkit.errors import MachineError
from trainkit.manager import Plugins
from trainkit.page import Block, Curves, Facts, Heatmap, Table, Text
from trainkit.report.ensemble import ensemble_page, ensemble_sections, write_ensemble_page
from trainkit.report.whole import EnsemblePage, write_page


def numbers(members: int = 3) -> dict[str, Any]:
    """The same of models for numbers."""
    made = report(members)
    made |= {"task": "regression", "kind": "raw", "chosen_by": "mse"}
    figures = {"raw": {"mse": figure(2.0), "mae": figure(1.0), "r2": figure(0.5)}}
    for one in (*made["members"], made["mean_member"], made["best_member"], made["ensemble"], made["longer"]):
        one |= {"test": figures, "validation": figures}
    for point in made["curve"]["points"]:
        point["raw"] = {"mse": 2.0, "mae": 1.0, "r2": 0.5}
        del point["calibrated"]
    del made["reliability"], made["classes"], made["diversity"]["disagreement"], made["diversity"]["kl"]
    return made


def sections(folder: Path, held: dict[str, Any]) -> dict[str, Sequence[Block]]:
    assert ensemble_page(folder, held, folder).startswith("<!DOCTYPE html>")
    return {section.title: section.blocks for section in ensemble_sections(folder, held, folder)}


def of(kind: Any, blocks: Sequence[Block]) -> list[Any]:
    return [block for block in blocks if isinstance(block, kind)]


def test_all_of_a_report_is_on_its_page(tmp_path: Path) -> None:
    found = sections(tmp_path, report())
    assert list(found) == [
        *("What came of it", "Members", "Number of members", "Calibration", "How members differ", "Cost", "Classes")
    ]
    facts = dict(of(Facts, found["What came of it"])[0].rows)
    assert facts["members"] == "3, 2 of them kept"
    assert facts["temperature"] == 1.25
    assert Text("The ensemble is better than the best member") in found["What came of it"]
    assert Text("member 7 was left out", "note") in found["What came of it"]
    (table,) = of(Table, found["Members"])
    assert [row[0] for row in table.rows] == [
        *("ensemble", "best member", "mean of members", "one longer run", "runs/0", "runs/1", "runs/2")
    ]
    assert table.columns[:4] == ["model", "accuracy", "from", "to"]
    assert table.rows[0][1:4] == [0.9, pytest.approx(0.85), pytest.approx(0.95)]
    assert [row[-3] for row in table.rows] == [None] * 4 + [False, True, True]
    cost = of(Table, found["Cost"])[0]
    assert [row[:2] for row in cost.rows] == [["best member", 1810], ["ensemble", 3620], ["one longer run", None]]
    words = of(Text, found["Cost"])[0].text
    assert "2 passes of members for each prediction, and 2.5 times the best member's time" in words
    assert "its training took 3 times the updates" in words


def test_accuracy_and_calibration_against_the_number_of_members(tmp_path: Path) -> None:
    curves = of(Curves, sections(tmp_path, report())["Number of members"])
    assert [curve.title for curve in curves] == [
        "Accuracy",
        "Negative log likelihood, each after its own temperature",
        "Negative log likelihood",
        "Calibration error",
        "Calibration error, each after its own temperature",
    ]
    ensemble, best, longer = curves[0].lines
    assert ensemble.x == {"members": [1.0, 2.0, 3.0]}
    assert list(ensemble.y) == pytest.approx([0.81, 0.82, 0.83])
    assert (list(best.y), list(best.low)) == ([0.88, 0.88], [])
    assert list(longer.low) == pytest.approx([0.9, 0.9])
    assert list(curves[3].lines[0].y) == pytest.approx([0.1, 0.05, 0.1 / 3])
    assert [
        len(curve.lines) for curve in of(Curves, sections(tmp_path, report(longer=False))["Number of members"])
    ] == [2] * 5


def test_how_sure_and_how_right(tmp_path: Path) -> None:
    blocks = sections(tmp_path, report())["Calibration"]
    raw, calibrated = of(Curves, blocks)
    even, ensemble, _ = raw.lines
    assert even.y == [0.0, 1.0]
    assert ensemble.x["confidence"] == pytest.approx([1.5 / 15, 3.5 / 15, 4.5 / 15])
    assert all(
        low - 1e-12 <= share <= high + 1e-12
        for low, share, high in zip(ensemble.low, ensemble.y, ensemble.high, strict=True)
    )
    assert len(calibrated.lines[1].y) == 2
    assert of(Table, blocks)[0].rows == [
        ["ensemble", pytest.approx(0.05), pytest.approx(0.02), 1.25],
        ["best member", pytest.approx(0.07), pytest.approx(0.04), 1.5],
    ]


def test_members_that_differ(tmp_path: Path) -> None:
    maps = of(Heatmap, sections(tmp_path, report())["How members differ"])
    assert len(maps) == 3
    assert maps[0].title.endswith("(mean 0.15)")
    assert maps[0].rows == maps[0].columns == ["runs/0", "runs/1", "runs/2"]
    assert maps[0].values[1] == [pytest.approx(0.2), None, pytest.approx(0.2)]


def test_numbers_instead_of_classes(tmp_path: Path) -> None:
    found = sections(tmp_path, numbers())
    assert "Calibration" not in found
    assert "temperature" not in dict(of(Facts, found["What came of it"])[0].rows)
    assert [curve.title for curve in of(Curves, found["Number of members"])] == [
        *("Mean squared error", "Mean absolute error", "Explained share (r2)")
    ]
    assert len(of(Heatmap, found["How members differ"])) == 1


def test_less_to_show(tmp_path: Path) -> None:
    alone = report(members=1, longer=False)
    alone["curve"] = {"reason": "there is one member"}
    del alone["samples"]["test"]
    for one in (*alone["members"], alone["ensemble"], alone["best_member"], alone["mean_member"]):
        del one["test"]
    for name in ("reliability", "diversity"):
        alone[name]["split"] = "validation"
    found = sections(tmp_path, alone)
    assert Text("There is no curve, as there is one member.", "note") in found["Number of members"]
    assert "How members differ" not in found
    assert of(Table, found["Members"])[0].title == "On 50 validation samples"
    folds = report()  # what is out of fold is not measured of the ensemble
    del folds["reliability"], folds["diversity"], folds["classes"], folds["ensemble"]["validation"]
    folds["validation_is"] = "out of fold"
    assert "validation" in dict(of(Facts, sections(tmp_path, folds)["What came of it"])[0].rows)


def test_figures_that_were_infinite(tmp_path: Path) -> None:
    held = report()
    nothing = {"value": None, "low": None, "high": None}
    for name in ("ensemble", "longer", "best_member"):
        held[name]["test"]["calibrated"]["nll"] = nothing
    held["curve"]["points"][1]["calibrated"]["nll"] = None
    held["diversity"]["kl"] = {"matrix": [[None] * 3] * 3, "mean": None}
    curve = of(Curves, sections(tmp_path, held)["Number of members"])[1]
    assert [line.name for line in curve.lines] == ["ensemble"]
    assert math.isnan(curve.lines[0].y[1])


def test_what_a_stranger_wrote_stays_text_and_what_nobody_wrote_is_said(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    held = report()
    held |= {"ensembler": bad, "words": [bad], "notes": [bad]}
    held["members"][0]["name"] = held["diversity"]["members"][0] = held["classes"][0]["class"] = bad
    held["cost"]["member"]["device"] = bad
    assert bad not in ensemble_page(tmp_path, held, tmp_path)
    for key in ("members", "cost", "curve", "level", "samples"):
        with pytest.raises(MachineError, match="not the report of an ensemble"):
            write_ensemble_page(tmp_path, held | {key: "three"})
        with pytest.raises(MachineError, match="not the report of an ensemble"):
            write_ensemble_page(tmp_path, {name: value for name, value in held.items() if name != key})
    assert not (tmp_path / "report.html").exists()


def test_one_that_is_being_made_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "five"
    (folder / "members" / "0000").mkdir(parents=True)
    (folder / "recipe.toml").write_text("[ensemble]\n")
    page = EnsemblePage(folder, folder)
    assert [page.update(), page.update()] == [True, False]
    assert "being trained" in page.html(2.0)
    (folder / "members/0000/report.json").write_text('{"status": "finished"}')
    assert page.update()
    assert "finished" in page.html(2.0)
    assert "being made" in page.html(), "also where the watching ends before it"
    assert main(["report", str(folder), "--html", str(tmp_path / "a.html")]) == 2
    assert "the ensemble is not finished" in capsys.readouterr().err
    (folder / "report.json").write_text(json.dumps(report()))
    (folder / "members/0000/report.html").touch()
    there = tmp_path / "there.html"
    assert main(["report", str(folder), "--html", str(there), "--without", "reports"]) == 0
    assert f"  {there}" in capsys.readouterr().out.splitlines()
    assert '<a href="five/members/0000/report.html">' in there.read_text()
    assert write_page(folder, Plugins(), None, None, print) == folder / "report.html"
    assert main(["report", str(folder), "--json", "--without", "reports"]) == 0
    assert json.loads(capsys.readouterr().out)["html"] == str(folder / "report.html")
