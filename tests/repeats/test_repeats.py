"""Runs of one recipe over seeds and folds: the same as single runs, gone on with, failing one by one."""

from __future__ import annotations

import importlib
import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from tests.repeats.conftest import ENSEMBLE, RECIPE, SEARCH, hashes, report_of
from trainkit.cli import main
from trainkit.results import read_result

MODULE = ("-p", "trainkit_repeat_parts")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three seeds, and beside it the same recipe made alone; no test changes them."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "r.toml").write_text(RECIPE, encoding="utf-8")
    assert main([str(folder / "r.toml"), "--seeds", "3", "--run-dir", str(folder / "three"), "-q"]) == 0
    assert main([str(folder / "r.toml"), "seed=4", "--run-dir", str(folder / "alone"), "-q"]) == 0
    return folder


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The plugin of these tests, which does nothing that a test has not asked for."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    module = importlib.import_module("trainkit_repeat_parts")
    yield module
    for held in (module.FAILS, module.SIGNALS, module.HELD_OUT):
        held.clear()


def watched(folder: Path) -> str:
    """A recipe that the plugin of these tests watches."""
    (folder / "watched.toml").write_text(RECIPE + '[[callback]]\nuse = "watch"\n', encoding="utf-8")
    return "watched.toml"


def test_each_is_the_run_that_its_seed_makes_alone(made):
    three = hashes(made / "three")
    assert list(sorted(three)) == ["seed-3", "seed-4", "seed-5"]
    assert len(set(three.values())) == 3
    alone, among = report_of(made / "alone"), report_of(made / "three/seed-4")
    assert among["weights_sha256"] == alone["weights_sha256"]
    assert among["metrics"] == alone["metrics"]
    assert {"test.loss", "test.accuracy"} < among["metrics"].keys()


def test_its_recipe_is_that_of_a_run_alone(made):
    ours, alone = (read_result(made / name).tables for name in ("three/seed-4", "alone"))
    assert ours == alone
    assert json.loads((made / "three/seed-4/environment.json").read_text())["command"].endswith("-q # seed-4")


def test_the_folder_says_what_it_holds(made):
    assert json.loads((made / "three/repeats.json").read_text()) == {
        "over": "seed",
        "runs": ["seed-3", "seed-4", "seed-5"],
        "folds": None,
    }
    result = read_result(made / "three")
    assert (result.kind, result.tables["seed"], result.notes) == ("repeats", 3, [])
    assert result.environment["seed"] == 3


def test_the_report_has_mean_spread_and_interval(made):
    report = report_of(made / "three")
    values = [report_of(made / f"three/seed-{seed}")["metrics"]["test.loss"] for seed in (3, 4, 5)]
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    half = 4.302652729911275 * sd / 3**0.5  # of Student's t with 2 degrees of freedom
    spread = report["spread"]["test.loss"]
    assert spread == pytest.approx(
        {
            "n": 3,
            "mean": mean,
            "sd": sd,
            "low": mean - half,
            "high": mean + half,
            "least": min(values),
            "most": max(values),
        },
        rel=1e-9,
    )
    assert report["metrics"]["test.loss"] == spread["mean"]
    assert (report["status"], report["over"], report["level"]) == ("finished", "seed", 0.95)
    assert [(run["name"], run["seed"], run["fold"], run["status"]) for run in report["runs"]] == [
        (f"seed-{seed}", seed, None, "finished") for seed in (3, 4, 5)
    ]
    assert "best val.loss" in report["metrics"]
    assert not any(key in report["metrics"] for key in ("steps", "best step", "seconds"))


def test_what_is_printed(trainkit, made):
    folder = str(made / "three")
    shutil.rmtree("again", ignore_errors=True)
    shutil.copytree(folder, "again")
    Path("again/report.json").unlink()
    outcome = trainkit("resume", "again", "--json")  # as if it had been killed before its report
    assert outcome.code == 0
    shown = json.loads(outcome.out)
    assert {**shown, "seconds": 0} == {**report_of(made / "three"), "seconds": 0, "folder": "again"}
    lines = outcome.err.splitlines()
    assert lines[0] == "finished: 3 of 3 runs in 0:00"
    assert lines[1].split() == ["mean", "sd", "95", "%", "interval", "of", "the", "mean", "least", "most", "n"]
    assert [line.split()[0] for line in lines[2:-2]][:3] == ["train.loss", "train.accuracy", "val.loss"]
    assert lines[-2:] == ["  again/report.json", "  next: trainkit compare again OTHER"]


def test_one_that_is_over_is_not_made_again(trainkit, made):
    shutil.copytree(made / "three", "three")
    outcome = trainkit("resume", "three")
    assert outcome.code == 2
    assert "all 3 runs are over" in outcome.err
    assert "trainkit run three/recipe.toml --seeds N --run-dir three --resume" in outcome.err


def test_more_seeds_join_those_that_are_there(trainkit, made):
    shutil.copytree(made / "three", "three")
    before = hashes(Path("three"))
    outcome = trainkit("run", "three/recipe.toml", "--seeds", "4", "--run-dir", "three", "--resume")
    assert outcome.code == 0
    assert outcome.err.splitlines()[0] == "3 of 4 runs are over already"
    assert hashes(Path("three")).items() > before.items()
    assert report_of(Path("three"))["spread"]["val.loss"]["n"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", "2"), "it holds runs that --seeds and --folds leave out: it has seed-3, seed-4, seed-5"),
        (("--folds", "2"), "it holds runs that --seeds and --folds leave out"),
        (("--seeds", "4", "optimizer.lr=0.2"), "optimizer.lr = 0.2 (was 0.1)"),
        ((), "it holds several runs of one recipe; to go on with them: trainkit resume"),
    ],
)
def test_the_runs_of_a_folder_are_of_one_recipe(trainkit, made, words, said):
    folder = made / "three"
    outcome = trainkit("r.toml", *words, "--run-dir", str(folder), "--resume")
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert report_of(folder)["status"] == "finished"


def test_resume_takes_no_other_recipe_and_no_length(trainkit, made):
    folder = str(made / "three")
    assert "seed = 9 (was 3)" in trainkit("resume", folder, "seed=9").err
    outcome = trainkit("resume", folder, "--extend", "2ep")
    assert (outcome.code, "--extend is for a run" in outcome.err) == (2, True)
    outcome = trainkit("r.toml", "--seeds", "2", "--run-dir", str(made / "alone"), "--resume")
    assert (outcome.code, "it holds no runs of --seeds or --folds" in outcome.err) == (2, True)


def test_each_sample_is_held_out_once_by_the_folds_of_a_seed(trainkit, tmp_path, parts):
    outcome = trainkit(watched(tmp_path), *MODULE, "--folds", "3", "--seeds", "3,8", "--run-dir", "f")
    assert outcome.code == 0, outcome.err
    for seed in (3, 8):
        held = [samples for of, samples in parts.HELD_OUT if of == seed]
        assert [len(samples) for samples in held] == [26, 26, 25]
        assert len({row for samples in held for row in samples}) == 77
    report = report_of(tmp_path / "f")
    assert [(run["seed"], run["fold"]) for run in report["runs"]] == [(s, f) for s in (3, 8) for f in (0, 1, 2)]
    assert "folds share training samples" in outcome.err
    spread = report["spread"]["val.loss"]
    half = 2.5705818366147395 * spread["sd"] * (1 / 6 + 1 / 2) ** 0.5  # t with 5 degrees of freedom
    assert spread["high"] - spread["mean"] == pytest.approx(half, rel=1e-9)
    tables = read_result(tmp_path / "f/seed-8-fold-2").tables
    assert (tables["seed"], tables["data"]["folds"], tables["data"]["fold"]) == (8, 3, 2)


def test_folds_that_the_data_does_not_have_leave_nothing_behind(trainkit, tmp_path):
    outcome = trainkit("r.toml", "--folds", "99", "--run-dir", "f")
    assert outcome.code == 2
    assert "there are 77 samples" in outcome.err
    assert "write at most 77" in outcome.err
    assert not (tmp_path / "f").exists()


def test_one_that_fails_is_said_and_the_others_go_on(trainkit, tmp_path, parts, made):
    parts.FAILS.add(4)
    outcome = trainkit(watched(tmp_path), *MODULE, "--seeds", "3", "--run-dir", "s")
    assert outcome.code == 4
    assert "seed-4  failed (error): plugin 'trainkit_repeat_parts'" in outcome.err
    assert "failed (1 run failed): 2 of 3 runs" in outcome.err
    assert outcome.err.splitlines()[-1] == "  next: trainkit resume s"
    report = report_of(tmp_path / "s")
    assert [run["status"] for run in report["runs"]] == ["finished", "failed", "finished"]
    assert "no luck with this seed" in report["runs"][1]["reason"]
    assert report["spread"]["val.loss"]["n"] == 2
    parts.FAILS.clear()
    outcome = trainkit("resume", "s", *MODULE)
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0] == "2 of 3 runs are over already"
    assert hashes(tmp_path / "s") == hashes(made / "three")


def test_a_defect_that_all_meet_ends_them_all(trainkit, tmp_path, parts):
    parts.FAILS.update(range(3, 9))
    outcome = trainkit(watched(tmp_path), *MODULE, "--seeds", "6", "--run-dir", "s")
    assert outcome.code == 1
    assert outcome.err.count("failed (error)") == 2
    assert "seed-3: plugin 'trainkit_repeat_parts'" in outcome.err
    assert not (tmp_path / "s/seed-6").exists()
    assert report_of(tmp_path / "s")["status"] == "failed"


def test_a_signal_stops_them_and_they_go_on_to_the_same_end(trainkit, tmp_path, parts, made):
    parts.SIGNALS.add(4)
    outcome = trainkit(watched(tmp_path), *MODULE, "--seeds", "3", "--run-dir", "s")
    assert outcome.code == 75
    assert "interrupted (signal SIGTERM): 1 of 3 runs" in outcome.err
    assert [run["status"] for run in report_of(tmp_path / "s")["runs"]] == ["finished", "interrupted", "missing"]
    assert not (tmp_path / "s/seed-5").exists()
    assert trainkit("resume", "s", *MODULE).code == 0
    assert hashes(tmp_path / "s") == hashes(made / "three")


def test_what_a_process_left_that_was_killed_goes_on(trainkit, tmp_path, made):
    shutil.copytree(made / "three", "s")
    Path("s/report.json").unlink()
    shutil.rmtree("s/seed-5")
    Path("s/seed-4/report.json").unlink()  # its weights were saved, and the report was not
    assert trainkit("resume", "s").code == 0
    assert hashes(Path("s")) == hashes(made / "three")
    Path("early").mkdir()
    shutil.copy("s/repeats.json", "early")  # which is written first
    assert trainkit("r.toml", "--seeds", "3", "--run-dir", "early", "--resume").code == 0
    assert hashes(Path("early")) == hashes(made / "three")
    Path("other").mkdir()
    Path("other/thesis.tex").touch()
    outcome = trainkit("r.toml", "--seeds", "3", "--run-dir", "other", "--resume")
    assert (outcome.code, "there are no runs to continue (no repeats.json)" in outcome.err) == (3, True)


def threads(folder: Path) -> Any:
    """How many threads the recipe of a run asks for."""
    return read_result(folder).tables["run"].get("threads")


def test_runs_that_are_made_side_by_side_say_how_many_threads(trainkit, tmp_path, parts, made):
    words = (watched(tmp_path), *MODULE, "--run-dir", "s", "--seeds")
    assert trainkit(*words, "2", "--executor", "two").code == 0
    assert threads(tmp_path / "s/seed-3") == threads(tmp_path / "s") == 1
    assert hashes(tmp_path / "s").items() < hashes(made / "three").items()
    # One after the other they keep what those before had.
    assert trainkit(*words, "3", "--resume").code == 0
    assert threads(tmp_path / "s/seed-5") == 1
    assert (
        trainkit("watched.toml", *MODULE, "--seeds", "1", "--run-dir", "t", "--executor", "two", "run.threads=2").code
        == 0
    )
    assert threads(tmp_path / "t/seed-3") == 2


def test_a_run_that_has_begun_keeps_its_threads(trainkit, tmp_path, parts):
    parts.SIGNALS.add(3)
    words = (watched(tmp_path), *MODULE, "--run-dir", "s", "--seeds", "2")
    assert trainkit(*words).code == 75  # one after the other
    assert trainkit(*words, "--resume", "--executor", "two").code == 0
    assert (threads(tmp_path / "s/seed-3"), threads(tmp_path / "s/seed-4")) == (None, 1)


def test_what_is_refused_changes_no_report(trainkit, tmp_path, made):
    shutil.copytree(made / "three", "s")
    Path("s/seed-4/report.json").unlink()
    text = Path("s/seed-4/recipe.toml").read_text()
    Path("s/seed-4/recipe.toml").write_text(text.replace("lr = 0.1", "lr = 0.3"))
    outcome = trainkit("resume", "s")
    assert (outcome.code, "seed-4 was trained with another recipe" in outcome.err) == (2, True), outcome.err
    assert report_of(tmp_path / "s") == report_of(made / "three")


def test_lanes_are_equal_up_to_rounding(trainkit, tmp_path, made):
    outcome = trainkit("r.toml", "--seeds", "3", "--run-dir", "s", "--executor", "lanes")
    assert outcome.code == 0
    assert "one by one" not in outcome.err
    for name, found in report_of(made / "three")["spread"].items():
        assert report_of(tmp_path / "s")["spread"][name] == pytest.approx(found, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--executor", "serial"), "there is one run"),
        (("--seeds", "2", "--executor", "cereal"), "no executor named 'cereal'; installed executors: auto"),
        (("--seeds", "2", "--profile"), "--profile is for a run"),
        (("--seeds", "2", "--resume"), "--resume needs --run-dir"),
        (("--seeds", "two"), "--seeds two: write how many"),
        (("--seeds", "9" * 19 + ","), "seed is beyond the integers that 64 bits hold"),
    ],
)
def test_a_wrong_command_line_makes_nothing(trainkit, tmp_path, words, said):
    outcome = trainkit("r.toml", *words)
    assert (outcome.code, said in outcome.err) == (2, True), outcome.err
    assert not (tmp_path / "runs").exists()


def test_an_executor_is_for_plain_runs(trainkit, tmp_path):
    (tmp_path / "s.toml").write_text(RECIPE + SEARCH, encoding="utf-8")
    outcome = trainkit("s.toml", "--seeds", "2", "--executor", "serial")
    assert (outcome.code, "search.executor=serial" in outcome.err) == (2, True)
    outcome = trainkit("s.toml", "--folds", "2", "search.folds=3")
    assert (outcome.code, "--folds and search.folds both cut the samples" in outcome.err) == (2, True)


def test_a_smoke_tries_the_first_and_leaves_nothing(trainkit, tmp_path):
    outcome = trainkit("r.toml", "--seeds", "7,8", "--smoke", "--json")
    assert (outcome.code, json.loads(outcome.out)["steps"]) == (0, 2)
    assert "seed 7" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_fresh_keeps_what_was_there_aside(trainkit, tmp_path, made):
    shutil.copytree(made / "three", "s")
    assert trainkit("r.toml", "--seeds", "1", "--run-dir", "s").code == 3
    outcome = trainkit("r.toml", "--seeds", "1", "--run-dir", "s", "--fresh")
    assert outcome.code == 0
    assert hashes(tmp_path / "s/.old-1") == hashes(made / "three")
    assert list(hashes(tmp_path / "s")) == ["seed-3"]
    report = report_of(tmp_path / "s")
    assert (report["spread"]["val.loss"]["sd"], report["spread"]["val.loss"]["low"]) == (None, None)
    assert "one run: how far another one would be from it is not known" in outcome.err


def test_two_processes_never_write_to_one_folder(trainkit, tmp_path):
    (tmp_path / "s").mkdir()
    with filelock.FileLock(tmp_path / "s/.lock"):
        outcome = trainkit("r.toml", "--seeds", "2", "--run-dir", "s")
    assert (outcome.code, "another process is writing" in outcome.err) == (3, True)


def test_a_link_out_of_the_folder_is_refused(trainkit, tmp_path, made):
    shutil.copytree(made / "three", "s")
    (tmp_path / "elsewhere").write_text("{}")
    Path("s/seed-4/report.json").unlink()
    Path("s/seed-4/report.json").symlink_to(tmp_path / "elsewhere")
    outcome = trainkit("r.toml", "--seeds", "4", "--run-dir", "s", "--resume")
    assert (outcome.code, "it is a link out of the folder" in outcome.err) == (3, True)


def test_a_device_that_is_not_there_is_no_defect(trainkit, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = trainkit("r.toml", "--seeds", "2", "--run-dir", "s", "run.device=cuda")
    assert (outcome.code, '[run] device = "cuda": there is none' in outcome.err) == (3, True), outcome.err
    assert not (tmp_path / "s").exists()


PLAIN = ("--without", "reports")  # nothing is drawn


def values(folder: Path) -> Any:
    """What came of a study: the value of its best trial."""
    return report_of(folder)["best"]["value"]


def test_a_search_is_repeated_whole(trainkit, tmp_path):
    (tmp_path / "s.toml").write_text(RECIPE + SEARCH, encoding="utf-8")
    outcome = trainkit("s.toml", "--seeds", "2", "--run-dir", "s", "--json", *PLAIN)
    assert outcome.code == 0, outcome.err
    assert trainkit("s.toml", "seed=4", "--run-dir", "alone", "-q", *PLAIN).code == 0
    assert values(tmp_path / "s/seed-4") == values(tmp_path / "alone")
    report = json.loads(outcome.out)
    assert report["spread"]["best val.accuracy"]["n"] == report["spread"]["test.accuracy"]["n"] == 2
    assert report["metrics"]["best val.accuracy"] == pytest.approx(
        (values(tmp_path / "s/seed-3") + values(tmp_path / "s/seed-4")) / 2
    )
    assert "seed-4  (2 of 2)" in outcome.err
    assert trainkit("resume", "s", *PLAIN).code == 2
    shutil.rmtree("s/seed-4")
    assert trainkit("resume", "s", *PLAIN).code == 0
    assert values(tmp_path / "s/seed-4") == values(tmp_path / "alone")


def test_an_ensemble_is_repeated_whole(trainkit, tmp_path):
    (tmp_path / "e.toml").write_text(RECIPE + ENSEMBLE, encoding="utf-8")
    outcome = trainkit("e.toml", "--seeds", "2", "--run-dir", "e", "--json", "ensemble.bootstrap=5", *PLAIN)
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    nll = [report_of(tmp_path / f"e/seed-{seed}")["ensemble"]["test"]["calibrated"]["nll"]["value"] for seed in (3, 4)]
    assert report["metrics"]["test.nll"] == pytest.approx(statistics.fmean(nll))


def test_verbs_on_one_run_name_those_that_there_are(trainkit, made):
    folder = made / "three"
    for words in (["evaluate", str(folder)], ["predict", str(folder)], ["export", str(folder), "--out", "m.pt2"]):
        outcome = trainkit(*words)
        assert outcome.code == 2
        assert "it holds 3 runs of one recipe: seed-3, seed-4, seed-5" in outcome.err
        assert f"name one: trainkit {words[0]} {folder / 'seed-3'}" in outcome.err
    assert trainkit("evaluate", str(folder / "seed-4")).code == 0


def test_two_folders_of_repeats_are_told_apart(trainkit, made):
    shutil.copytree(made / "three", "other")
    report = report_of(Path("other"))
    report["metrics"]["val.loss"] = 7.5
    Path("other/report.json").write_text(json.dumps(report), encoding="utf-8")
    outcome = trainkit("diff", str(made / "three"), "other", "--json")
    assert outcome.code == 0
    changed = json.loads(outcome.out)["result"]["changed"]
    assert [(change["key"], change["b"]) for change in changed] == [("val.loss", 7.5)]


def test_an_ensemble_is_made_of_all_runs_of_a_folder(trainkit, made):
    outcome = trainkit("ensemble", str(made / "three"), "--use", "vote", "bootstrap=5", "--out", "e", "--json", *PLAIN)
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["members"]) == 3
