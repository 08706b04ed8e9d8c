"""What a plugin raises is named and leaves a run that goes on the same; so does a disk that is full."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from tests.soak import exceptions as soak
from tests.soak import rig
from trainkit import MachineError, RunError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.rundir import RunFolder


def test_an_exception_at_a_call_of_a_hook():
    assert soak.check(10, seed=1) == []


def test_an_exception_while_a_plugin_takes_its_state_back(monkeypatch):
    monkeypatch.setattr(soak, "CALLS", (1,))
    begin = soak._raise
    monkeypatch.setattr(soak, "_raise", lambda *given: begin(*given[:3], ("restore", 1, given[3][2]), given[4]))
    assert soak.check(1, seed=1) == []
    assert soak._check(2, 1, soak.OUT_OF_MEMORY, soak._out_of_memory) == []


def test_an_exception_while_a_plugin_is_imported():
    assert soak.check_import(1, seed=100) == []


@pytest.fixture(scope="module")
def installed() -> Plugins:
    return Plugins()


@pytest.fixture
def go(tmp_path: Path, installed: Plugins) -> Any:
    recipe = load_recipe(rig.write(tmp_path / "r.toml"), [], installed)

    def go(name: str, *listeners: object) -> Any:
        return launch(recipe, installed, folder=tmp_path / name, listeners=listeners, resume=True)

    return go


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("method", "call"), [("metrics", 1), ("metrics", 2), ("metrics", 6), ("log", 1), ("report", 1)]
)
def test_a_disk_that_is_full_costs_no_checkpoint(go, tmp_path, monkeypatch, method, call):
    go("straight")
    kept, calls = getattr(RunFolder, method), []

    def write(self: RunFolder, what: Any) -> None:
        calls.append(what)
        if len(calls) >= call:
            full()
        kept(self, what)

    monkeypatch.setattr(RunFolder, method, write)
    with pytest.raises(MachineError) as raised:
        go("broken")
    assert raised.value.exit_code == 3
    assert "No space left on device" in str(raised.value)
    assert "the checkpoints are whole; make room, or put it right, and go on: trainkit resume" in str(raised.value)
    assert rig.whole_checkpoints(tmp_path / "broken") == []
    monkeypatch.undo()
    go("broken")
    assert rig.differences(tmp_path / "straight", tmp_path / "broken") == []


def test_a_log_that_takes_no_last_line_leaves_a_finished_run(go, tmp_path, monkeypatch):
    kept = RunFolder.log
    monkeypatch.setattr(RunFolder, "log", lambda self, text: full() if "finished" in text else kept(self, text))
    assert go("run").status == "finished"
    assert rig.report_of(tmp_path / "run")["status"] == "finished"


def test_half_a_line_that_a_full_disk_took_is_cut_off(go, tmp_path, monkeypatch):
    go("straight")
    calls = []

    def half(self: RunFolder, line: Any) -> None:
        calls.append(line)
        kept(self, line)
        if len(calls) == 5:
            with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write('{"step": 16, "epo')
            full()

    kept = RunFolder.metrics
    monkeypatch.setattr(RunFolder, "metrics", half)
    with pytest.raises(MachineError):
        go("broken")
    monkeypatch.undo()
    go("broken")
    assert rig.differences(tmp_path / "straight", tmp_path / "broken") == []


def test_a_plugin_that_ends_the_program_is_named_too(go, tmp_path):
    class Leaves:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 6:
                raise SystemExit(7)

    with pytest.raises(RunError, match="SystemExit at update 6"):
        go("run", Leaves())
    assert rig.report_of(tmp_path / "run")["status"] == "failed"
