"""Verbs that read recipes and train nothing: validate, fill."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

WRONG = """\
recipe = 1
[run]
duration = "2ep"
[data]
use = "synthetic"
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sdg"
[schedule]
use = "cosine"
warmpu = "2ep"
"""


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    (tmp_path / "wrong.toml").write_text(WRONG, encoding="utf-8")
    return "wrong.toml"


def test_validate_a_right_recipe(trainkit, recipe):
    outcome = trainkit("validate", recipe)
    assert outcome == (0, "small.toml: no problems\n", "")
    assert trainkit("validate", recipe, "--json").json == {"problems": []}


def test_validate_shows_every_problem_then_the_summary(trainkit, wrong):
    outcome = trainkit("validate", wrong)
    assert (outcome.code, outcome.out) == (2, "")
    assert "wrong.toml:11: no optimizer named 'sdg'" in outcome.err
    assert "did you mean 'warmup'?" in outcome.err
    assert outcome.err.endswith("2 problems; nothing was run.\n")


def test_validate_as_json(trainkit, wrong):
    outcome = trainkit("validate", wrong, "--json")
    first, second = outcome.json["problems"]
    assert outcome.code == 2
    assert set(first) == {"place", "line", "message", "cure"}
    assert (first["place"], first["line"]) == ("wrong.toml", 11)
    assert "warmpu" in second["message"]


def test_validate_several_recipes_at_once(trainkit, recipe, wrong):
    outcome = trainkit("validate", recipe, wrong, "nowhere.toml")
    assert outcome.code == 2
    assert outcome.out == "small.toml: no problems\n"
    assert outcome.err.endswith("3 problems; nothing was run.\n")


def test_validate_with_values_of_the_command_line(trainkit, recipe):
    outcome = trainkit("validate", recipe, "optimizer.lr=-1", "optimizer.lrr=2")
    assert outcome.code == 2
    assert "command line: " in outcome.err
    assert "2 problems" in outcome.err


def test_a_problem_of_the_machine_alone_is_exit_code_3(trainkit, recipe):
    assert trainkit("validate", recipe, "optimizer.use=sgd").code == 0
    Path(recipe).write_text('requires = ["trainkit-of-nobody>=1"]\n' + Path(recipe).read_text(), encoding="utf-8")
    outcome = trainkit("validate", recipe)
    assert outcome.code == 3
    assert "pip install" in outcome.err


def test_fill_writes_a_recipe_that_is_right_by_itself(trainkit, recipe, tmp_path):
    outcome = trainkit("fill", recipe, "optimizer.lr=0.25")
    assert outcome.code == 0
    assert tomllib.loads(outcome.out)["optimizer"]["lr"] == 0.25
    (tmp_path / "filled.toml").write_text(outcome.out, encoding="utf-8")
    assert trainkit("validate", "filled.toml").code == 0


def test_fill_says_where_each_value_comes_from(trainkit, recipe):
    lines = trainkit("fill", recipe, "optimizer.lr=0.25", "--origin").out.splitlines()
    lr = next(line for line in lines if line.startswith("optimizer.lr "))
    assert "command line" in lr
    assert "small.toml:" in lr
    assert next(line for line in lines if line.startswith("run.device ")).endswith("default")


def test_fill_as_json(trainkit, recipe):
    assert trainkit("fill", recipe, "--json").json["recipe"]["optimizer"]["lr"] == 0.1
    assert isinstance(trainkit("fill", recipe, "--origin", "--json").json["origin"], list)


def test_notes_are_shown_where_they_are_asked_for(trainkit, recipe, monkeypatch):
    from trainkit import recipe as recipes

    load = recipes.load_recipe

    def noted(*args, **more):
        loaded = load(*args, **more)
        loaded.notes.append("two bases set optimizer.lr")
        return loaded

    monkeypatch.setattr(recipes, "load_recipe", noted)
    assert trainkit("validate", recipe).err == ""
    assert trainkit("validate", recipe, "-v").err == "note: two bases set optimizer.lr\n"
