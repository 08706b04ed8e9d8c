"""A run folder's recipe elsewhere: it runs alone, or one message says what the place lacks."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest

CODE = """
from trainkit import Component, Schedule, hookimpl

def {name}(*, end: float = 0.5) -> Schedule:
    '''Go down in a line.

    Args:
        end: the last value.
    '''
    return lambda t, T, events: 1 - (1 - end) * min(t / T, 1)

@hookimpl
def trainkit_components():
    return [Component("schedule", {name})]
"""


@pytest.fixture
def two_packages(recipe_package) -> None:
    recipe_package("trainkit_downhill", {}, "0.4.1+local", CODE.format(name="downhill"))
    recipe_package("trainkit_uphill", {}, "2.0", CODE.format(name="uphill"))


@pytest.fixture
def run(trainkit, recipe, two_packages, tmp_path) -> Path:
    """The folder of a run that uses components of two other packages."""
    words = ("schedule=downhill", 'schedule.multiply=[{ use = "uphill" }]')
    assert trainkit("run", recipe, *words, "--run-dir", "a").code == 0
    return tmp_path / "a"


def weights(folder: Path) -> str:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))["weights_sha256"]


def test_the_recipe_of_a_run_names_every_distribution_that_it_uses(run):
    written = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))
    assert written["requires"] == ["trainkit-downhill>=0.4.1", "trainkit-uphill>=2.0"]


def test_it_runs_again_elsewhere_and_to_the_same_weights(run, trainkit, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(run / "recipe.toml", elsewhere / "theirs.toml")
    shutil.move(run, tmp_path / "gone")
    monkeypatch.chdir(elsewhere)
    assert trainkit("run", "theirs.toml", "--run-dir", "b").code == 0
    assert weights(elsewhere / "b") == weights(tmp_path / "gone")
    assert (elsewhere / "b" / "recipe.toml").read_text() == (elsewhere / "theirs.toml").read_text()


def test_what_is_missing_there_is_one_problem_with_one_command(run, trainkit, tmp_path):
    for package in ("trainkit_downhill", "trainkit_uphill"):
        for part in (tmp_path / "site").glob(f"{package}*"):
            shutil.rmtree(part)
    outcome = trainkit("validate", "a/recipe.toml")
    assert outcome.code == 3
    assert outcome.err.splitlines() == [
        "a/recipe.toml:3: the recipe needs 'trainkit-downhill>=0.4.1', which is not installed",
        "  and 'trainkit-uphill>=2.0', which is not installed",
        '    requires = ["trainkit-downhill>=0.4.1", "trainkit-uphill>=2.0"]',
        "  install them with: pip install 'trainkit-downhill>=0.4.1' 'trainkit-uphill>=2.0'",
        "1 problem; nothing was run.",
    ]


def test_an_older_version_there_is_named_with_the_one_that_will_do(run, trainkit, recipe_package):
    recipe_package("trainkit_uphill", {}, "1.9", CODE.format(name="uphill"))
    outcome = trainkit("run", "a/recipe.toml")
    assert outcome.code == 3
    assert "needs 'trainkit-uphill>=2.0', but trainkit-uphill 1.9 is installed" in outcome.err
    assert "pip install 'trainkit-uphill>=2.0'" in outcome.err
    assert trainkit("validate", "a/recipe.toml", 'drop=["requires"]').code == 0


def test_a_continued_run_goes_on_with_a_newer_version_where_that_is_accepted(run, trainkit, recipe_package):
    recipe_package("trainkit_uphill", {}, "2.1", CODE.format(name="uphill"))
    words = ("resume", "a", "run.duration=3ep", "run.on_length_change=rescale")
    refused = trainkit(*words)
    assert refused.code == 3
    assert "trainkit-uphill is 2.1, was 2.0" in refused.err
    assert trainkit(*words, "--accept-drift").code == 0
    assert '"trainkit-uphill>=2.1"' in (run / "recipe.toml").read_text(encoding="utf-8")


def test_a_distribution_that_is_missing_hides_no_wrong_value(trainkit, recipe, tmp_path):
    text = (tmp_path / recipe).read_text(encoding="utf-8").replace("lr = 0.1", "lr = -0.1")
    text = text.replace('"sgd"', '"sgdm"').replace("recipe = 1", 'recipe = 1\nrequires = ["nobody-has>=1"]')
    (tmp_path / recipe).write_text(text.replace('"2ep"', '"2 ep"'), encoding="utf-8")
    outcome = trainkit("validate", recipe)
    assert outcome.code == 2
    assert "duration" in outcome.err
    assert "sgdm" not in outcome.err
    assert outcome.err.endswith("2 problems; nothing was run.\n")


def test_a_figure_of_a_metric_that_is_missing_is_no_problem_of_its_own(trainkit, recipe, tmp_path):
    with open(tmp_path / recipe, "a", encoding="utf-8") as file:
        file.write('[[metric]]\nuse = "f1_of_nobody"\n')
    text = (tmp_path / recipe).read_text(encoding="utf-8")
    (tmp_path / recipe).write_text(
        text.replace("[run]", 'requires = ["nobody-has"]\n[run]\nmonitor = "val.f1_of_nobody"'), encoding="utf-8"
    )
    outcome = trainkit("validate", recipe)
    assert (outcome.code, outcome.err.count("\n")) == (3, 4)


def test_data_is_found_from_the_data_folder_or_said_where_it_was_looked_for(trainkit, recipe, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    rows = "".join(f"{n % 7},{n % 3},{'ab'[n % 2]}\n" for n in range(60))
    (tmp_path / "data" / "table.csv").write_text(f"x,y,label\n{rows}", encoding="utf-8")
    table = 'data={ use = "csv", path = "data/table.csv", target = "label", batch_size = 16 }'
    assert trainkit("run", recipe, table, "--run-dir", "a").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lacking = trainkit("run", "../a/recipe.toml")
    assert lacking.code == 2
    assert f"there is no file {tmp_path / 'elsewhere' / 'data' / 'table.csv'}" in lacking.err
    assert "relative paths start at TRAINKIT_DATA" in lacking.err
    monkeypatch.setenv("TRAINKIT_DATA", str(tmp_path))
    assert trainkit("run", "../a/recipe.toml", "--run-dir", "b").code == 0
    assert weights(tmp_path / "elsewhere" / "b") == weights(tmp_path / "a")
