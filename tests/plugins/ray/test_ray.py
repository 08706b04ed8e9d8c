"""Trials on a Ray cluster of two nodes: equal results, dead workers, dead nodes, a cluster that goes away."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="ray is not installed: pip install 'trainkit[ray]'")

from trainkit import Job, MachineError, Measured, Outcome, Site, UsageError, open_plugins, run_job
from trainkit.cli import main
from trainkit_ray import cluster as connection
from trainkit_ray import ray as factory
from trainkit_ray import worker
from trainkit_ray.driver import RayExecutor

PARTS = str(Path(__file__).parent / "trainkit_ray_parts.py")
RECIPE = """\
recipe = 1
logger = []
[run]
duration = "4ep"
device = "cpu"
threads = 1
[data]
use = "synthetic"
samples = 120
features = [4]
batch_size = 16
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
[[callback]]
use = "held"
"""
QUIET = {
    "object_store_memory": 80 << 20,
    "include_dashboard": False,
    # Processes that nobody here asks anything, and that take a second each to start.
    "include_log_monitor": False,
    "no_monitor": True,
    # A dead node is noticed after 3 seconds instead of 15.
    # No worker is begun before there is something for it.
    "_system_config": {
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 3,
        "prestart_worker_first_driver": False,
    },
}


class TwoNodes:
    """A cluster of a head and one more node, with two cores each, and the executor that several tests share.

    Processes are what costs time here: four for a node, one for each worker, of which each imports torch. So there is
    one cluster, whose second node dies in one test and whose head in the last, and workers are taken over.
    """

    def __init__(self, made: Any, client: str) -> None:
        self.made, self.client = made, client
        self.told: list[tuple[int, float]] = []
        self._pair: RayExecutor | None = None

    @property
    def address(self) -> str:
        return str(self.made.address)

    def pair(self, folder: Path) -> RayExecutor:
        """An executor with a worker on each node, the one that is there if there is one."""
        if self._pair is None:
            found = factory(cpus=2)
            assert isinstance(found, RayExecutor)
            self._pair = found
            found.open(Site(folder, modules=[PARTS], measured=self._measured, recipe=RECIPE, where=self.address))
        return self._pair

    def close(self) -> None:
        """End the executor that is shared: others need the room, and another way to the cluster."""
        if self._pair is not None:
            self._pair.close()
            self._pair = None

    def _measured(self, job: Job, measured: Measured) -> str:
        self.told.append((job.trial, round(measured.trained, 6)))
        return "hopeless" if job.trial == 2 and measured.trained > 0.4 else ""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """The cluster of all tests."""
    from ray.cluster_utils import Cluster

    # The head ends the process that made it at a SIGTERM, which other tests send to themselves.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray leaves the log of its clients' server open
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "ray_client_server_port": port, **QUIET})
    two = TwoNodes(made, f"ray://127.0.0.1:{port}")
    try:
        made.add_node(num_cpus=2, object_store_memory=80 << 20)
        yield two
        two.close()
    finally:
        made.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def opened(cluster: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RayExecutor]]:
    """Opens executors of a test's own on the cluster, and closes them at the end."""
    cluster.close()
    made: list[RayExecutor] = []

    def opened(address: str = "", say: Any = print, recipe: str = RECIPE, where: str = "", **settings: Any) -> Any:
        monkeypatch.setenv("RAY_ADDRESS", address or cluster.address)
        executor = factory(**settings)
        assert isinstance(executor, RayExecutor)
        made.append(executor)
        executor.open(Site(tmp_path, modules=[PARTS], say=say, recipe=recipe, where=where))
        return executor

    yield opened
    for executor in made:
        executor.close()


def job(folder: Path, number: int, **changes: Any) -> Job:
    recipe = RECIPE.replace("lr = 0.1", f"lr = {0.1 / (number + 1)}") + f'file = "{folder / "hold"}"\n'
    return Job(number, 0, recipe, folder / f"{number:04}", **changes)


def rest(executor: RayExecutor, count: int, seconds: float = 120.0) -> dict[int, Outcome]:
    """Wait until so many jobs have come to rest."""
    outcomes: dict[int, Outcome] = {}
    until = time.monotonic() + seconds
    while len(outcomes) < count:
        assert time.monotonic() < until, outcomes
        outcomes |= {done.trial: outcome for done, outcome in executor.wait(0.5)}
    return outcomes


def pid_of(executor: RayExecutor, folder: Path) -> int:
    """The process that holds a run at its update."""
    until = time.monotonic() + 120
    while not (folder / "pid").exists() or not (folder / "pid").read_text():
        assert time.monotonic() < until
        assert not executor.wait(0.1)
    return int((folder / "pid").read_text())


def figures(outcome: Outcome) -> dict[str, float]:
    return {name: value for name, value in outcome.metrics.items() if name != "seconds"}


def test_trials_are_those_of_this_process_and_evaluations_are_told(
    cluster: TwoNodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    executor, told = cluster.pair(tmp_path), cluster.told
    assert executor.slots == 2
    jobs = [job(tmp_path, 0), job(tmp_path, 1, until=0.5), job(tmp_path, 2, watched=True)]
    for one in jobs[:2]:
        executor.submit(one)
    outcomes = rest(executor, 2)
    executor.submit(jobs[2])
    outcomes |= rest(executor, 1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [outcomes[number].status for number in range(3)] == ["done", "paused", "pruned"]
    assert "hopeless" in outcomes[2].message
    assert [trained for number, trained in told if number == 0] == [0.25, 0.5, 0.75, 1.0]
    assert [trained for number, trained in told if number == 2] == [0.25, 0.5]
    plugins = open_plugins([PARTS])
    for one in jobs[:2]:
        alone = run_job(dataclasses.replace(one, folder=tmp_path / f"alone-{one.trial}"), plugins, lambda *_: "")
        assert figures(alone) == figures(outcomes[one.trial])
    executor.submit(job(tmp_path, 1))  # goes on from where it paused
    assert rest(executor, 1)[1].steps == outcomes[0].steps
    printed = capfd.readouterr()
    assert "ray" not in (printed.out + printed.err).lower()


def test_a_dead_worker_costs_its_job(cluster: TwoNodes, tmp_path: Path) -> None:
    executor = cluster.pair(tmp_path)
    (tmp_path / "hold").touch()
    executor.submit(job(tmp_path, 0))
    os.kill(pid_of(executor, tmp_path / "0000"), signal.SIGKILL)
    killed = rest(executor, 1)[0]
    assert killed.status == "killed"
    assert killed.message.startswith("its worker died: ")
    (tmp_path / "hold").unlink()
    executor.submit(job(tmp_path, 0))
    assert rest(executor, 1)[0].status == "done"


def test_a_node_that_dies_costs_nothing_but_time_and_runs_hear_a_wish_to_stop(
    cluster: TwoNodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = cluster.pair(tmp_path)
    hold = tmp_path / "hold"
    hold.touch()
    for number in (0, 1):
        executor.submit(job(tmp_path, number))
    for number in (0, 1):
        pid_of(executor, tmp_path / f"{number:04}")
    capfd.readouterr()
    (node,) = cluster.made.worker_nodes
    cluster.made.remove_node(node, allow_graceful=False)
    until = time.monotonic() + 120
    while not (said := capfd.readouterr()).out:
        assert not executor.wait(0.5)  # no node has room then; the job waits for one
        assert time.monotonic() < until
    assert "a node of the Ray cluster is gone; trial " in said.out
    assert said.out.endswith(" goes on elsewhere from its newest checkpoint\n")
    assert "raylet" not in said.out + said.err
    hold.unlink()
    outcomes = rest(executor, 2)  # by the worker that is left
    assert [outcomes[number].status for number in (0, 1)] == ["done", "done"]
    # Running jobs are stopped with a checkpoint, and waiting ones given back.
    hold.touch()
    executor.submit(job(tmp_path, 2))
    pid_of(executor, tmp_path / "0002")
    executor.submit(job(tmp_path, 3))
    executor.stop()
    executor.submit(job(tmp_path, 4))
    outcomes = rest(executor, 3)
    assert [outcomes[number].status for number in (2, 3, 4)] == ["interrupted"] * 3
    assert outcomes[2].steps < 24
    assert list((tmp_path / "0002" / "checkpoints").glob("step-*"))
    assert not (tmp_path / "0003").exists()
    token = executor._told.token
    assert token.exists()
    cluster.close()
    assert not token.exists()


def test_what_a_node_lacks_is_said_before_the_first_trial(opened: Any, tmp_path: Path) -> None:
    executor = opened(workers=1)
    told = executor._told
    executor._told = dataclasses.replace(told, versions=told.versions | {"torch": "1.0.0"})
    executor.submit(job(tmp_path, 0))
    with pytest.raises(MachineError, match=r"has torch .*, and the search is run with torch 1\.0\.0\n  install torch"):
        rest(executor, 1)


def lines(folder: Path) -> list[dict[str, Any]]:
    """What a run has measured, without the time that it took."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "time"} for line in found]


def test_no_room_and_no_cluster(opened: Any) -> None:
    with pytest.raises(MachineError, match=r"the Ray cluster ray://127\.0\.0\.1:9 cannot be reached: .* refused"):
        opened(address="ray://127.0.0.1:9")
    with pytest.raises(MachineError, match=r"cluster 127\.0\.0\.1:9 cannot be reached: .* refused\n.* --on ray://127"):
        opened(where="127.0.0.1:9")
    with pytest.raises(MachineError, match="no node of the Ray cluster has 64 cores and 0 GPUs"):
        opened(cpus=64)
    with pytest.raises(MachineError, match="no node of the Ray cluster has 6 cores and 0 GPUs"):
        opened(recipe=RECIPE.replace("threads = 1", "threads = 2\nprocesses = 3"))
    with pytest.raises(UsageError, match="--on nowhere: it is no address of a Ray cluster"):
        opened(where="nowhere")
    assert set(worker.versions()) == {"trainkit", "torch", "Python"}


def test_a_signal_that_meets_rays_handler_is_given_to_the_one_that_was_there() -> None:
    came: list[int] = []

    def as_ray_does() -> None:
        with connection._own_signals():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with pytest.raises(SystemExit):
            as_ray_does()
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_of_two_processes_is_trained_on_the_cluster_that_the_command_line_names(
    cluster: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.close()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("r.toml").write_text(RECIPE)
    common = ["r.toml", "-p", PARTS, "--without", "reports"]
    assert main([*common, "-q", "--run-dir", "alone"]) == 0
    capfd.readouterr()
    away = ["run.processes=2", "--json", "--run-dir", "away", "--on", cluster.client]
    assert main([*common, *away]) == 0
    printed = capfd.readouterr()
    told = json.loads(printed.out)
    alone = json.loads(Path("alone", "report.json").read_text())
    assert told["folder"] == "away"
    assert told["metrics"]["test.loss"] == pytest.approx(alone["metrics"]["test.loss"], rel=1e-4)
    assert json.loads(Path("away", "environment.json").read_text())["processes"] == 2
    assert "ray/" not in printed.err  # nothing that Ray itself prints
    assert int(Path("away", "pid").read_text()) != os.getpid()


def test_a_node_that_does_not_see_the_study_has_its_runs_carried_until_the_cluster_goes_away(
    cluster: TwoNodes, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    executor = opened(workers=1, say=said.append)
    executor._told = dataclasses.replace(executor._told, token=Path("/nowhere/study/.ray-0"))
    executor.submit(job(tmp_path, 0, until=0.5))
    assert rest(executor, 1)[0].status == "paused"
    held = tmp_path / "0000"
    paused = sorted(path.name for path in (held / "checkpoints").iterdir())
    assert int((held / "pid").read_text()) != os.getpid()
    executor.submit(job(tmp_path, 0))
    executor.submit(job(tmp_path, 1, parent=held))
    outcomes = rest(executor, 2)
    assert [outcomes[number].status for number in (0, 1)] == ["done", "done"], outcomes
    plugins = open_plugins([PARTS])
    alone = run_job(dataclasses.replace(job(tmp_path, 0), folder=tmp_path / "alone"), plugins, lambda *_: "")
    assert figures(alone) == figures(outcomes[0])
    here = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {path.name for path in held.iterdir()} == here
    assert lines(held) == lines(tmp_path / "alone")
    newest = max((tmp_path / "alone" / "checkpoints").iterdir()).name
    both = [
        (folder / "checkpoints" / newest / "tensors.safetensors").read_bytes() for folder in (held, tmp_path / "alone")
    ]
    assert both[0] == both[1]
    assert paused
    assert max(path.name for path in (held / "checkpoints").iterdir()) > paused[-1]
    assert str(held) in (tmp_path / "0001" / "history.jsonl").read_text()  # not where a node had it for a while
    assert len(said) == 1
    assert said[0].endswith("run folders are sent to and fro")
    assert not list(Path(tempfile.gettempdir()).glob(f"{worker.OWN}{(held / 'pid').read_text()}-*"))
    # Its head dies while a run is held there; the run's folder is left as far as it had come.
    monkeypatch.setattr(connection, "LOOK_S", 0.3)
    (tmp_path / "hold").touch()
    executor.submit(job(tmp_path, 2))
    pid_of(executor, tmp_path / "0002")
    cluster.made.head_node.kill_gcs_server()
    with pytest.raises(MachineError, match=r"is gone\n  nothing is lost: .* trainkit resume FOLDER") as caught:
        rest(executor, 1)
    assert caught.value.exit_code == 3
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 40  # LEAVE_S, and what a crowded machine adds
    assert (tmp_path / "0002" / "recipe.toml").exists()
