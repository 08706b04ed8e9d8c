"""Every recipe of the cookbook runs as it stands; what is said of it is what comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli

from trainkit.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "cookbook.md").read_text(encoding="utf-8")
RECIPES = {
    section.partition("\n")[0]: block
    for section in PAGE.split("\n### ")[1:]
    for block in re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
}
OF_SEVERAL_RUNS = ("search", "ensemble")
SINGLE = [task for task, text in RECIPES.items() if tomli.loads(text).keys().isdisjoint(OF_SEVERAL_RUNS)]
SEVERAL = [task for task in RECIPES if task not in SINGLE]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with the tables that two recipes read."""
    rows = [f"{n % 7},{n * 3 % 11},{(n % 7) * 2 + n * 3 % 11}" for n in range(120)]
    (tmp_path / "measurements.csv").write_text("\n".join(["light,water,yield", *rows]), encoding="utf-8")
    days = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d},{day % 7 + day / 9:.2f}" for day in range(240)]
    (tmp_path / "sales.csv").write_text("\n".join(["day,sales", *days]), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_task_has_one_recipe_at_most():
    assert len(RECIPES) == PAGE.count("```toml")
    assert len(SINGLE) > 15
    assert len(SEVERAL) > 5


@pytest.mark.parametrize("task", SINGLE)
def test_a_recipe_trains_measures_saves_and_loads(task, folder):
    (folder / "recipe.toml").write_text(RECIPES[task], encoding="utf-8")
    assert main(["run", "recipe.toml", "--smoke", "run.threads=1", "-q"]) == 0


@pytest.mark.parametrize("task", SEVERAL)
def test_a_search_or_ensemble_comes_to_its_end(task, folder):
    (folder / "recipe.toml").write_text(RECIPES[task], encoding="utf-8")
    words = ["run", "recipe.toml", "--run-dir", "out", "run.threads=1", "--without", "reports", "-q"]
    short = ["ensemble.bootstrap=20"] if "[ensemble]" in RECIPES[task] else []
    assert main([*words, *short, "logger=[]"]) == 0
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "finished"


def test_a_finished_run_is_extended_and_read_as_the_page_says(folder, capsys):
    (folder / "recipe.toml").write_text(RECIPES["Decide the length later"], encoding="utf-8")
    words = ["run", "recipe.toml", "--run-dir", "runs/NAME", "run.duration=5ep", "run.threads=1", "logger=[]", "-q"]
    assert main(words) == 0
    report = json.loads((folder / "runs" / "NAME" / "report.json").read_text(encoding="utf-8"))
    capsys.readouterr()
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program, {})  # it is our own page
    lowest = float(capsys.readouterr().out.split()[0])
    assert lowest == pytest.approx(report["metrics"]["val.loss"], rel=0.3)
    (extend,) = re.findall(r"^    trainkit (resume .*)$", PAGE, re.MULTILINE)
    assert main([*extend.split(), "-q"]) == 0
    longer = json.loads((folder / "runs" / "NAME" / "report.json").read_text(encoding="utf-8"))
    assert (report["epochs"], longer["epochs"]) == (5, 15)
