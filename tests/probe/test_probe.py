"""``trainkit probe``: healthy recipes pass each check, and a broken part of each sort is found by the check for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainkit.cli import main
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.probe import CHECKS, probe
from trainkit.probe.fitting import chance_of, foreseeable
from trainkit.recipe import load_recipe

PARTS = Path(__file__).parent / "trainkit_probe_parts.py"
RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """\
recipe = 1
seed = 5
[run]
duration = "20ep"
device = "cpu"
threads = 1
[data]
use = "faulty"
batch_size = 16
[model]
use = "tidy"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.3
momentum = 0.9
"""


@pytest.fixture(scope="module")
def plugins():
    return Plugins([str(PARTS)])


@pytest.fixture
def look(plugins, tmp_path):
    """Probe the small recipe, with changes, for some of the checks; findings by name."""

    def look(*only, changes=(), more=""):
        path = tmp_path / "small.toml"
        path.write_text(RECIPE + more, encoding="utf-8")
        recipe = load_recipe(path, ["logger=[]", *changes], plugins)
        return {finding.name: finding for finding in probe(recipe, plugins, only).findings}

    return look


# ---------------------------------------------------------------- healthy


def test_a_healthy_recipe_passes_each_check_and_leaves_nothing(look, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    state = torch.random.get_rng_state()
    found = look()
    assert list(found) == list(CHECKS)
    assert {name: one.verdict for name, one in found.items() if one.verdict != "good" and name != "time"} == {}
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found["initial-loss"].figures["expected"] == pytest.approx(0.693147, abs=1e-5)
    assert found["gradient-check"].figures["largest"] < 1e-6
    assert found["gradient-check"].figures["numbers"] >= 14
    (table,) = found["inputs"].blocks
    assert [row[0] for row in table.rows] == ["inputs, train", "inputs, val"]
    assert table.rows[0][1] == pytest.approx(found["inputs"].figures["mean"], rel=1e-3)  # a number, which sorts as such


def test_weights_that_were_trained_before_may_know_something(look, plugins, tmp_path):
    recipe = tmp_path / "base.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    launch(load_recipe(recipe, ["logger=[]"], plugins), plugins, folder=tmp_path / "base")
    weights = f'model.weights="{tmp_path}/base"'
    alone, headed = (
        look("initial-loss", changes=[weights, *more])["initial-loss"] for more in ([], ['model.head=["2.*"]'])
    )
    assert (alone.verdict, alone.figures["expected"], alone.cure) == ("good", None, "")
    assert alone.figures["loss"] < 0.4
    assert alone.expected.startswith("any: all weights were trained before")
    assert headed.figures["expected"] == pytest.approx(0.693147, abs=1e-5)
    assert headed.verdict != "bad"


def test_the_first_updates_of_a_run_in_double_precision_are_seen(look):
    single, double = (look("update-ratio", changes=[f"run.precision={name}"]) for name in ("float32", "float64"))
    assert double["update-ratio"].verdict == "good"
    assert double["update-ratio"].figures["median"] == pytest.approx(single["update-ratio"].figures["median"], rel=1e-3)


@pytest.mark.parametrize(
    ("name", "changes", "without"),
    [
        ("mlp_digits", [], set()),
        ("resnet_cosine", ["run.duration=5ep"], set()),  # less work, of the same kind
        ("diabetes_regression", [], set()),
        ("lbfgs_least_squares", [], {"dead-relus"}),
        ("muon_adamw", [], set()),
        ("fine_tune", [], set()),
        ("ensemble/packed", [], set()),
    ],
)
def test_shipped_recipes_are_healthy(name, changes, without):
    plugins = Plugins()
    recipe = load_recipe(RECIPES / f"{name}.toml", ["logger=[]", "run.threads=1", *changes], plugins)
    found = probe(recipe, plugins)
    verdicts = {finding.name: finding.verdict for finding in found.findings}
    assert verdicts.pop("time") in ("good", "doubtful")  # on a crowded machine anything may take long
    assert verdicts == {name: "not applicable" if name in without else "good" for name in CHECKS if name != "time"}


# ---------------------------------------------------------------- the command


def test_the_command_ends_with_1_where_a_check_is_bad_and_writes_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("<b>odd.toml").write_text(RECIPE, encoding="utf-8")
    words = ["probe", "<b>odd.toml", "-p", str(PARTS), "--only", "initial-loss,update-ratio", "--html", "page.html"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is True
    assert [(one["check"], one["verdict"]) for one in told["checks"]] == [
        ("initial-loss", "good"),
        ("update-ratio", "good"),
    ]
    page = Path("page.html").read_text(encoding="utf-8")
    assert "initial-loss" in page
    assert "<b>odd" not in page
    assert main([*words, "model={use='sure'}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["bad", "initial-loss"]
    assert [line.split()[0] for line in lines[3:6]] == ["expected", "seen", "cure"]
    assert lines[-1].startswith("2 checks: 1 good, 1 bad; ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["<b>odd.toml", "page.html"]


def test_a_check_that_is_not_there_is_refused_before_anything(tmp_path, capsys):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE, encoding="utf-8")
    assert main(["probe", str(path), "-p", str(PARTS), "--only", "overfitt"]) == 2
    assert "did you mean 'overfit'" in capsys.readouterr().err


def test_what_was_found_is_told_where_its_page_cannot_be_written(tmp_path, capsys):
    path, page = tmp_path / "small.toml", tmp_path / "page.html"
    path.write_text(RECIPE, encoding="utf-8")
    page.mkdir()
    assert main(["probe", str(path), "-p", str(PARTS), "--only", "inputs", "--html", str(page), "-q"]) == 3
    said = capsys.readouterr()
    assert "1 check: 1 good" in said.out
    assert "page.html: cannot be written: Is a directory" in said.err


def test_a_check_that_ends_with_an_error_is_a_finding_that_names_the_plugin(look):
    found = look("overfit", "update-ratio", "inputs", more='[[callback]]\nuse = "raises"\n')
    assert [one.verdict for one in found.values()] == ["good", "bad", "bad"]
    assert "KeyError: 'lost'" in found["overfit"].seen
    assert "trainkit_probe_parts" in found["overfit"].seen + found["overfit"].cure


def test_a_user_may_see_where_a_check_ended(tmp_path, capsys):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE + '[[callback]]\nuse = "raises"\n', encoding="utf-8")
    words = ["probe", str(path), "-p", str(PARTS), "--only", "update-ratio", "-q"]
    for more, shown in (([], 0), (["--traceback"], 1)):
        assert main([*words, *more]) == 1
        assert capsys.readouterr().err.count("Traceback") == shown


def test_the_recipe_of_a_search_is_probed_as_one_run(tmp_path, capsys):
    path = tmp_path / "small.toml"
    more = '[search]\nuse = "random"\ntrials = 2\n[search.space]\n"optimizer.lr" = {low=0.1, high=0.4}\n'
    path.write_text(RECIPE + more, encoding="utf-8")
    assert main(["probe", str(path), "-p", str(PARTS), "--only", "inputs", "-q"]) == 0
    assert "1 check: 1 good" in capsys.readouterr().out


# ---------------------------------------------------------------- broken


@pytest.mark.parametrize(
    ("check", "verdict", "said", "changes", "more"),
    [
        ("inputs", "bad", "far from 1", ["data.fault=large"], ""),
        ("inputs", "bad", "all inputs are equal", ["data.fault=constant"], ""),
        ("inputs", "bad", "feature 2 gives the target away", ["data.fault=leak"], ""),
        ("inputs", "bad", "50 of 50 samples of val are training samples", ["data.fault=shared"], ""),
        ("inputs", "doubtful", "means of val are up to", ["data.fault=drift"], ""),
        ("inputs", "good", "samples of val are training samples, too, as", ["data.fault=words"], ""),
        ("same-seed", "bad", "loss 0 differs first", ["model={use='whims'}"], ""),
        ("same-seed", "bad", "batch 0 differs first", ["data.fault=unseeded"], ""),
        ("initial-loss", "bad", "", ["model={use='sure'}"], ""),
        ("initial-loss", "bad", "", ["loss={use='summed_loss'}"], ""),
        ("initial-loss", "good", "", ["model={use='normed'}", "data.samples=194"], ""),
        ("initial-loss", "bad", "plugins", [], '[[callback]]\nuse = "reward"\n'),
        ("gradient-check", "bad", "(0.", ["model={use='wrong_gradient'}"], ""),
        ("gradient-check", "bad", "0.", ["model={use='detached'}"], ""),
        ("gradient-check", "not applicable", "computes in float32", ["model={use='single'}"], ""),
        ("gradient-check", "good", "of 1 parameters", ["model={use='sparse'}"], ""),
        ("batch-independence", "bad", "outputs change by up to", ["model={use='mixing'}"], ""),
        ("batch-independence", "good", "", ["model={use='single'}"], ""),
        ("all-parameters", "bad", "2 of 4 get none, or zeros: 0.weight, 0.bias", ["model={use='detached'}"], ""),
        ("update-ratio", "bad", "", ["optimizer.lr=1e5"], ""),
        ("update-ratio", "bad", "", ["optimizer.lr=1e-9"], ""),
        (
            "update-ratio",
            "good",
            "",
            ["run.duration=120ba"],
            '[[callback]]\nuse = "gradual_unfreeze"\nevery = "110ba"\n',
        ),
        ("dead-relus", "bad", "ReLU 1 (1)", ["model={use='silent'}"], ""),
        ("dead-relus", "good", "129 samples", ["model={use='normed'}", "data.samples=194", "data.batch_size=43"], ""),
        ("dead-relus", "not applicable", "no ReLU", ["model.relu=false"], ""),
        ("time", "doubtful", "data", ["data.fault=slow"], ""),
        ("overfit", "bad", "Adam", ["model={use='blind'}"], ""),
        ("overfit", "doubtful", "Adam at 1e-3: 100 % right", ["optimizer.lr=1e-9"], ""),
        ("shuffled-labels", "bad", "shuffled labels", [], '[[callback]]\nuse = "peek"\n'),
        (
            "shuffled-labels",
            "bad",
            "the metric 'accuracy' says 0.93",
            [],
            '[[metric]]\nuse = "trainkit_probe_parts:accuracy"\n',
        ),
    ],
)
def test_each_broken_part_is_found_by_the_check_for_it(look, check, verdict, said, changes, more):
    found = look(check, changes=changes, more=more)
    assert list(found) == [check]
    assert (found[check].verdict, said in found[check].seen) == (verdict, True), found[check].seen
    assert bool(found[check].cure) == (verdict in ("bad", "doubtful"))


def test_outputs_that_are_no_numbers_are_neither_good_nor_taken_for_another_fault(look):
    names = ("initial-loss", "gradient-check", "batch-independence", "update-ratio", "shuffled-labels")
    found = look(*names, changes=["model={use='lost'}"])
    none = "not applicable"
    assert [found[name].verdict for name in names] == ["bad", none, none, "bad", none]
    assert all("log, sqrt or a division at 0" in found[name].cure for name in ("initial-loss", "update-ratio"))
    assert found["gradient-check"].seen == "the loss of these samples is nan"
    assert found["batch-independence"].seen == "the outputs are not finite"


def test_all_samples_in_memory_are_compared_however_few_the_model_is_given_at_once(look, monkeypatch):
    monkeypatch.setattr("trainkit.probe.subject._MOST_NUMBERS", 1)
    found = look("inputs", changes=["data.fault=shared"])["inputs"]
    assert "64 samples; 50 of 50 samples of val are training samples" in found.seen


@pytest.mark.parametrize(
    ("task", "targets"),
    [
        ("classification", [0, 2, 2, 2]),
        ("classification", [[0.7, 0.2, 0.1], [0.0, 0.4, 0.6], [0.0, 0.0, 1.0], [0.1, 0.2, 0.7]]),
        ("binary", [0.0, 1.0, 0.7, 1.0]),
        ("binary", [[0.0], [1.0], [0.7], [1.0]]),
        ("tokens", [[2, 2], [0, 2]]),
    ],
)
def test_chance_is_the_share_of_the_largest_class_in_every_form_of_targets(task, targets):
    assert chance_of(task, torch.tensor(targets)) == 0.75


def test_what_comes_after_equal_beginnings_is_foreseen_by_the_most_frequent():
    inputs = torch.tensor([[1, 2, 3], [1, 2, 4], [1, 5, 6], [7, 2, 3]])
    targets = torch.tensor([[2, 3, 8], [2, 4, 9], [5, 6, 8], [2, 3, 8]])
    # After 1 comes 2 (twice) or 5, after 1 2 comes 3 or 4; all else is alone.
    assert foreseeable(inputs, targets) == (12 - 2) / 12


TOKENS = [
    "data={use='synthetic', task='tokens', features=[8], samples=200, classes=5, noise=0.0, batch_size=20}",
    "model={use='gpt', layers=1, width=16, heads=2}",
    "optimizer={use='adam', lr=0.01}",
    "metric=[{use='trainkit_metrics:accuracy'}]",
    "run.duration='60ba'",
]


def test_a_model_of_tokens_is_healthy_at_ln_of_their_number(look):
    found = look("inputs", "initial-loss", "overfit", "shuffled-labels", changes=TOKENS)
    assert {name: finding.verdict for name, finding in found.items()} == dict.fromkeys(found, "good")
    assert "ln(5) = 1.609" in found["initial-loss"].expected
    assert found["initial-loss"].figures["expected"] == pytest.approx(1.6094, abs=1e-4)
