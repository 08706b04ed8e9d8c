"""``[run] processes``: one command in several processes, and one message of whatever goes wrong in any of them."""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.cli import main
from trainkit.distributed.failed import ProcessFailed
from trainkit.distributed.notes import Ending
from trainkit.errors import MachineError
from trainkit.followers import leading, wanted
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.processes.launcher import share_of_cores
from trainkit.recipe import Recipe, recipe_from_text

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are ended as on Linux")
PARTS = str(Path(__file__).with_name("trainkit_failing_parts.py"))
RECIPE = """
recipe = 1
logger = []
[run]
duration = "6ba"
processes = 2
threads = 1
save_every = "2ba"
[data]
use = "digits"
batch_size = 20
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""
WITHOUT = ["reports"]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins([PARTS], WITHOUT)


def made(plugins: Plugins, *changes: str) -> Recipe:
    return recipe_from_text(RECIPE, "recipe.toml", changes, plugins)


def test_a_failure_of_one_process_is_the_failure_of_the_command_and_told_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TRAINKIT_RESTARTS", "1")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + '[[callback]]\nuse = "fails_alone"\n')
    before = dict(os.environ)
    words = [str(path), "--run-dir", str(tmp_path / "run"), "--json", "-p", PARTS, "--without", "reports"]
    with warnings.catch_warnings():  # torch's agent leaves files open that it has for what processes print
        warnings.simplefilter("ignore", ResourceWarning)
        assert main(words) == 4
        gc.collect()
    printed = capfd.readouterr()
    assert json.loads(printed.out) == {
        "error": "process 1 of 2: the disk of this process is gone",
        "exit_code": 4,
        "folder": str(tmp_path / "run"),
    }
    assert printed.err.count("the disk of this process is gone") == 1
    assert "Traceback" not in printed.err
    assert "started again" not in printed.err
    assert "ChildFailedError" not in printed.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["status"] == "failed"
    assert report["reason"] == "process 1 of 2 has failed: the disk of this process is gone"
    assert report["steps"] >= 2
    assert dict(os.environ) == before


def test_a_run_of_a_program_starts_the_others_and_has_the_result_of_one_process(plugins, tmp_path):
    two = launch(made(plugins), plugins, folder=tmp_path / "two")
    one = launch(made(plugins, "run.processes=1"), plugins, folder=tmp_path / "one")
    assert (two.status, two.steps) == ("finished", 6)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-5)
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["processes"] == 2
    assert not torch.distributed.is_initialized()


def test_what_a_process_that_was_started_says_is_the_failure(plugins, tmp_path):
    recipe = made(plugins, 'callback=[{use="fails_alone",update=2}]')
    with pytest.raises(ProcessFailed, match="process 1 of 2: the disk of this process is gone") as failed:
        launch(recipe, plugins, folder=tmp_path / "run")
    assert failed.value.exit_code == 4
    assert not torch.distributed.is_initialized()


def test_nothing_is_started_where_a_group_is_there_or_one_process_is_enough(plugins, monkeypatch):
    from trainkit.distributed import ONE, Group

    assert wanted(made(plugins), ONE) == 2
    assert wanted(made(plugins, "run.processes=1"), ONE) == 1
    assert wanted(made(plugins), Group(1, 4)) == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun's own number counts")
    assert wanted(made(plugins), ONE) == 1
    with leading(made(plugins), plugins, ONE) as group:
        assert group is ONE


def test_processes_without_a_device_are_refused_before_any_is_started(plugins, monkeypatch):
    from trainkit.distributed import ONE

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("subprocess.Popen", lambda *args, **more: pytest.fail("a process was started"))
    with (
        pytest.raises(MachineError, match="there are 1 CUDA devices here, and process 2 has none"),
        leading(made(plugins, 'run.device="cuda"'), plugins, ONE),
    ):
        pass


@pytest.mark.parametrize("value", ["often", "-1", "2.5"])
def test_a_number_of_restarts_that_is_none_is_named(value, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRAINKIT_RESTARTS", value)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    assert main([str(path), "--run-dir", str(tmp_path / "run"), "--without", "reports"]) == 3
    assert f"TRAINKIT_RESTARTS={value}: it is how often" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_cores_are_shared_out_and_each_process_has_one(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert [share_of_cores(number) for number in (1, 3, 8, 100)] == [8, 2, 1, 1]


def test_the_agent_and_its_processes_meet_at_one_store_as_often_as_they_are_started():
    from trainkit.processes.rendezvous import OneAgent

    handler = OneAgent()
    first, again = handler.next_rendezvous(), handler.next_rendezvous()
    assert handler.use_agent_store
    assert (first.rank, first.world_size) == (again.rank, again.world_size) == (0, 1)
    met = first.bootstrap_store_info
    assert met == again.bootstrap_store_info
    first.store.set("said", "by the attempt before")
    assert torch.distributed.TCPStore(met.master_addr, met.master_port).get("said") == b"by the attempt before"


# ------------------------------------------------------------ one of several that somebody has started


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let a command believe that it is one of several processes; gives what it left."""
    place = tmp_path / "run_x" / "attempt_0" / "1"
    place.mkdir(parents=True)
    settings = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
    settings |= {"MASTER_PORT": "1", "TORCHELASTIC_ERROR_FILE": str(place / "error.json")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trainkit.distributed.notes._FIRST_S", 0.0)
    from trainkit.cli import Session
    from trainkit.processes.worker import Worker

    def act(*words: str) -> tuple[int, Ending]:
        session = Session(list(words))
        session.worker = Worker(session)
        code = session.worker.act()
        return code, Ending(**json.loads((place / "trainkit.json").read_text()))

    return act


SEARCH = '[search]\nuse = "random"\ntrials = 2\nobjective = "val.loss"\n[search.space]\n"optimizer.lr" = [0.1, 0.2]\n'


@pytest.mark.parametrize(
    ("more", "words", "message"),
    [
        (SEARCH, [], "the trials of a search are started by one process, and torchrun has started 2"),
        ("", ["--seeds", "2"], "the runs of --seeds and --folds are started by one process"),
        ("", ["--on", "local"], "runs that --on trains elsewhere are started by one process"),
    ],
)
def test_what_starts_processes_itself_is_refused_under_torchrun(started, tmp_path, capsys, more, words, message):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE + more)
    code, ending = started("run", str(path), *words, "--without", "reports")
    assert (code, ending.code, ending.rank) == (2, 2, 1)
    assert ending.message.startswith(message)
    assert capsys.readouterr().err.startswith(f"process 1 of 2:\ntrainkit: {message}")


@pytest.mark.parametrize("verb", ["probe", "bench", "evaluate"])
def test_other_verbs_are_for_one_process(started, capsys, verb):
    code, ending = started(verb, "recipe.toml")
    assert code == 2
    assert ending.message == f"{verb} is for one process, and this is one of 2; start it without torchrun"


@pytest.mark.parametrize("gone", [False, True])
def test_a_failure_is_told_by_whoever_started_the_processes_while_he_lives(started, capsys, monkeypatch, gone):
    monkeypatch.setenv("TRAINKIT_LAUNCHER_TELLS", "trainkit evaluate")
    parents = iter([11])
    monkeypatch.setattr("os.getppid", lambda: next(parents, 1 if gone else 11))
    assert started("evaluate", "recipe.toml")[0] == 2
    assert ("is for one process" in capsys.readouterr().err) is gone


def test_a_recipe_on_standard_input_is_for_one_process(started):
    code, ending = started("run", "-")
    assert code == 2
    assert "standard input is read by one process" in ending.message


def test_a_recipe_that_is_wrong_leaves_its_problems(started, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("sgd", "sdg"))
    code, ending = started("run", str(path))
    assert code == 2
    assert ending.problems[0]["message"] == "no optimizer named 'sdg'"
