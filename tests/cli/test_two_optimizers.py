"""Groups, layers and two optimizers from the command line: what is shown, what is refused, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MORE = """\
layer_decay = 0.5
lr_for_batch = 32
lr_rule = "sqrt"
[[optimizer.group]]
type = "Linear"
ndim = 1
lr_scale = 2.0
[optimizer.rest]
use = "adam"
match = ["*.bias"]
"""


@pytest.fixture
def two(recipe) -> str:
    path = Path(recipe)
    text = path.read_text(encoding="utf-8").replace('use = "linear"', 'use = "mlp"\nwidths = [6, 6]')
    path.write_text(text + MORE, encoding="utf-8")
    return recipe


def test_the_start_shows_who_gets_what(trainkit, two):
    outcome = trainkit(two)
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("sgd "))
    table = [line.split() for line in lines[start : start + 8]]
    assert table[0] == ["sgd", "optimizer", "layer", "parameters", "lr", "lr_scale", "weight_decay", "names"]
    assert [row[2:4] for row in table[1:7]] == [
        ["sgd", "body.0"],
        ["sgd", "body.2"],
        ["sgd", "head"],
        ["adam", "body.0"],
        ["adam", "body.2"],
        ["adam", "head"],
    ]
    assert float(table[3][5]) == pytest.approx(0.1 * 0.5**0.5, rel=1e-5)
    assert float(table[4][5]) == pytest.approx(1e-3 * 0.25 * 2 * 0.5**0.5, rel=1e-5)
    assert lines[start + 7] == "lr x 0.707107  sqrt rule: rates for 32 samples an update, which has 16"


def test_the_run_folder_runs_again_to_the_same_weights(trainkit, two, tmp_path):
    first = trainkit(two, "--run-dir", "first", "--json").json
    again = trainkit("first/recipe.toml", "--run-dir", "again", "--json").json
    assert again["weights_sha256"] == first["weights_sha256"]
    lines = [
        (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines() for name in ("first", "again")
    ]
    rates = [[v for k, v in json.loads(line).items() if k.startswith("lr/")] for lines in lines for line in lines]
    assert rates[: len(rates) // 2] == rates[len(rates) // 2 :]
    assert len(rates[0]) == 6


def test_what_is_wrong_is_said_with_its_line_and_exit_code_2(trainkit, two, tmp_path):
    text = Path(two).read_text(encoding="utf-8").replace('type = "Linear"', 'type = "Lineal"')
    Path(two).write_text(text, encoding="utf-8")
    assert trainkit("validate", two).code == 0, "what the model holds is known when it is built"
    outcome = trainkit(two)
    assert outcome.code == 2
    line = text.splitlines().index('type = "Lineal"') + 1
    assert f'small.toml:{line}: [[optimizer.group]] type = "Lineal", ndim = 1 matches no parameter' in outcome.err
    assert "did you mean 'Linear'?" in outcome.err
    assert not list((tmp_path / "runs").glob("*"))


def test_muon_alone_says_what_it_lacks(trainkit, recipe):
    outcome = trainkit(recipe, "optimizer=muon")
    assert outcome.code == 2
    assert "[optimizer] muon takes parameters of at least 2 dimensions: 'head.bias' of shape (3,)" in outcome.err
    assert 'write [optimizer.rest] with use = "adamw", say' in outcome.err


def test_describe_shows_the_routing(trainkit):
    out = trainkit("describe", "optimizer", "muon").out
    assert "in [optimizer.rest], besides its own" in out
    assert "hidden_weights" in out
    assert "[optimizer.rest]\n" in out
