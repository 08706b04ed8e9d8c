"""Studies of real runs, one after the other: from the recipe to the winner, and what may change on the way."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import Searching
from trainkit.errors import MachineError, RecipeError, UsageError
from trainkit.finished import evaluate_run
from trainkit.launch import launch
from trainkit.recipe import load_recipe
from trainkit.search.ending import winner_folder
from trainkit.search.folder import StudyFolder
from trainkit.search.ledger import read_study
from trainkit.search.log import NAME, read_events
from trainkit.trial_run import run_job
from trainkit.work import Job, Outcome


def figures(folder: Path) -> list[tuple[int, dict[str, Any], str, tuple[float, ...]]]:
    """What the trials of a study came to."""
    return [
        (record.trial.number, dict(record.trial.point), record.trial.status, record.figures)
        for record in read_study(folder).records
    ]


def test_a_study_from_its_recipe_to_its_winner(tmp_path: Path, searching: Searching) -> None:
    report = searching(tmp_path / "s")
    folder = tmp_path / "s"
    assert (report.status, report.trials) == ("finished", {"done": 4})
    study = read_study(folder)
    assert study.records[0].trial.point == {"optimizer.lr": 0.1, "model.widths.0": 8}
    best = study.best()
    assert best is not None
    assert report.best is not None
    assert report.best["value"] == min(record.figures[0] for record in study.records)
    written = json.loads((folder / "report.json").read_text())
    assert (
        written["best"]["test"] == report.best["test"] == evaluate_run(winner_folder(folder), "test", searching.plugins)
    )
    for number in range(4):
        run = json.loads((folder / f"trials/{number:04d}/report.json").read_text())
        assert not [name for name in run["metrics"] if name.startswith("test.")], "a trial met the test samples"
        recipe = tomllib.loads((folder / f"trials/{number:04d}/recipe.toml").read_text())
        assert recipe["run"]["threads"] == 1
        assert recipe["run"]["save_every"] == "1dur"
        assert recipe["logger"] == []
        assert "search" not in recipe


def test_a_trial_and_the_winner_rerun_alone_to_the_same_numbers(tmp_path: Path, searching: Searching) -> None:
    report = searching(tmp_path / "s")
    assert report.best is not None
    trial = tmp_path / f"s/trials/{report.best['trial']:04d}"
    for name, file in (("alone", trial / "recipe.toml"), ("best", tmp_path / "s/best.toml")):
        again = launch(load_recipe(file, [], searching.plugins), searching.plugins, folder=tmp_path / name)
        assert again.metrics["val.loss"] == report.best["value"]
        assert again.weights_sha256 == json.loads((trial / "report.json").read_text())["weights_sha256"]
        assert {f"test.{key}": value for key, value in report.best["test"].items()} == {
            key: value for key, value in again.metrics.items() if key.startswith("test.")
        }


def test_two_halves_equal_the_whole(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "whole", "search.trials=6")
    searching(tmp_path / "halves", "search.trials=3")
    report = searching.resume(tmp_path / "halves", "search.trials=6")
    assert figures(tmp_path / "halves") == figures(tmp_path / "whole")
    assert report.trials == {"done": 6}
    assert next(e for e in read_events(tmp_path / "halves" / NAME) if e["event"] == "widen")["trials"] == 6
    with pytest.raises(UsageError, match=r"finished \(6 trials were asked for\)[^$]*search.trials=12"):
        searching.resume(tmp_path / "halves")


def test_wider_ranges_are_taken_and_narrower_ones_refused(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.trials=2")
    with pytest.raises(UsageError, match=r"optimizer.lr: 0.01 to 1 is narrower than 0.001 to 1"):
        searching.resume(tmp_path / "s", 'search.space."optimizer.lr".low=0.01')
    with pytest.raises(UsageError, match="2 trials have been begun"):
        searching.resume(tmp_path / "s", "search.trials=1")
    report = searching.resume(tmp_path / "s", "search.trials=4", 'search.space."optimizer.lr".high=3.0')
    assert report.trials == {"done": 4}
    assert read_study(tmp_path / "s").space["optimizer.lr"].high == 3.0


def test_another_recipe_is_refused_key_by_key(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.trials=2")
    with pytest.raises(UsageError) as refused:
        searching.resume(tmp_path / "s", "search.trials=3", "optimizer.momentum=0.9", "data.batch_size=8")
    assert "optimizer.momentum = 0.9 (was 0.0)" in str(refused.value)
    assert "data.batch_size = 8 (was 16)" in str(refused.value)
    assert "search.trials" not in str(refused.value)
    report = searching.resume(tmp_path / "s", "search.trials=3", "optimizer.momentum=0.9", accept_drift=True)
    assert report.trials == {"done": 3}
    changed = [event for event in read_events(tmp_path / "s" / NAME) if event["event"] == "changed"]
    assert changed[-1]["changed"]["optimizer.momentum"] == {"was": "0.0", "is": "0.9"}


def test_another_environment_is_refused(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.trials=9", "search.use=asha", "run.duration=9ep")
    for file in [tmp_path / "s/environment.json", *(tmp_path / "s/trials").glob("*/environment.json")]:
        file.write_text(file.read_text().replace('"torch": "', '"torch": "0.'))
    with pytest.raises(MachineError, match=r"the environment has changed\n  torch is"):
        searching.resume(tmp_path / "s", "search.trials=20")
    report = searching.resume(tmp_path / "s", "search.trials=20", accept_drift=True)
    assert sum(report.trials.values()) == 20  # paused ones that went on among them
    assert set(report.trials) == {"done", "pruned"}


def test_what_a_value_is_never_changes(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.trials=1")
    log = (tmp_path / "s" / NAME).read_text()
    with pytest.raises(UsageError, match=r"the objective is val.accuracy \(max\), was val.loss \(min\)"):
        searching.resume(tmp_path / "s", "search.trials=2", "run.monitor=val.accuracy", accept_drift=True)
    with pytest.raises(UsageError, match=r"a trial \(search.folds, search.repeats\) has 3 runs, had 1"):
        searching.resume(tmp_path / "s", "search.trials=2", "search.folds=3", accept_drift=True)
    assert (tmp_path / "s" / NAME).read_text() == log


def test_an_accepted_change_holds_where_the_process_dies_at_once(
    tmp_path: Path, searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching(tmp_path / "s", "search.trials=9", "search.use=asha", "run.duration=9ep")
    for file in [tmp_path / "s/environment.json", *(tmp_path / "s/trials").glob("*/environment.json")]:
        file.write_text(file.read_text().replace('"torch": "', '"torch": "0.'))

    def dies(self: StudyFolder, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        describe(self, recipe_toml, environment)
        raise KeyboardInterrupt

    describe = StudyFolder.describe
    with monkeypatch.context() as patch:
        patch.setattr(StudyFolder, "describe", dies)
        with pytest.raises(KeyboardInterrupt):
            searching.resume(tmp_path / "s", "search.trials=20", accept_drift=True)
    report = searching.resume(tmp_path / "s")
    assert sum(report.trials.values()) == 20
    assert set(report.trials) == {"done", "pruned"}


def test_another_searcher_that_was_accepted_is_named(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.trials=2")
    searching.resume(tmp_path / "s", "search.trials=3", "search.use=sobol", accept_drift=True)
    assert read_study(tmp_path / "s").searcher == "sobol"


def test_folds_and_repeats_are_runs_of_one_trial(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "s", "search.folds=2", "search.repeats=2", "search.trials=1")
    report = searching.resume(tmp_path / "s", "search.trials=2")
    study = read_study(tmp_path / "s")
    for record in study.records:
        runs = [tmp_path / f"s/trials/{record.trial.number:04d}/run-{part}" for part in range(4)]
        recipes = [tomllib.loads((run / "recipe.toml").read_text()) for run in runs]
        assert [(r["seed"], r["data"]["fold"]) for r in recipes] == [(5, 0), (5, 1), (6, 0), (6, 1)]
        assert {(r["data"]["folds"], r["data"]["seed"]) for r in recipes} == {(2, 5)}
        values = [json.loads((run / "report.json").read_text())["metrics"]["val.loss"] for run in runs]
        assert record.figures[0] == pytest.approx(sum(values) / 4, rel=1e-14)
        assert len(set(values)) == 4
        assert record.spread[0] > 0
    assert report.best is not None
    assert report.best["test_of"] == "the first of the trial's 4 runs"


def test_the_winner_is_trained_once_more_on_all_samples(tmp_path: Path, searching: Searching) -> None:
    report = searching(tmp_path / "s", "search.refit=true", "search.folds=2", "search.trials=2")
    assert report.best is not None
    assert report.best["refit"]["status"] == "done"
    recipe = tomllib.loads((tmp_path / "s/refit/recipe.toml").read_text())
    assert recipe["data"]["train_on"] == "train+val"
    assert "folds" not in recipe["data"]
    assert winner_folder(tmp_path / "s") == tmp_path / "s/refit"
    assert report.best["test"] == evaluate_run(tmp_path / "s/refit", "test", searching.plugins)
    assert report.best["test_of"] == "its refit on training and validation samples"


@pytest.mark.parametrize("failure", ["killed", "full"])
def test_a_refit_whose_machine_fails_goes_on(
    tmp_path: Path, searching: Searching, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    failed: list[Job] = []

    def once(job: Job, *given: Any, **more: Any) -> Outcome:
        if job.folder.name != "refit" or failed:
            return run_job(job, *given, **more)
        failed.append(job)
        outcome = Outcome("killed", message="it died")
        return outcome if failure == "killed" else Outcome("error", message="no room", origin="MachineError at x:1")

    monkeypatch.setattr("trainkit_executors.here.run_job", once)
    changes = ["search.refit=true", "search.trials=2"]
    if failure == "full":
        with pytest.raises(MachineError, match=r"refit: no room\n.*to go on: trainkit resume"):
            searching(tmp_path / "s", *changes)
        report = searching.resume(tmp_path / "s")
    else:
        report = searching(tmp_path / "s", *changes)
    assert failed
    assert report.best is not None
    assert report.best["refit"]["status"] == "done"


def test_the_winner_by_its_best_evaluation_is_tested_as_it_was_there(tmp_path: Path, searching: Searching) -> None:
    changes = ["search.take=best", "search.trials=1", "run.duration=8ep", "optimizer.lr=3.0", "optimizer.momentum=0.9"]
    report = searching(tmp_path / "s", *changes)
    run = tmp_path / "s/trials/0000"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if line["split"] == "val"]
    assert min(losses) < losses[-1], "the last evaluation is the best one: nothing is shown"
    best = json.loads((run / "best.json").read_text())
    assert report.best is not None
    assert report.best["value"] == min(losses)
    assert report.best["test_of"] == "the trial's own run at its best evaluation"
    assert report.best["test"] == evaluate_run(run / "checkpoints" / best["checkpoint"], "test", searching.plugins)
    assert report.best["test"] != evaluate_run(run, "test", searching.plugins)


def test_without_test_nobody_meets_the_test_samples(tmp_path: Path, searching: Searching) -> None:
    report = searching(tmp_path / "s", "search.test=false", "search.trials=2")
    assert report.best is not None
    assert "test" not in report.best


def test_several_objectives_have_a_front(tmp_path: Path, searching: Searching) -> None:
    changes = ['search={objectives=["val.loss", "parameters"], use="genetic"}', "search.trials=6"]
    report = searching(tmp_path / "s", *changes)
    points = [(entry["values"]["val.loss"], entry["values"]["parameters"]) for entry in report.front]
    assert points == sorted(points)
    assert len(points) >= 1
    assert [b for _, b in points] == sorted((b for _, b in points), reverse=True)


def test_an_earlier_study_warms_a_new_one(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "a", "search.trials=4")
    warm = f'search.warm_start=["{tmp_path / "a"}"]'
    report = searching(tmp_path / "b", warm, "search.trials=2", 'search.space."model.widths.0".high=16')
    inside = sum(record.trial.point["model.widths.0"] <= 16 for record in read_study(tmp_path / "a").records)
    assert len(next(read_events(tmp_path / "b" / NAME))["warm"]) == inside
    assert [record.trial.number for record in read_study(tmp_path / "b").records] == [0, 1]
    assert f"the searcher is told of {inside} earlier trials; {4 - inside} lie outside" in report.notes[0]
    with pytest.raises(RecipeError, match=r"warm_start .*nothing"):
        searching(tmp_path / "c", 'search.warm_start=["nothing"]')
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [('search.warm_start=["nowhere"]', 'warm_start "nowhere"'), ("search.use=asha", r"\[search\] asha: ")],
)
def test_a_study_that_cannot_begin_leaves_the_one_that_is_there(
    tmp_path: Path, searching: Searching, change: str, says: str
) -> None:
    searching(tmp_path / "s", "search.trials=1")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=says):
        searching(tmp_path / "s", change, fresh=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list((tmp_path / "s").glob(".old*"))
    launch(
        load_recipe(searching.file, ['drop=["search"]'], searching.plugins), searching.plugins, folder=tmp_path / "r"
    )
    with pytest.raises(RecipeError, match=says):
        searching(tmp_path / "r", change, fresh=True)
    assert (tmp_path / "r/recipe.toml").is_file()
    assert searching(tmp_path / "r", "search.trials=1", fresh=True).trials == {"done": 1}
    assert (tmp_path / "r/.old-1/recipe.toml").is_file()


def test_two_processes_never_write_one_study(tmp_path: Path, searching: Searching) -> None:
    from trainkit.search.folder import StudyFolder

    searching(tmp_path / "s", "search.trials=2")
    with StudyFolder(tmp_path / "s", resume=True), pytest.raises(MachineError, match="another process is writing"):
        searching.resume(tmp_path / "s", "search.trials=3")
    with pytest.raises(MachineError, match="it holds a study: continue that with --resume, put it aside with --fresh"):
        searching(tmp_path / "s")
    searching(tmp_path / "s", "search.trials=2", fresh=True)
    assert (tmp_path / "s/.old-1" / NAME).exists()


def test_a_time_limit_stops_a_study_which_goes_on(tmp_path: Path, searching: Searching) -> None:
    whole = searching(tmp_path / "whole")
    report = searching(tmp_path / "s", "search.time_limit=0.4", "run.duration=200ep")
    assert report.status == "interrupted"
    assert "time limit" in report.reason
    assert whole.trials == {"done": 4}
    longer = searching.resume(tmp_path / "s", "search.time_limit=0.0")
    assert longer.status == "finished"
    searching(tmp_path / "undisturbed", "run.duration=200ep")
    assert figures(tmp_path / "s") == figures(tmp_path / "undisturbed")
