"""The end of a search: ``best.toml`` and ``wider.toml`` run, what is found out is written, plugins draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import Searching
from trainkit.cli import main
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.search.closing import allowed, write_wider
from trainkit.search.edges import Edge
from trainkit.search.findings import Findings
from trainkit.search.ledger import read_study

CHOICES = """
[search.space.optimizer]
choices = [
    { use = "sgd", lr = { low = 1e-5, high = 1e-4, scale = "log" } },
    { use = "adamw", lr = { low = 1e-5, high = 1e-4, scale = "log" }, betas = [0.9, 0.99] },
]
"""


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def crowded(searching: Searching, tmp_path: Path) -> Path:
    """A search whose rates are all too low, and that says so."""
    head, _, _ = searching.file.read_text().partition("[search.space]")
    searching.file.write_text(head + '[search.space]\n"optimizer.lr" = { low = 1e-5, high = 1e-3, scale = "log" }\n')
    searching(tmp_path / "s", "search.trials=30", "optimizer.lr=1e-4", "data.samples=64")
    return tmp_path / "s"


def test_a_range_whose_end_is_crowded_is_wider_in_a_recipe_that_runs(crowded: Path, plugins: Plugins) -> None:
    found = json.loads((crowded / "report.json").read_text())["findings"]
    edges = {edge["setting"]: edge for edge in found["edges"]}
    assert edges["optimizer.lr"]["end"] == "upper"
    assert edges["optimizer.lr"]["proposed"] == pytest.approx(1e-2)
    assert any("better ones may lie beyond" in one["text"] for one in found["findings"])
    wider = load_recipe(crowded / "wider.toml", [], plugins)
    assert wider.search is not None
    assert wider.search.space["optimizer.lr"].high == pytest.approx(1e-2)
    assert wider.search.space["optimizer.lr"].low == 1e-5
    again = crowded.parent / "wider"
    assert main(["run", str(crowded / "wider.toml"), "search.trials=2", "--run-dir", str(again), "-q"]) == 0
    assert json.loads((again / "report.json").read_text())["trials"] == {"done": 2}
    # The first of its trials is the recipe as written, the second no longer one of the narrow search.
    assert read_study(again).space["optimizer.lr"].high == pytest.approx(1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        ("search.trials=4",),
        ("search.trials=4", "search.folds=2", "search.objective=val.accuracy"),
        ("search.trials=4", 'search.space={"optimizer.use"=["sgd","adamw"],"seed"={low=0,high=99}}'),
    ],
    ids=["numbers", "folds", "components"],
)
def test_the_best_recipe_gives_the_winner_again(
    searching: Searching, tmp_path: Path, plugins: Plugins, changes: tuple[str, ...]
) -> None:
    report = searching(tmp_path / "s", *changes)
    assert report.best is not None
    recipe = load_recipe(tmp_path / "s/best.toml", [], plugins)
    assert recipe.search is None
    made = launch(recipe, plugins, folder=tmp_path / "again")
    study = read_study(tmp_path / "s")
    own = f"trials/{report.best['trial']:04d}"
    if "search.folds=2" not in changes:
        trial = json.loads((tmp_path / "s" / own / "report.json").read_text())
        assert made.weights_sha256 == trial["weights_sha256"]
        best = study.best()
        assert best is not None
        assert made.metrics["val.loss"] == best.figures[0]
    else:  # the recipe's own split instead of the folds: another validation set, the same settings
        assert recipe.tables["optimizer"]["lr"] == report.best["point"]["optimizer.lr"]
        assert recipe.tables["data"]["folds"] is None
        assert made.status == "finished"


def test_ranges_inside_choices_are_told_and_left_out_of_the_wider_recipe(
    searching: Searching, tmp_path: Path, plugins: Plugins
) -> None:
    text = searching.file.read_text()
    head, _, _ = text.partition("[search.space]")
    searching.file.write_text(head + CHOICES)
    searching(tmp_path / "s", "search.trials=2", "run.duration=1ep")
    study = read_study(tmp_path / "s")
    nested = Edge("optimizer#1.lr", "upper", 1e-4, 1e-3, (4, 5))
    assert allowed(study, plugins, nested)
    assert not allowed(study, plugins, Edge("optimizer#1.lr", "lower", 1e-5, -1.0, (4, 5)))
    write_wider(study, Findings([], [], [nested], []), plugins)
    assert not (tmp_path / "s/wider.toml").exists()
    assert str(nested).startswith("optimizer#1.lr: the best trials lie at the upper end")


def test_no_range_leaves_what_its_setting_can_be(searching: Searching, tmp_path: Path, plugins: Plugins) -> None:
    space = 'search.space={"optimizer.momentum"={low=0.5,high=0.9},"loss.label_smoothing"={low=0.0,high=0.5}}'
    searching(tmp_path / "s", "search.trials=2", "run.duration=1ep", space)
    study = read_study(tmp_path / "s")
    assert not allowed(study, plugins, Edge("optimizer.momentum", "upper", 0.9, 1.3, (5, 5)))
    fine = Edge("loss.label_smoothing", "upper", 0.5, 0.75, (5, 5))
    write_wider(study, Findings([], [], [fine], []), plugins)
    assert (tmp_path / "s/wider.toml").is_file()
    write_wider(study, Findings([], [], [], []), plugins)
    assert not (tmp_path / "s/wider.toml").exists(), "of an earlier end"


def test_the_end_is_told_in_words(searching: Searching, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    words = [
        "search.objectives=['val.loss','parameters']",
        "search=genetic",
        "search.trials=6",
        "--run-dir",
        str(folder),
    ]
    assert main([str(searching.file), *words]) == 0
    said = capsys.readouterr().err
    assert "front: the trials that no other one beats in all objectives" in said
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    for one in report["front"]:
        assert f"trial {one['trial']}" in said
    assert report["best"]["trial"] == report["front"][0]["trial"]
    assert f"{folder}: front.png" in said
    assert f"winner {folder / 'best.toml'}" in said
    assert f"trainkit report {folder}" in said
