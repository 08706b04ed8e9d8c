"""Every shipped recipe is right and runs; some are trained whole, as a user would, to the accuracy they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainkit.cli import main
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
LIBRARIES = {
    "optimizers/prodigy": "prodigyopt",
    "optimizers/schedulefree": "schedulefree",
    "search/ray": "ray",
    "lm_bpe": "tokenizers",
    "rl_cartpole_ppo": "gymnasium",
    "rl_cartpole_reinforce": "gymnasium",
    "search/rl_cartpole": "gymnasium",
}
# What needs nothing but an installed library.
AT_HAND = {"digits", "wine", "diabetes", "breast_cancer", "synthetic", "airline", "control_charts", "text", "gym"}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


def at_hand(table: Any) -> bool:
    """Whether data, or the data that it is made of, needs no file and no download."""
    return (table["use"] in AT_HAND and not table.get("path")) or ("of" in table and at_hand(table["of"]))


def name_of(recipe: Path) -> str:
    """What follows ``trainkit:``."""
    return recipe.relative_to(ROOT / "recipes").with_suffix("").as_posix()


def need_its_library(recipe: Path) -> None:
    if name_of(recipe) in LIBRARIES:
        pytest.importorskip(LIBRARIES[name_of(recipe)])


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the program in a folder of the test's; returns the JSON that it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "runs"))

    def program(*words: str) -> Any:
        code = main([*words, "--json", "-q"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return program


@pytest.fixture
def process(tmp_path: Path):
    """Run the program in a process of its own; returns the JSON that it prints."""

    def process(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "trainkit", *words, "--json"],
            cwd=tmp_path,
            env={**os.environ, "TRAINKIT_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return process


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_it_is_valid_says_what_it_is_and_can_be_named_as_a_packaged_recipe(plugins, recipe):
    need_its_library(recipe)
    loaded = load_recipe(recipe, [], plugins)
    assert recipe.read_text(encoding="utf-8").startswith("# "), "a recipe begins by saying what it is"
    assert load_recipe(f"trainkit:{name_of(recipe)}", [], plugins).tables == loaded.tables


def is_made(report: Any, recipe: Any) -> bool:
    """Whether a run of two updates ended as it should."""
    measured = report.metrics["val.return" if recipe.tables["data"]["use"] == "gym" else "val.loss"]
    return (report.status, report.steps) == ("finished", 2) and measured > 0


SEARCHES = [recipe for recipe in RECIPES if recipe.parent.name == "search"]


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in SEARCHES], ids=name_of)
def test_it_runs_where_its_data_is_at_hand(plugins, recipe, tmp_path, monkeypatch):
    from trainkit.launch import launch

    need_its_library(recipe)
    loaded = load_recipe(recipe, [], plugins)
    if not at_hand(loaded.tables["data"]):
        pytest.skip(f"the data '{loaded.tables['data']['use']}' would have to be downloaded or named")
    if loaded.tables["model"]["weights"]:
        monkeypatch.chdir(tmp_path)
        short = ["run.duration=2ba", "schedule.warmup=0ba", "logger=[]"]
        base = load_recipe(recipe.with_name(f"{recipe.stem}_base.toml"), short, plugins)
        launch(base, plugins, folder=tmp_path / loaded.tables["model"]["weights"])
    assert is_made(launch(loaded, plugins, smoke=True), loaded)


@pytest.mark.parametrize("recipe", SEARCHES, ids=name_of)
def test_a_search_tries_its_recipe_and_another_point(plugins, recipe):
    from trainkit.launch import launch
    from trainkit.search.command import smoke

    need_its_library(recipe)
    loaded = load_recipe(recipe, [], plugins)
    if not at_hand(loaded.tables["data"]):
        pytest.skip(f"the data '{loaded.tables['data']['use']}' would have to be downloaded or named")
    tried = []

    def train(trial):
        tried.append(trial)
        assert is_made(launch(trial, plugins, smoke=True), trial)

    smoke(loaded, train)
    assert len(tried) == 2
    varied = {name.partition("#")[0].partition(".")[0] for name in loaded.tables["search"]["space"]}
    assert any(tried[0].tables[key] != tried[1].tables[key] for key in varied)


def test_a_packaged_search_is_done_from_any_folder(program, tmp_path):
    report = program("trainkit:search/random_digits", "search.trials=6", "--run-dir", "study")
    assert (report["status"], report["trials"]) == ("finished", {"done": 6})
    assert report["best"]["value"] < 0.1
    assert report["best"]["test"]["accuracy"] > 0.95
    for name in ("best.toml", "history.png", "slices.png", "parallel.png"):
        assert (tmp_path / "study" / name).is_file(), name
    shown = program("report", "study", "--top", "3")
    assert shown["table"][0]["verdict"] == "best"
    assert shown["best"] == report["best"]
    again = program("study/best.toml")
    assert again["metrics"]["val.loss"] == pytest.approx(report["best"]["value"], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "trials"),
    [
        ("grid_folds", ["search.trials=5", "search.sample=true", "run.duration=2ep"], 5),
        ("multi_objective", ["search.trials=16", "search.population=4", "run.duration=2ep"], 16),
    ],
)
def test_a_search_ends_with_a_winner_or_a_front(program, name, changes, trials):
    if name == "multi_objective":
        pytest.importorskip("optuna")
    report = program(f"trainkit:search/{name}", *changes, "--run-dir", "study")
    assert (report["status"], sum(report["trials"].values())) == ("finished", trials)
    assert report["best"]["test"]["accuracy"] > 0.5
    if name == "multi_objective":
        sizes = [one["values"]["parameters"] for one in report["front"]]
        assert sizes == sorted(sizes, reverse=True)
        assert report["best"]["trial"] == report["front"][0]["trial"]
    if name == "grid_folds":
        assert report["best"]["spread"] > 0


def test_mlp_digits_learns_to_read_digits(process, program, tmp_path):
    report = process(str(ROOT / "recipes" / "mlp_digits.toml"))
    assert (report["status"], report["steps"]) == ("finished", 600)
    assert report["metrics"]["test.accuracy"] >= 0.96
    folder = Path(report["folder"])
    assert folder.parent == tmp_path / "runs"
    assert (folder / "curves.png").is_file()
    assert (folder / "report.html").is_file()
    again = program(str(folder / "recipe.toml"))
    assert again["weights_sha256"] == report["weights_sha256"]


def test_muon_and_adamw_learn_to_read_digits_together(program):
    report = program(str(ROOT / "recipes" / "muon_adamw.toml"), "--without", "reports")
    assert (report["status"], report["steps"]) == ("finished", 240)
    assert report["metrics"]["test.accuracy"] >= 0.97


def test_resnet_cosine_reaches_98_percent(program):
    report = program(str(ROOT / "recipes" / "resnet_cosine.toml"), "--without", "reports")
    assert report["status"] == "finished"
    assert report["metrics"]["test.accuracy"] >= 0.98


@pytest.mark.parametrize(
    ("name", "figure", "at_least"), [("wine_mlp", "test.accuracy", 0.9), ("diabetes_regression", "test.r2", 0.3)]
)
def test_the_tables_are_learned(program, name, figure, at_least):
    report = program(str(ROOT / "recipes" / f"{name}.toml"), "--without", "reports")
    assert report["status"] in ("finished", "stopped")
    assert report["metrics"][figure] >= at_least


def test_the_three_policies_of_the_lesson_differ_in_their_rates_alone(plugins):
    fixed, decay, adam = (
        load_recipe(ROOT / "recipes" / f"lr_{n}.toml", [], plugins).tables for n in ("fixed", "decay", "adam")
    )
    for key in fixed:
        if key not in ("optimizer", "schedule"):
            assert fixed[key] == decay[key] == adam[key], key
    assert (fixed["optimizer"]["lr"], decay["optimizer"]["lr"], adam["optimizer"]["lr"]) == (0.01, 0.1, 1e-3)
    assert (fixed["schedule"]["use"], decay["schedule"]["k"], adam["optimizer"]["use"]) == ("constant", 0.1, "adam")


POLICIES = {
    "cyclic": [],
    "onecycle": [],
    "warm_restarts": [],
    "wsd": [],
    "plateau": ["plateau:reduce"],
    "stagnation_restart": ["stagnation_restart:restart"],
    "temperature": [],
    "staircase": [],
    "fine_tune": [],
    "growing_batch": [],
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_learns_to_read_digits_and_decides_what_it_is_there_for(plugins, tmp_path, name):
    from trainkit import checkpoint
    from trainkit.launch import launch

    loaded = load_recipe(ROOT / "recipes" / f"{name}.toml", ["run.save_every=1dur", "logger=[]"], plugins)
    report = launch(loaded, plugins, folder=tmp_path / "run")
    assert report.status == "finished"
    assert report.metrics["test.accuracy"] >= 0.95
    _, _, state = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert sorted({kind for _, kind in state["events"]}) == POLICIES[name]


def test_cifar10_folder_trains_from_a_folder_of_pictures(program, tmp_path, monkeypatch, few_pictures):
    monkeypatch.setenv("TRAINKIT_DATA", str(few_pictures))
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    recipe = str(ROOT / "recipes" / "cifar10_folder.toml")
    smoke = program(recipe, "--smoke")
    assert (smoke["status"], smoke["steps"]) == ("finished", 2)
    report = program(recipe, "run.duration=1ep", "data.batch_size=64", "--without", "reports")
    assert report["status"] == "finished"
    assert report["steps"] == 3, "180 of 200 pictures, a tenth held out"
    assert 0 <= report["metrics"]["test.accuracy"] <= 1
