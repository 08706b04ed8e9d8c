"""Groups of processes that are killed, asked to stop, or meet what one of them sees alone: they end together, alike."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.soak import group_kills
from tests.soak.agent import GroupHome
from tests.soak.jobs import Home, lines_of
from tests.soak.zygote import Zygote
from trainkit.distributed.attempts import scratch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
STOPPED = 75


@pytest.fixture(autouse=True, scope="module")
def zygote() -> Iterator[Zygote]:
    """One process that forks all runs: each would import torch for itself."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def home(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> GroupHome:
    """A run of two processes that nothing has interrupted."""
    return GroupHome(tmp_path_factory.mktemp("home"), zygote, 2, save_every="2ba")


def report(home: Home, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home.path / name / "report.json").read_text(encoding="utf-8"))
    return found


def with_act(act: str, rank: int, update: int) -> list[str]:
    """Words that let one process do something; the callback that the recipe has stays."""
    return ["-p", "tests.soak.ranked", "callback=" + TABLES.format(act=act, rank=rank, update=update)]


TABLES = '[{{use="ema",decay=0.9}},{{use="ranked",act="{act}",rank={rank},update={update}}}]'


def test_groups_of_which_any_process_is_killed_at_any_instant_end_as_if_none_had_been():
    assert group_kills.check(4, 1, kinds=["two"], duration="3ep") == []


def test_a_signal_that_one_process_gets_stops_all_after_the_same_update_and_nothing_is_lost(home):
    agent = home.agent("asked", *with_act("term", 1, 3))
    assert agent.run() == [STOPPED, STOPPED]
    assert report(home, "asked")["status"] == "interrupted"
    assert agent.run() == [0, 0]
    assert home.differs("asked") == ""


def test_one_within_an_evaluation_cuts_it_short_in_all(home):
    agent = home.agent("measuring", *with_act("term in val", 1, 8))
    assert agent.run() == [STOPPED, STOPPED]
    assert [line["step"] for line in lines_of(home.path / "measuring") if line["split"] == "val"] == [4]
    assert agent.run() == [0, 0]
    assert home.differs("measuring") == ""


def test_one_within_the_last_measurement_leaves_the_run_finished_and_it_is_not_begun_again(home):
    agent = home.agent("measured", *with_act("term in test", 1, 24))
    assert agent.run() == [0, 0]
    assert home.differs("measured") == ""
    written = (home.path / "measured" / "report.json").stat().st_mtime_ns
    assert agent.run() == [0, 0]  # as where a process is killed on its way out
    assert (home.path / "measured" / "report.json").stat().st_mtime_ns == written


def test_a_reason_to_stop_that_one_process_has_is_one_for_all(home):
    agent = home.agent("enough", "-p", "tests.soak.ranked", 'callback=[{use="stops",rank=1,update=7}]')
    assert agent.run() == [0, 0]
    assert (report(home, "enough")["reason"], report(home, "enough")["steps"]) == ("process 1 has had enough", 7)
    assert agent.run() == [0, 0]  # it is over, and does not go on where it is started again
    assert report(home, "enough")["steps"] == 7


def test_limits_of_time_and_of_patience_end_all_processes_alike(home):
    agent = home.agent("late", 'callback=[{use="time_limit",minutes=0.0001}]')
    assert agent.run() == [0, 0]
    assert report(home, "late")["status"] == "stopped"
    assert report(home, "late")["steps"] == 1
    agent = home.agent("patient", 'callback=[{use="early_stop",monitor="val.loss",patience=0,min_delta=9.0}]')
    assert agent.run() == [0, 0]
    assert report(home, "patient")["status"] == "stopped"
    assert report(home, "patient")["steps"] == 8


def test_what_is_not_finite_in_one_process_is_left_out_in_all(home):
    agent = home.agent("left-out", "run.nonfinite=skip", *with_act("nan", 1, 5))
    assert agent.run() == [0, 0]
    assert (report(home, "left-out")["status"], report(home, "left-out")["steps"]) == ("finished", 23)


def test_all_processes_go_back_together_where_one_has_met_what_is_not_finite(home):
    agent = home.agent("back", "run.nonfinite=rollback", *with_act("nan", 1, 7))
    assert agent.run() == [0, 0]
    assert report(home, "back")["steps"] == 24
    assert "goes back to update 6, with learning rates times 0.5 (rollback 1 of 3)" in agent.told()


def test_a_disk_that_is_full_ends_all_processes_and_costs_no_checkpoint(home):
    agent = home.agent("full", "run.save_in_background=false")
    refuse = {"save": 3, "call": 1, "number": "ENOSPC", "for_ever": True}
    codes = agent.run({0: {"refuse": refuse}})
    assert codes[0] == 3
    assert codes[1] not in (0, None)
    assert "could not be written: No space left on device" in agent.told()
    assert "Traceback" not in agent.told()
    assert agent.run() == [0, 0]
    assert home.differs("full") == ""


def test_other_numbers_of_processes_continue_the_same_curve(home):
    exact = ["run.precision=float64"]
    words = [str(home.recipe), "--run-dir", str(home.path / "alone"), "-q", *exact]
    assert home.zygote.run(words, log=str(home.path / "alone.txt")) == 0
    begun = home.agent("several", *exact, *with_act("kill", 1, 9), size=2)
    codes = begun.run()
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)
    more = home.agent("several", *exact, "--resume", *with_act("term", 2, 15), size=3)
    assert more.run() == [STOPPED] * 3
    words = [str(home.path / "several"), "-q", *exact, 'callback=[{use="ema",decay=0.9}]']
    assert home.zygote.run(["resume", *words], log=str(home.path / "last.txt")) == 0
    one, other = lines_of(home.path / "alone"), lines_of(home.path / "several")
    assert [(line["step"], line["split"]) for line in one] == [(line["step"], line["split"]) for line in other]
    for line, line_too in zip(one, other, strict=True):
        for name in line.keys() - {"split"}:
            assert line_too[name] == pytest.approx(line[name], rel=1e-6, abs=1e-9), (line["step"], name)
    entries = [json.loads(text) for text in (home.path / "several" / "history.jsonl").read_text().splitlines()]
    assert [entry["processes"] for entry in entries[1:]] == [3, 1]
    assert [entry["strategy"] for entry in entries[1:]] == ["ddp", None]
    log = (home.path / "several" / "log.txt").read_text()
    assert "3 processes go on where 2 trained: figures agree with theirs to rounding" in log
    assert "1 process goes on where 3 trained" in log


def test_folders_that_killed_processes_have_left_go_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f"{gone.pid}-old", f"{gone.pid}-young", f"{os.getpid()}-alive", "nobody-knows"):
        (tmp_path / f"trainkit-rank-{name}").mkdir()
    for name in (f"{gone.pid}-old", f"{os.getpid()}-alive", "nobody-knows"):
        os.utime(tmp_path / f"trainkit-rank-{name}", (1, 1))
    with scratch() as own:
        assert own.parent == tmp_path
        left = {path.name.removeprefix("trainkit-rank-") for path in tmp_path.iterdir() if path != own}
    assert left == {f"{gone.pid}-young", f"{os.getpid()}-alive", "nobody-knows"}
    assert not own.exists()


def test_torchrun_starts_all_again_and_the_run_goes_on_in_its_folder(home):
    words = ["-m", "torch.distributed.run", "--max-restarts", "1", "--nproc-per-node", "2", "-m", "trainkit"]
    root, runs = Path(__file__).parents[2], home.path / "runs"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRAINKIT_RUNS": str(runs), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, *words, str(home.recipe), *with_act("kill", 1, 9)],
        env=environment,
        cwd=home.path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folders = list(runs.iterdir())
    assert len(folders) == 1
    assert home.differs(f"runs/{folders[0].name}") == ""
    entries = [json.loads(text) for text in (folders[0] / "history.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "resume"]
