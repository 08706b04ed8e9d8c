"""A regression of two targets of a table, whose model says how sure it is: through every verb."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
import torch

from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.report.look import look_at
from trainkit.testing.whole import in_parts, trained

RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "4ep"
threads = 1
[data]
use = "csv"
path = "table.csv"
target = "price"
more_targets = ["weight"]
embed = true
batch_size = 16
[model]
use = "tabular"
widths = [8]
[loss]
use = "gaussian_nll"
[[metric]]
use = "rmse"
[[metric]]
use = "coverage"
[optimizer]
use = "adam"
lr = 0.01
"""


@pytest.fixture
def recipe(tmp_path) -> str:
    rows = ["size,colour,price,weight"]
    for n in range(120):
        size = math.sin(n)
        rows.append(f"{size},{'abcd'[n % 4]},{1000 + 50 * size + 10 * (n % 4) + n % 3},{size * size / 100}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "it.toml").write_text(RECIPE, encoding="utf-8")
    return "it.toml"


@pytest.fixture
def finished(trainkit, recipe) -> str:
    assert trainkit(recipe, "--run-dir", "one").code == 0
    return "one"


def test_a_run_s_figures_and_predictions_are_in_the_data_s_units(trainkit, finished):
    figures = trainkit("evaluate", finished, "--split", "val", "--json").json["metrics"]
    found = trainkit("predict", finished, "--split", "val", "--json").json
    given = {
        name: torch.tensor(found[name], dtype=torch.float64)
        for name in ("predicted", "truth", "std", "raw", "outputs", "targets")
    }
    assert [tuple(given[name].shape[1:]) for name in ("predicted", "truth", "std", "raw")] == [(2,), (2,), (2,), (4,)]
    assert 900 < float(given["truth"][:, 0].mean()) < 1100
    errors = given["predicted"] - given["truth"]
    assert figures["rmse"] == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-4)
    bounds = torch.special.ndtri(torch.tensor(0.9, dtype=torch.float64)) * given["std"]
    assert figures["coverage"] == pytest.approx(float((errors.abs() <= bounds).double().mean()))
    assert torch.equal(given["outputs"], given["raw"][:, :2])
    rows = list(csv.DictReader(io.StringIO(trainkit("predict", finished, "--split", "val").out)))
    assert set(rows[0]) >= {"predicted.0", "predicted.1", "truth.1", "std.0", "std.1", "raw.3"}


def test_pages_show_what_is_predicted(trainkit, finished, tmp_path):
    from trainkit.finished import open_run

    plugins = Plugins()
    plugins.load()
    look = look_at(open_run(tmp_path / finished, plugins), "val")
    assert look.notes == []
    assert look.predicted.shape == look.truth.shape == (18, 2)
    assert look.worst
    assert look.figures["mse"] > 0
    assert trainkit("report", finished, "--html", "page.html").code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "residuals of 'weight'" in page
    assert "targets below the model's quantiles" in page
    levels = dict((level, share) for level, share, _ in look.levels)
    assert len(levels) == 19
    assert levels[0.5] == float((look.truth <= look.predicted).mean())
    assert 0 <= levels[0.05] <= levels[0.95] <= 1


def test_a_probe_knows_what_to_expect(trainkit, recipe):
    found = {one["check"]: one for one in trainkit("probe", recipe, "--json").json["checks"]}
    start = found["initial-loss"]
    assert start["verdict"] == "good"
    assert start["figures"]["expected"] == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=0.1)
    assert start["figures"]["loss"] == pytest.approx(start["figures"]["expected"], abs=1.0)
    assert found["overfit"]["verdict"] in ("good", "doubtful")
    assert found["shuffled-labels"]["verdict"] in ("good", "not applicable")


@pytest.mark.parametrize("loss", ["gaussian_nll", "quantile"])
def test_a_run_that_is_interrupted_goes_on_bit_for_bit(recipe, tmp_path, loss, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugins = Plugins()
    plugins.load()
    made = load_recipe(tmp_path / recipe, [f"loss.use={loss}", "run.log_every=3ba"], plugins)
    straight, broken = trained(made, tmp_path / "straight"), in_parts(made, tmp_path / "broken", (1, 4, 7))
    assert straight.difference(broken) == ""


def test_members_of_an_ensemble_give_what_they_predict(trainkit, finished, recipe, tmp_path):
    assert trainkit(recipe, "seed=4", "--run-dir", "two").code == 0
    assert trainkit("ensemble", finished, "two", "--use", "seeds", "--out", "both", "--without", "reports").code == 0
    one, two, both = (trainkit("predict", name, "--split", "test", "--json").json for name in (finished, "two", "both"))
    mean = (torch.tensor(one["predicted"]) + torch.tensor(two["predicted"])) / 2
    torch.testing.assert_close(torch.tensor(both["predicted"]), mean, rtol=1e-5, atol=1e-3)
    # Of a mixture: the mean of the members' variances, and how far their means lie apart (as the model sees targets).
    sizes = torch.tensor(one["truth"]).std(0) / torch.tensor(one["targets"]).std(0)
    squares = [(torch.tensor(own["std"]) / sizes) ** 2 for own in (one, two)]
    apart = (torch.tensor(one["outputs"]) - torch.tensor(two["outputs"])) / 2
    torch.testing.assert_close(torch.tensor(both["variance"]), sum(squares) / 2 + apart**2, rtol=1e-3, atol=1e-6)
    figures = trainkit("evaluate", "both", "--json").json["metrics"]
    assert "rmse" in figures
    assert not {"loss", "coverage"} & set(figures)  # of outputs, which an ensemble has none of
    assert trainkit("export", "both", "--out", "both.pt2").code == 0
    assert trainkit("export", finished, "--out", "one.pt2").code == 0
    program = torch.export.load(tmp_path / "one.pt2").module()
    given = program(torch.zeros(3, 2))
    assert {name: tuple(value.shape) for name, value in given.items()} == {"mean": (3, 2), "raw": (3, 4)}
    assert torch.equal(given["mean"], given["raw"][:, :2])


def test_lanes_give_what_runs_one_after_another_do(trainkit, recipe, tmp_path):
    more = """
[search]
use = "grid"
objective = "val.rmse"
[search.space]
"optimizer.lr" = [0.003, 0.01, 0.03]
"""
    (tmp_path / recipe).write_text(RECIPE + more, encoding="utf-8")
    values = {}
    for executor in ("serial", "lanes"):
        done = trainkit(recipe, f"search.executor={executor}", "run.duration=1ep", "--run-dir", executor)
        assert done.code == 0, done.err
        lines = (tmp_path / executor / "study.jsonl").read_text(encoding="utf-8").splitlines()
        values[executor] = {e["trial"]: e["value"] for e in map(json.loads, lines) if e["event"] == "done"}
    assert len(values["serial"]) == 3
    assert values["lanes"] == pytest.approx(values["serial"], rel=1e-4)
