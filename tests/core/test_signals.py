"""Signals: where one meets a run, what it saves, and that the run goes on as if none had come."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.soak import rig
from tests.soak import signals as soak
from trainkit import Run, TrainkitError, hookimpl, signals
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

if os.name != "posix":
    pytest.skip("signals as posix has them", allow_module_level=True)


@pytest.fixture(scope="module")
def installed() -> Plugins:
    return Plugins()


@pytest.fixture
def go(tmp_path: Path, installed: Plugins) -> Any:
    """Run the soak's recipe in a folder, with listeners; continued if there is something to continue."""
    recipe = load_recipe(rig.write(tmp_path / "r.toml", data={"eval_batch_size": 4}), [], installed)

    def go(name: str, *listeners: object) -> Any:
        return launch(recipe, installed, folder=tmp_path / name, listeners=listeners, resume=True)

    return go


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, installed: Plugins) -> Path:
    """The folder of the run that nothing interrupts."""
    top = tmp_path_factory.mktemp("straight")
    recipe = load_recipe(rig.write(top / "r.toml", data={"eval_batch_size": 4}), [], installed)
    launch(recipe, installed, folder=top / "straight")
    return top / "straight"


class During:
    """Sends a signal within the evaluation at an update, between its batches."""

    def __init__(self, step: int, split: str = "val", number: int = signal.SIGTERM) -> None:
        self.step, self.split, self.number = step, split, number
        self.batches = 0

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Any:
        if run.step != self.step or split != self.split:
            return (yield)
        feed, run.feed = run.feed, self._counted(run.feed)
        try:
            return (yield)
        finally:
            run.feed = feed

    def _counted(self, feed: Any) -> Any:
        during = self

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(feed, name)

            def evaluate(self, split: str) -> Any:
                for batch in feed.evaluate(split):
                    during.batches += 1
                    if during.batches == 2:
                        os.kill(os.getpid(), during.number)
                    yield batch

        return Counted()


@pytest.mark.parametrize("step", [4, 8, 16])  # within an epoch, at its end, and where a checkpoint is due too
def test_an_evaluation_is_cut_short_and_made_when_the_run_goes_on(go, tmp_path, step, straight):
    cut = During(step)
    report = go("broken", cut)
    assert (report.status, report.reason, report.steps) == ("interrupted", "signal SIGTERM", step)
    assert cut.batches == 2, "no batch is measured after the signal"
    assert go("broken").weights_sha256 == rig.report_of(straight)["weights_sha256"]
    assert rig.differences(straight, tmp_path / "broken") == []


def test_an_evaluation_that_is_cut_short_twice_is_still_made(go, tmp_path, straight):
    for _ in range(2):
        assert go("broken", During(8)).status == "interrupted"
    go("broken")
    assert rig.differences(straight, tmp_path / "broken") == []


def test_the_last_evaluation_and_the_test_may_end_by_themselves(go, tmp_path):
    assert go("val", During(24)).status == "finished"
    assert go("test", During(24, "test")).status == "finished"
    assert rig.differences(tmp_path / "val", tmp_path / "test") == []


@pytest.mark.parametrize("split", ["val", "test"])
def test_they_are_cut_short_where_they_take_long(go, tmp_path, monkeypatch, split, straight):
    monkeypatch.setattr(signals, "LEFT_OVER_S", 0.0)
    report = go("broken", During(24, split))
    assert (report.status, report.steps) == ("interrupted", 24)
    assert go("broken").status == "finished"
    assert rig.differences(straight, tmp_path / "broken") == []


def test_a_signal_in_the_last_update_finds_a_finished_run(go, tmp_path, straight):
    class Late:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == run.total_updates:
                os.kill(os.getpid(), signal.SIGINT)

    report = go("late", Late())
    assert (report.status, report.reason) == ("finished", "all planned updates made")
    assert "test.loss" in report.metrics
    assert rig.differences(straight, tmp_path / "late") == []


def test_a_signal_while_the_run_closes_changes_nothing(go, tmp_path):
    class Late:
        @hookimpl
        def trainkit_run_end(self):
            os.kill(os.getpid(), signal.SIGTERM)

    assert go("late", Late()).status == "finished"
    assert rig.report_of(tmp_path / "late")["status"] == "finished"


def test_work_before_the_first_update_ends_at_once_whatever_holds_exceptions(go, tmp_path):
    class Slow:
        @hookimpl
        def trainkit_prepare_model(self):
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            for _ in range(600):
                try:
                    time.sleep(0.05)
                except Exception:  # what a plugin may write around its download
                    continue

    begun = time.monotonic()
    with pytest.raises(TrainkitError, match="stopped by SIGTERM before the first update") as raised:
        go("slow", Slow())
    assert raised.value.exit_code == 75
    assert time.monotonic() - begun < 15  # of 30
    assert not (tmp_path / "slow").exists()


def test_an_update_that_the_signal_spoilt_is_no_failure_and_no_checkpoint(go, tmp_path, straight):
    class Spoilt:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 7:
                os.kill(os.getpid(), signal.SIGINT)
                raise RuntimeError("the compiler died of the same Ctrl-C")

    report = go("broken", Spoilt())
    assert report.status == "interrupted"
    assert report.reason.startswith("signal SIGINT; the update that it met was not made")
    assert rig.whole_checkpoints(tmp_path / "broken") == []
    assert max(int(path.name[5:]) for path in (tmp_path / "broken" / "checkpoints").glob("step-*")) == 5
    go("broken")
    assert rig.differences(straight, tmp_path / "broken") == []


def test_what_the_embedding_program_had_set_is_called_too_and_put_back(go):
    called: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
    own = signal.getsignal(signal.SIGTERM)
    try:
        assert go("run", During(4)).status == "interrupted"
        assert called == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_hangup_stops_the_run_unless_nohup_asked_for_none(go):
    assert go("run", During(4, number=signal.SIGHUP)).reason == "signal SIGHUP"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert go("nohup", During(4, number=signal.SIGHUP)).status == "finished"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closing_terminal_hangs_up_twice_and_is_one_signal(go):
    class Twice:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 3:
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGHUP)

    assert go("run", Twice()).reason == "signal SIGHUP"


def test_a_process_that_is_forked_from_the_run_dies_of_a_signal_as_any_other():
    with signals.Signals():
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_six_signals_at_random_instants(monkeypatch):
    monkeypatch.setattr(soak, "PROCESS_EVERY", sys.maxsize)
    assert soak.check(6, seed=1) == []
