"""Searches from the command line: exit codes, signals, kills, what is printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.search.conftest import RECIPE, Searching
from tests.search.test_study import figures
from trainkit import training
from trainkit.cli import Session, main
from trainkit.errors import MachineError
from trainkit.recipe import Recipe
from trainkit.search.driver import Driver

LONG = ("run.duration=60ep", "search.trials=5", "run.evaluate_every=10ep")


def begun(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainkit", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def when(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.003)


def test_a_signal_stops_a_study_that_goes_on_to_the_same_end(tmp_path: Path, searching: Searching) -> None:
    longer = (*LONG, "run.duration=600ep", "search.trials=3")
    folder = tmp_path / "s"
    process = begun(str(searching.file), *longer, "--run-dir", str(folder))
    when(lambda: (folder / "trials/0001/metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert f"next: trainkit resume {folder}" in said
    report = json.loads((folder / "report.json").read_text())
    assert (report["status"], report["reason"]) == ("interrupted", "signal SIGTERM")
    assert report["trials"]["running"] == 1
    assert list((folder / "trials/0001/checkpoints").glob("step-*")), "the running trial was not saved"
    assert main(["resume", str(folder), "-q"]) == 0
    searching(tmp_path / "undisturbed", *longer)
    assert figures(folder) == figures(tmp_path / "undisturbed")


def test_what_is_printed(tmp_path: Path, searching: Searching, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "s")
    assert main([str(searching.file), "--run-dir", folder, "--json"]) == 0
    out, said = capsys.readouterr()
    report = json.loads(out)
    assert report["status"] == "finished"
    assert report["folder"] == folder
    assert report["best"]["point"]
    lines = said.splitlines()
    assert lines[0] == "search: random over 2 settings, 4 trials"
    assert lines[1].strip() == "at most 8 epochs in all"
    assert [line.split()[:3] for line in lines[2:6]] == [["trial", str(n), "done"] for n in range(4)]
    assert "best" in lines[2]
    assert "lr 0.1, widths.0 8" in lines[2]
    assert main(["evaluate", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == report["best"]["test"]
    assert main(["resume", folder, "search.trials=5", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["resume", folder, "optimizer.momentum=0.5"]) == 2
    assert "optimizer.momentum = 0.5 (was 0.0)" in capsys.readouterr().err
    assert main(["resume", folder, "--extend", "2ep"]) == 2
    assert "search.trials=N" in capsys.readouterr().err


def test_a_smoke_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], searching: Searching
) -> None:
    before = sorted(tmp_path.iterdir())
    assert main([str(searching.file), "--smoke", "--json"]) == 0
    out, said = capsys.readouterr()
    assert json.loads(out)["status"] == "finished"
    assert said.count("finished (smoke") == 2
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("codes", "status"), [((75,), "interrupted"), ((0, 75), "interrupted"), ((4,), "failed")])
def test_a_smoke_ends_with_the_first_that_did_not_end_well(
    codes: tuple[int, ...],
    status: str,
    capsys: pytest.CaptureFixture[str],
    searching: Searching,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, search = list(codes), training._train

    def train(session: Session, recipe: Recipe, *given: Any) -> int:
        return search(session, recipe, *given) if recipe.search is not None else left.pop(0)

    monkeypatch.setattr(training, "_train", train)
    assert main([str(searching.file), "--smoke", "--json"]) == codes[-1]
    assert json.loads(capsys.readouterr().out)["status"] == status
    assert left == []


def test_a_smoke_that_raises_is_told_as_json(
    capsys: pytest.CaptureFixture[str], searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> Any:
        raise MachineError("no room")

    monkeypatch.setattr("trainkit.launch.launch", full)
    assert main([str(searching.file), "--smoke", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == {"error": "no room", "exit_code": 3, "folder": None}


def test_a_study_whose_recipe_has_lost_its_search_is_not_taken_for_a_run(
    tmp_path: Path, searching: Searching, capsys: pytest.CaptureFixture[str]
) -> None:
    searching(tmp_path / "s", "search.trials=1")
    path = tmp_path / "s/recipe.toml"
    path.write_text(path.read_text().partition("[search]")[0])
    names = sorted(path.parent.rglob("*"))
    assert main(["resume", str(tmp_path / "s")]) == 2
    assert "recipe.toml: it has no [search], and the folder holds a study" in capsys.readouterr().err
    assert sorted(path.parent.rglob("*")) == names


def test_a_defect_names_plugin_and_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "faulty_loss.py"
    plugin.write_text(
        "from trainkit import Component, hookimpl\n"
        "def faulty(*, power: float = 1.0):\n    '''Fail.'''\n    return {}['no such']\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('loss', faulty)]\n"
    )
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.replace('use = "cross_entropy"', 'use = "faulty"'))
    assert main([str(recipe), "--run-dir", str(tmp_path / "s"), "-p", str(plugin)]) == 1
    said = capsys.readouterr().err
    assert "trial 0" in said
    assert "faulty" in said
    assert f"trainkit resume {tmp_path / 's'}" in said


def test_validate_finds_what_the_searcher_cannot_do(searching: Searching, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("search.use=grid", "search.points=9", "search.trials=4")
    assert main(["validate", str(searching.file), *words]) == 2
    said = capsys.readouterr().err
    assert "[search] grid: the grid has " in said
    assert "write trials = " in said
    assert main(["validate", str(searching.file)]) == 0


def test_a_search_without_a_winner_has_failed(
    tmp_path: Path, searching: Searching, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("search.trial_timeout=1e-6", "run.duration=50ep", "--run-dir", str(tmp_path / "s"))
    assert main([str(searching.file), *words]) == 4
    assert "4 timeout" in (said := capsys.readouterr().err)
    assert "no trial is done, so that there is no winner" in said
    assert json.loads((tmp_path / "s/report.json").read_text())["status"] == "finished"


def test_a_full_disk_is_said_with_how_to_go_on(
    tmp_path: Path, searching: Searching, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Driver) -> str:
        raise MachineError("checkpoints: No space left on device")

    folder = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(Driver, "run", full)
        assert main([str(searching.file), "--run-dir", str(folder)]) == 3
    assert f"No space left on device\n  all results so far are kept; to go on: trainkit resume {folder}" in (
        capsys.readouterr().err
    )
    assert main(["resume", str(folder), "-q"]) == 0
