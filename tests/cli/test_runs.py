"""Verbs that train or use what was trained: run, evaluate, predict."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy
import pytest

from trainkit.errors import CheckpointError, DataError, Exit, MachineError, RunError


def test_a_bare_recipe_is_run(trainkit, recipe, tmp_path):
    outcome = trainkit(recipe, "--run-dir", "first")
    assert (outcome.code, outcome.out) == (0, "")
    assert json.loads((tmp_path / "first" / "report.json").read_text(encoding="utf-8"))["status"] == "finished"


def test_away_from_a_terminal_each_evaluation_is_one_line(trainkit, recipe):
    lines = trainkit(recipe).err.splitlines()
    evaluations = [line for line in lines if line.startswith("epoch ")]
    assert len(evaluations) == 2
    assert evaluations[-1].startswith("epoch 2/2  step 8/8  train.loss ")
    for part in ("val.loss ", "val.accuracy ", "best ", " samples/s  0:0"):
        assert part in evaluations[-1]
    assert not any("\x1b" in line for line in lines)


def test_the_start_says_what_runs(trainkit, recipe):
    err = trainkit(recipe).err
    for part in (
        "recipe  small.toml",
        "train 58  val 19  test 19",
        "27 parameters",
        "cpu, float32, 1 threads",
        "group 0",
    ):
        assert part in err


def test_the_end_names_what_matters_next(trainkit, recipe):
    lines = trainkit(recipe, "--run-dir", "first").err.splitlines()
    assert lines[-3].startswith("finished: 8 updates, 2 epochs in 0:0")
    assert "best val.loss " in lines[-3]
    assert "test.accuracy " in lines[-3]
    assert "first/report.json" in lines[-2].replace("\\", "/")
    assert lines[-1] == "  next: trainkit evaluate first"


def test_quiet_shows_nothing(trainkit, recipe):
    assert trainkit(recipe, "-q") == (0, "", "")


def test_json_is_the_report_and_its_folder(trainkit, recipe, tmp_path):
    report = trainkit(recipe, "--json").json
    assert (report["status"], report["steps"]) == ("finished", 8)
    assert Path(report["folder"]).parent == tmp_path / "runs"
    saved = json.loads((Path(report["folder"]) / "report.json").read_text(encoding="utf-8"))
    assert saved == {key: value for key, value in report.items() if key != "folder"}


def test_smoke_leaves_nothing_behind(trainkit, recipe, tmp_path):
    outcome = trainkit(recipe, "--smoke", "--json")
    assert (outcome.code, outcome.json["folder"]) == (0, None)
    assert not (tmp_path / "runs").exists()


def test_profile_shows_where_time_went(trainkit, recipe):
    lines = trainkit(recipe, "--profile").err.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("where")) :]
    assert table[0].split() == ["where", "calls", "seconds", "share", "us/update"]
    assert any(line.startswith("step ") for line in table)
    objects = table[table.index("") + 1 :]
    assert objects[0].split() == ["object", "calls", "seconds", "share", "us/call"]
    assert any(line.startswith("listener.0 Display ") for line in objects)


def test_a_profile_is_in_the_json_too(trainkit, recipe):
    outcome = trainkit(recipe, "--profile", "--json")
    spent = outcome.json["profile"]
    assert spent["step"]["calls"] == outcome.json["steps"] == 8
    assert "profile" not in trainkit(recipe, "--json").json


def test_a_stop_that_the_recipe_asked_for_is_done(trainkit, recipe, tmp_path):
    (tmp_path / "stopping.py").write_text(
        "from trainkit import Component, hookimpl\n"
        "class Stop:\n"
        "    @hookimpl\n"
        "    def trainkit_stop_reason(self):\n"
        "        return 'enough'\n"
        "def stop():\n    '''Stop at once.'''\n    return Stop()\n"
        "@hookimpl\n"
        "def trainkit_components():\n    return [Component('callback', stop)]\n",
        encoding="utf-8",
    )
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "stop"\n')
    outcome = trainkit(recipe, "-p", "./stopping.py")
    assert outcome.code == 0
    assert "stopped (enough): 4 updates, 1 epochs" in outcome.err


@pytest.mark.skipif(os.name != "posix", reason="signals as posix has them")
@pytest.mark.parametrize(
    "hook", ["run_start", "epoch_start", "step_end", "evaluate", "epoch_end", "stop_reason", "save"]
)
def test_a_signal_at_any_place_of_the_loop_saves_and_ends_with_75(trainkit, recipe, tmp_path, hook):
    (tmp_path / f"signal_{hook}.py").write_text(
        "import os, signal\n"
        "from trainkit import Component, hookimpl\n"
        "class Signal:\n"
        "    sent = False\n"
        "    @hookimpl\n"
        f"    def trainkit_{hook}(self):\n"
        "        if not self.sent:\n"
        "            self.sent = True\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "def send():\n    '''Send a signal.'''\n    return Signal()\n"
        "@hookimpl\n"
        "def trainkit_components():\n    return [Component('callback', send)]\n",
        encoding="utf-8",
    )
    with Path(recipe).open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "send"\n')
    outcome = trainkit(recipe, "-p", f"./signal_{hook}.py", "run.duration=50ep", "run.save_every=20ep", "--json")
    assert outcome.code == 75
    assert outcome.json["reason"] == "signal SIGINT"
    saved = [folder.name for folder in (Path(outcome.json["folder"]) / "checkpoints").iterdir()]
    assert f"step-{outcome.json['steps']:012}" in saved


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("digits.csv:7: 'age' is missing"), 2),
        (MachineError("runs: no space left"), 3),
        (RunError("the loss is not finite at update 12"), 4),
        (CheckpointError("runs/a: no checkpoint can be used"), 5),
        (MemoryError(), 4),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 80 bytes"), 4),
        (RuntimeError("something else"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_exit_codes_of_what_a_run_can_raise(trainkit, recipe, monkeypatch, error, code):
    def failing(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("trainkit.launch.launch", failing)
    outcome = trainkit(recipe)
    assert outcome.code == code
    assert (str(error).splitlines() or ["out of memory"])[0] in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("stopped", 0), ("failed", 4), ("interrupted", 75)])
def test_exit_codes_of_how_a_run_can_end(trainkit, recipe, monkeypatch, status, code):
    from trainkit.run import Report

    report = Report(status, "a reason", 3, 0.5, 1.0, {"val.loss": float("nan")}, None, "0" * 64)
    monkeypatch.setattr("trainkit.launch.launch", lambda *args, **kwargs: report)
    outcome = trainkit(recipe, "--json")
    assert outcome.code == Exit(code)
    assert outcome.json["status"] == status
    assert outcome.json["metrics"] == {"val.loss": None}


def test_a_busy_run_folder_is_the_machines_fault(trainkit, recipe, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine", encoding="utf-8")
    outcome = trainkit(recipe, "--run-dir", "taken")
    assert outcome.code == 3
    assert "taken" in outcome.err
    assert (tmp_path / "taken" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.fixture
def finished(trainkit, recipe) -> str:
    """A finished run's folder."""
    assert trainkit(recipe, "-q", "--run-dir", "done").code == 0
    return "done"


def test_evaluate_gives_the_reports_figures(trainkit, finished):
    report = json.loads((Path(finished) / "report.json").read_text(encoding="utf-8"))
    outcome = trainkit("evaluate", finished, "--json")
    assert outcome.json["metrics"]["accuracy"] == pytest.approx(report["metrics"]["test.accuracy"])
    plain = dict(line.split() for line in trainkit("evaluate", finished, "--split", "val").out.splitlines())
    assert float(plain["val.loss"]) == pytest.approx(report["metrics"]["val.loss"], rel=1e-4)


def test_evaluate_says_which_weights_it_measures_where_newer_ones_are_damaged(trainkit, finished):
    older, newest = sorted((Path(finished) / "checkpoints").glob("step-*"))[-2:]
    file = newest / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    outcome = trainkit("evaluate", str(finished))
    assert outcome.code == 0
    assert f"{newest.name}/tensors.safetensors: the file is damaged" in outcome.err
    assert f"these are the weights of {older.name}" in outcome.err


def test_evaluate_without_a_checkpoint(trainkit, finished):
    import shutil

    shutil.rmtree(Path(finished) / "checkpoints")
    outcome = trainkit("evaluate", finished)
    assert outcome.code == 5
    assert "done" in outcome.err


def test_evaluate_what_is_no_run(trainkit, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = trainkit("evaluate", "empty")
    assert outcome.code == 2
    assert "not a run folder" in outcome.err


def test_predict_writes_a_row_for_each_sample(trainkit, finished, tmp_path):
    rows = list(csv.DictReader(io.StringIO(trainkit("predict", finished).out)))
    assert len(rows) == 19
    assert {"index", "targets", "predicted", "outputs.0", "outputs.2", "probabilities.1"} <= set(rows[0])
    assert trainkit("predict", finished, "--out", "test.csv").out == "test.csv\n"
    assert list(csv.DictReader((tmp_path / "test.csv").read_text(encoding="utf-8").splitlines())) == rows


def test_predict_writes_arrays(trainkit, finished, tmp_path):
    outcome = trainkit("predict", finished, "--split", "val", "--out", "val.npz", "--json")
    assert outcome.json == {"run": "done", "split": "val", "samples": 19, "out": "val.npz"}
    with numpy.load(tmp_path / "val.npz", allow_pickle=False) as arrays:
        assert arrays["outputs"].shape == (19, 3)
        assert (arrays["outputs"].argmax(axis=1) == arrays["predicted"]).all()
    assert len(trainkit("predict", finished, "--json").json["outputs"]) == 19


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--out", "test.xlsx"), 2, ".csv"),
        (("--out", "nowhere/test.csv"), 3, "--out nowhere/test.csv: cannot be written: No such file or directory"),
        (("--prompt", "a", "--out", "nowhere/text.txt"), 3, "--out nowhere/text.txt: cannot be written: No such file"),
        (("--prompt", "a", "--out", "."), 2, "--out .: it is a folder; name a file in it"),
    ],
)
def test_predict_refuses_a_file_before_it_works(trainkit, finished, monkeypatch, more, code, message):
    monkeypatch.setattr("trainkit.finished.open_run", lambda *given, **more: pytest.fail("it worked"))
    outcome = trainkit("predict", finished, *more)
    assert outcome.code == code
    assert message in outcome.err
