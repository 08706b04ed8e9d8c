"""Every shipped ensemble is made, small, from its recipe to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit.cli import main
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "recipes" / "ensemble"
INSIDE = ("packed", "batch_ensemble", "switch_ema")  # one run, of one model
OF_SEVERAL = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem not in (*INSIDE, "cifar10"))
SMALL = ["run.duration=5ep", "model.widths=[16]", "ensemble.bootstrap=20"]
# What is made smaller still, and how many members there are to choose from.
CHANGES = {
    "bagging": (["ensemble.members=3"], 3),
    "convex": (["search.trials=4"], 4),
    "distil": (["ensemble.of.members=2", "ensemble.model.widths=[16]", "run.duration=8ep"], None),
    "fge": (["run.duration=8ep", "ensemble.members=3", "ensemble.start=2ep"], 3),
    "mc_dropout": (["ensemble.passes=3"], 1),
    "search_then_greedy": (["search.trials=4"], 4),
    "seeds": (["ensemble.members=2"], 2),
    "seeds_for_snapshots": (["ensemble.members=2"], 2),
    "soup": (["run.duration=22ep", "search.trials=3"], 3),
    "stacking": (["search.trials=1", "ensemble.members=1", "ensemble.cv=2"], 1),
    "topk": (["search.trials=4", "ensemble.k=2"], 4),
    "vote": (["search.trials=3"], 3),
    "average": ([], None),
}


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_it_makes_an_ensemble_that_is_measured(tmp_path, capsys, name):
    changes, members = CHANGES.get(name, ([], 5))
    words = [str(FOLDER / f"{name}.toml"), *SMALL, *changes, "--run-dir", str(tmp_path / "made")]
    code = main([*words, "--without", "reports", "--json", "-q"])
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads(said.out)
    report = report["ensemble"] if "trials" in report else report  # what a search found is around it
    assert report["status"] == "finished"
    assert members is None or len(report["members"]) == members
    assert 0.5 < report["ensemble"]["test"]["raw"]["accuracy"]["value"] <= 1


def test_snapshots_and_the_seeds_beside_them_cost_as_many_updates():
    plugins = Plugins()
    snapshots, seeds = (load_recipe(FOLDER / f"{n}.toml", [], plugins) for n in ("snapshots", "seeds_for_snapshots"))
    each = {name: seeds.tables[name] == snapshots.tables[name] for name in ("data", "model", "optimizer", "seed")}
    assert all(each.values()), each
    runs, length = seeds.tables["ensemble"]["members"], seeds.tables["run"]["duration"]
    assert snapshots.tables["ensemble"]["cycles"] == runs
    assert runs * int(length.removesuffix("ep")) == int(snapshots.tables["run"]["duration"].removesuffix("ep"))


def test_small_resnets_on_a_folder_of_pictures(tmp_path, capsys, monkeypatch, few_pictures):
    monkeypatch.setenv("TRAINKIT_DATA", str(few_pictures))
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    small = ["run.duration=1ep", "data.batch_size=64", "ensemble.members=2", "ensemble.bootstrap=10"]
    words = [str(FOLDER / "cifar10.toml"), *small, "--run-dir", str(tmp_path / "made"), "--without", "reports"]
    assert main([*words, "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (len(report["members"]), report["samples"]["test"]) == (2, 40)
    assert report["ensemble"]["test"]["raw"]["nll"]["value"] > 0
