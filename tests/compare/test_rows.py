"""Which runs are one row, what it is called, which figures it has, in which settings it differs from others."""

from __future__ import annotations

import json
import math

import pytest

from tests.compare.conftest import write_run
from trainkit.compare.comparison import compare_runs
from trainkit.compare.sections import sections_of
from trainkit.compare.table import as_dict, markdown
from trainkit.errors import MachineError, UsageError
from trainkit.page import Table


@pytest.fixture
def found(tmp_path, plugins):
    """Compares folders; what is said on the way is in ``found.said``."""

    def found(*folders, **options):
        found.said.clear()
        return compare_runs([str(folder) for folder in folders], plugins, found.said.append, **options)

    found.said = []
    return found


def test_runs_that_differ_in_seed_alone_are_one_row_wherever_they_lie(tmp_path, found):
    runs = [write_run(tmp_path / f"a/lr-{seed}", seed, (2.0, 1.0 + seed), (0.1, 0.2)) for seed in (0, 1, 2)]
    runs += [write_run(tmp_path / "b/other", 0, lr=0.2)]
    first, second = found(*runs).rows
    assert (first.name, first.over, second.name, second.over) == ("a/lr", "3 seeds", "b/other", "1 seed")
    s = first.spread("val.loss")
    assert (s.n, s.mean, s.sd) == (3, 2.0, 1.0)
    assert s.high - s.mean == pytest.approx(4.302652729911275 / math.sqrt(3))


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (("study", "studies"), "study and 1 more"),
        (("adam-long", "adam-low"), "adam"),
        (("run10", "run12"), "run"),
        (("wide/seed-1", "wide/seed-2"), "wide"),
        (("x/a", "x/b"), "x"),
    ],
)
def test_a_row_is_named_after_what_its_folders_have_in_common(tmp_path, found, monkeypatch, folders, name):
    monkeypatch.chdir(tmp_path)
    for seed, folder in enumerate(folders):
        write_run(tmp_path / folder, seed)
    assert [row.name for row in found(*folders).rows] == [name]


def test_no_two_rows_have_one_name(tmp_path, found):
    names = {"run (2)": (0.1, 0), "run-0": (0.2, 0), "run-1": (0.2, 1), "run-2": (0.3, 2), "run-3": (0.3, 3)}
    runs = [write_run(tmp_path / name, seed, lr=lr) for name, (lr, seed) in names.items()]
    assert [row.name for row in found(*runs).rows] == ["run (2)", "run", "run (3)"]


def test_what_is_kept_and_logged_of_a_run_does_not_make_another_recipe(tmp_path, found):
    one = write_run(tmp_path / "one", 0)
    other = write_run(tmp_path / "other", 1)
    text = (other / "recipe.toml").read_text().replace('save_every = "1ep"', 'save_every = "4ep"\nkeep = 9')
    (other / "recipe.toml").write_text(text + '[[logger]]\nuse = "curves"\n')
    assert len(found(one, other).rows) == 1


def test_a_folder_of_several_runs_is_one_row_with_its_name(tmp_path, found):
    for seed in (3, 4):
        write_run(tmp_path / f"adam/seed-{seed}", seed)
    (tmp_path / "adam/repeats.json").write_text(
        json.dumps({"over": "seed", "runs": ["seed-3", "seed-4", "seed-5", "../x", 7]})
    )
    write_run(tmp_path / "x", 9)
    (row,) = found(tmp_path / "adam").rows
    assert (row.name, row.over, [entry.seed for entry in row.counted]) == ("adam", "2 seeds", [3, 4])
    row, _ = found(f"{tmp_path}/adam/", tmp_path / "x", write_run(tmp_path / "y", lr=0.9)).rows
    assert (row.name, row.over) == ("adam and 1 more", "3 seeds")


def test_a_run_of_several_that_has_not_been_begun_is_said_and_meets_nothing(tmp_path, found):
    write_run(tmp_path / "adam/seed-3", 3)
    (tmp_path / "adam/repeats.json").write_text('{"over": "seed", "runs": ["seed-3", "seed-4", "seed-5"]}')
    made = found(tmp_path / "adam", required=["val.loss<100"])
    assert (made.rows[0].status, made.rows[0].over, made.met) == ("1 of 3 finished", "1 seed", False)
    assert "adam: seed-4: it has not been begun, as 1 more" in made.notes
    assert "adam: its figures are those of the 1 that finished: 2 did not" in made.notes
    assert [run["status"] for run in as_dict(made)["rows"][0]["runs"]] == ["finished", "missing", "missing"]
    assert markdown(made)
    assert sections_of(made)
    (tmp_path / "adam/seed-3/report.json").unlink()
    made = found(tmp_path / "adam")
    assert (made.rows[0].status, made.rows[0].spread("val.loss").n) == ("0 of 3 finished", 1)
    assert not any("that finished" in note for note in made.notes)
    (tmp_path / "adam/seed-3/recipe.toml").unlink()
    with pytest.raises(UsageError, match="none of its 3 runs can be compared: seed-3: it has not been begun"):
        found(tmp_path / "adam")


def test_a_link_out_of_a_folder_of_several_is_not_followed(tmp_path, found):
    write_run(tmp_path / "elsewhere")
    (tmp_path / "adam").mkdir()
    (tmp_path / "adam/seed-3").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "adam/repeats.json").write_text('{"over": "seed", "runs": ["seed-3"]}')
    with pytest.raises(MachineError, match="link out of the run folder"):
        found(tmp_path / "adam")


def test_folds_are_pairs_of_their_own_and_make_intervals_wider(tmp_path, found):
    for seed in (0, 1):
        for fold in (0, 1, 2):
            loss = 1 + seed + fold
            write_run(*(tmp_path / f"r/{seed}-{fold}", seed, (2.0, loss), (0.1, 0.2)), data=f"folds = 3\nfold = {fold}")
    (row,) = found(*sorted((tmp_path / "r").iterdir())).rows
    assert (row.over, row.folds) == ("2 seeds x 3 folds", 3)
    s = row.spread("val.loss")
    assert s.high - s.mean == pytest.approx(2.5705818366147 * s.sd * math.sqrt(1 / 6 + 1 / 2))


def test_the_same_seed_twice_is_no_second_sample(tmp_path, found):
    one = write_run(tmp_path / "one", 5, status="")
    again = write_run(tmp_path / "again", 5)
    made = found(one, again, again, tmp_path / "one" / ".." / "one")
    (row,) = made.rows
    assert [entry.name for entry in row.entries] == [str(again)]
    assert any("has the recipe and the seed of" in note for note in made.notes)
    third = write_run(tmp_path / "third", 5)
    told = [note for note in found(one, again, third).notes if "the recipe and the seed of" in note]
    assert len(told) == 1, told
    assert f"2 more have the recipe and the seed of {again}" in told[0]


def test_best_last_and_gap_go_the_way_of_each_metric(tmp_path, found):
    (row,) = found(write_run(tmp_path / "r", 0, (0.5, 0.3, 0.4), (0.7, 0.9, 0.8))).rows
    values = {
        name: row.spread(name).mean for name in ("val.loss", "best val.loss", "val.accuracy", "best val.accuracy")
    }
    assert values == {"val.loss": 0.4, "best val.loss": 0.3, "val.accuracy": 0.8, "best val.accuracy": 0.9}
    assert row.spread("gap val.loss").mean == pytest.approx(0.1)
    assert row.spread("gap val.accuracy").mean == 0.0
    assert (row.spread("seconds").mean, row.spread("updates/s").mean) == (2.0, 15.0)


def test_of_a_metric_that_nobody_knows_there_is_no_best(tmp_path, found):
    folder = write_run(tmp_path / "r")
    text = (folder / "recipe.toml").read_text().replace('use = "accuracy"', 'use = "of_a_plugin_that_is_gone"')
    (folder / "recipe.toml").write_text(text)
    lines = (folder / "metrics.jsonl").read_text().replace('"accuracy"', '"of_a_plugin_that_is_gone"')
    (folder / "metrics.jsonl").write_text(lines)
    made = found(folder, metrics=["val.of_a_plugin_that_is_gone"])
    assert made.columns[:1] == ["val.of_a_plugin_that_is_gone"]
    assert "best val.of_a_plugin_that_is_gone" not in made.columns


def test_only_settings_that_tell_rows_apart_are_columns(tmp_path, found):
    runs = [
        write_run(tmp_path / "a", lr=0.1, more="momentum = 0.9"),
        write_run(tmp_path / "b", lr=0.2, more="momentum = 0.9"),
        write_run(tmp_path / "c", optimizer="adam", lr=0.1, more="eps = 1e-8"),
    ]
    assert found(*runs).differing == {"optimizer.use": ["sgd", "sgd", "adam"], "optimizer.lr": [0.1, 0.2, 0.1]}
    assert found(*runs[:2]).differing == {"optimizer.lr": [0.1, 0.2]}


def test_a_setting_that_one_recipe_leaves_open_is_a_column(tmp_path, found):
    made = found(write_run(tmp_path / "a", data="folds = 3\nfold = 1"), write_run(tmp_path / "b"))
    assert made.differing == {"data.folds": [3, None]}
    assert any("differ in data.folds: their figures may be of other samples" in note for note in made.notes)


def test_a_run_that_goes_on_failed_or_was_killed_is_said(tmp_path, found):
    on = write_run(tmp_path / "on", status="")
    failed = write_run(tmp_path / "failed", lr=9.0, status="failed", report={"reason": "too\nhot", "metrics": {}})
    made = found(on, failed)
    assert "on: it goes on, or was killed; its figures are those at update 40" in made.notes
    assert "failed: it failed: too; its figures are those at update 40" in made.notes
    assert [row.status for row in made.rows] == ["unfinished", "failed"]


def test_figures_are_of_the_runs_that_finished(tmp_path, found):
    runs = [write_run(tmp_path / f"run-{seed}", seed, (2.0, seed), (0.1, 0.2)) for seed in (1, 2)]
    runs += [write_run(tmp_path / "run-3", 3, (2.0, 99.0), (0.1, 0.2), status="failed")]
    made = found(*runs)
    assert (made.rows[0].status, made.rows[0].spread("val.loss").mean) == ("2 of 3 finished", 1.5)
    assert "run: run-3: it failed; its figures are those at update 20" in made.notes
    assert "run: its figures are those of the 2 that finished: 1 did not" in made.notes


def test_a_figure_that_is_not_finite_is_said_and_not_counted(tmp_path, found):
    made = found(write_run(tmp_path / "r", 0, (2.0, None), (0.1, 0.2)), write_run(tmp_path / "s", lr=0.3))
    assert made.rows[0].spread("val.loss") is None
    assert "r: its val.loss is not finite at its end" in made.notes
    assert "val.loss is not known of: r" in made.notes


def test_a_strangers_report_breaks_nothing(tmp_path, found):
    strange = {"status": ["x"], "metrics": {"val.loss": 1e300, "\x1b[2J": 2, "val.accuracy": "no"}, "steps": "a"}
    folder = write_run(tmp_path / "r", report={**strange, "seconds": -1, "best": 3})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 50, "epoch": 5, "split": "val", "time": 3, "loss": 1e308}\nnot a line\n')
    (row,) = found(folder).rows
    assert (row.status, row.spread("seconds")) == ("unfinished", None)
    assert row.spread("val.accuracy").mean == 0.8


@pytest.mark.parametrize(
    "text",
    [
        "data = 3\nmetric = 'x'\noptimizer = []\nseed = [1]",
        "seed = 2\n[data]\nfolds = 5\nfold = [1]\n[[metric]]\nuse = 3",
        "seed = 1e400\nmetric = [1, {use = 'accuracy'}]\n[run]\nduration = 1979-05-27",
        "",
    ],
)
def test_a_strangers_recipe_breaks_nothing(tmp_path, found, text):
    folders = [write_run(tmp_path / "strange"), write_run(tmp_path / "other"), write_run(tmp_path / "own", lr=0.7)]
    for folder in folders[:2]:
        (folder / "recipe.toml").write_text(text)
    made = found(*folders)
    assert [len(row.entries) for row in made.rows] == [1, 1]
    assert as_dict(made)["rows"][0]["figures"]["val.loss"]["mean"] == 0.4
    assert markdown(made)
    assert sections_of(made)


def test_other_metrics_are_said(tmp_path, found):
    other = write_run(tmp_path / "other", lr=0.5)
    for name in ("metrics.jsonl", "report.json"):
        (other / name).write_text((other / name).read_text().replace("accuracy", "f1"))
    made = found(write_run(tmp_path / "one"), other)
    assert made.figures == ["val.loss", "val.accuracy", "val.f1"]
    assert {"val.accuracy is not known of: other", "val.f1 is not known of: one"} <= set(made.notes)


def test_what_few_rows_have_is_shown_on_demand(tmp_path, found):
    runs = [write_run(tmp_path / name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    for name in ("metrics.jsonl", "report.json"):
        (runs[2] / name).write_text((runs[2] / name).read_text().replace("accuracy", "f1"))
    made = found(*runs)
    assert made.figures == ["val.loss", "val.accuracy"]
    assert "also measured, and shown with --metric NAME: val.f1" in made.notes
    assert found(*runs, metrics=["val.f1"]).figures == ["val.f1"]


def test_other_machines_are_said(tmp_path, found):
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", lr=0.2)
    (other / "environment.json").write_text('{"device_name": "two", "torch": "2"}')
    assert "they were not run alike (device_name): seconds and updates/s cannot be compared" in found(one, other).notes


def test_what_holds_no_run_is_left_out_and_said(tmp_path, found):
    run = write_run(tmp_path / "runs/r")
    (tmp_path / "runs/empty").mkdir()
    (tmp_path / "runs/file.txt").write_text("")
    (tmp_path / "runs/half").mkdir()
    (tmp_path / "runs/half/recipe.toml").write_text("x = [")
    assert len(found(*sorted((tmp_path / "runs").iterdir())).rows) == 1
    assert [text.partition("runs/")[2].partition(":")[0] for text in found.said] == [
        "empty",
        "file.txt",
        "half/recipe.toml",
    ]
    with pytest.raises(UsageError, match=r"folders of runs; write: trainkit compare .*/runs/\*"):
        found(run.parent)
    with pytest.raises(UsageError, match="no such run folder"):
        found(run, tmp_path / "nowhere")


def test_a_figure_that_no_run_has_is_refused_with_the_nearest(tmp_path, found):
    run = write_run(tmp_path / "r")
    with pytest.raises(UsageError, match=r"--metric val.acuracy: no run has this figure; did you mean 'val.accuracy'"):
        found(run, metrics=["val.acuracy"])
    assert found(run, metrics=["train.loss"]).figures == ["train.loss"]


def test_an_ensemble_is_a_row_without_curves(tmp_path, found):
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "recipe.toml").write_text('recipe = 1\nseed = 1\n[ensemble]\nuse = "greedy"\n')
    (folder / "ensemble.json").write_text("{}")
    figures = {"raw": {"accuracy": {"value": 0.95}, "nll": {"value": 0.2}}}
    (folder / "report.json").write_text(
        json.dumps({"status": "finished", "kind": "raw", "ensemble": {"validation": figures}})
    )
    made = found(folder, write_run(tmp_path / "r"))
    ensemble = made.rows[0]
    assert (ensemble.over, ensemble.spread("val.accuracy").mean, ensemble.entries[0].curves) == ("1 ensemble", 0.95, {})
    assert "val.loss is not known of: e" in made.notes
    assert made.differing["ensemble"] == ["greedy", None]


def test_of_a_study_it_is_the_winners_run(tmp_path, found):
    study = tmp_path / "study"
    for trial, loss in enumerate((0.5, 0.2, 0.9)):
        write_run(study / f"trials/{trial:04d}", 7, (2.0, loss), (0.1, 0.2), lr=0.1 * (trial + 1))
    text = (study / "trials/0000/recipe.toml").read_text().replace("seed = 7", "seed = 1")
    (study / "recipe.toml").write_text(text + '[search]\nuse = "random"\n')
    head = {"event": "study", "format": 1, "searcher": "random", "seed": 1, "trials": 3, "parts": 1, "batch": 0}
    space = {"dimensions": [{"name": "optimizer.lr", "kind": "float", "low": 0.01, "high": 1.0}], "limits": []}
    events = [{**head, "objectives": [["val.loss", "min"]], "space": {**space, "fixed": {}}, "time": 0}]
    for trial, loss in enumerate((0.5, 0.2, 0.9)):
        point = {"optimizer.lr": 0.1 * (trial + 1)}
        events.append({"event": "ask", "trial": trial, "order": {"point": point}, "point": point, "time": 1})
        done = {"event": "done", "trial": trial, "value": loss, "metrics": {"val.loss": loss}, "trained": 1.0}
        events.append({**done, "seconds": 1.0, "epochs": 4.0, "time": 2})
    (study / "study.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    (study / "report.json").write_text('{"status": "finished"}')
    (study / "report.html").write_text("")
    made = found(study, required=["val.loss<0.3"])
    assert (made.met, made.rows[0].status, made.rows[0].spread("val.loss").mean) == (True, "finished", 0.2)
    assert made.rows[0].entries[0].tables["optimizer"]["lr"] == 0.2
    assert any("its winner is trial 1, the best of 3 by val.loss" in note for note in made.notes)
    assert next(block for block in sections_of(made, tmp_path)[0].blocks if isinstance(block, Table)).links == [
        "study/report.html"
    ]
    (study / "report.json").unlink()  # another trial may win yet
    made = found(study, required=["val.loss<0.3"])
    assert (made.met, made.rows[0].status) == (False, "unfinished")
    assert any("it goes on, or was killed; its winner is trial 1" in note for note in made.notes)
    (study / "recipe.toml").write_text(text.replace("seed = 1", "seed = [1]"))  # a stranger's
    assert found(study).rows[0].entries[0].seed is None
