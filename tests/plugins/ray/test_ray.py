"""Trials on a Ray cluster of two nodes: equal results, dead workers, dead nodes, a cluster that goes away."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="ray is not installed: pip install 'trainkit[ray]'")

from trainkit import Job, MachineError, Measured, Outcome, Site, open_plugins, run_job
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
    # A dead node is noticed after 3 seconds instead of 15.
    "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 3},
}


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """A cluster of a head and one more node, with one core each."""
    from ray.cluster_utils import Cluster

    # The head ends the process that made it at a SIGTERM, which other tests send to themselves.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **QUIET})
    try:
        made.add_node(num_cpus=1, object_store_memory=80 << 20)
        yield made
    finally:
        made.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Any]:
    """The cluster of tests that leave it as they found it."""
    with two_nodes() as made:
        yield made


@pytest.fixture
def own_cluster() -> Iterator[Any]:
    """The cluster of one test, which changes it."""
    with two_nodes() as made:
        yield made


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Any:
    """A test's own cluster where it asks for one, else the shared one."""
    return request.getfixturevalue("own_cluster" if "own_cluster" in request.fixturenames else "shared_cluster")


@pytest.fixture
def opened(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RayExecutor]]:
    """Opens executors on the cluster, and closes them at the end."""
    made: list[RayExecutor] = []

    def opened(measured: Any = lambda job, measured: "", address: str | None = None, **settings: Any) -> RayExecutor:
        monkeypatch.setenv("RAY_ADDRESS", address or cluster.address)
        executor = factory(**settings)
        assert isinstance(executor, RayExecutor)
        made.append(executor)
        executor.open(Site(tmp_path, modules=[PARTS], measured=measured))
        return executor

    yield opened
    for executor in made:
        executor.close()


def job(folder: Path, number: int, **changes: Any) -> Job:
    recipe = RECIPE.replace("lr = 0.1", f"lr = {0.1 / (number + 1)}")
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
    opened: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    told: list[tuple[int, float]] = []

    def measured(job: Job, measured: Measured) -> str:
        told.append((job.trial, round(measured.trained, 6)))
        return "hopeless" if job.trial == 2 and measured.trained > 0.4 else ""

    executor = opened(measured)
    assert executor.slots == 2
    jobs = [job(tmp_path, 0), job(tmp_path, 1, until=0.5), job(tmp_path, 2, watched=True)]
    executor.submit(jobs[0])
    executor.submit(jobs[1])
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
    executor.close()
    printed = capfd.readouterr()
    assert "ray" not in (printed.out + printed.err).lower()
    assert not list(tmp_path.glob(".ray-*"))


def test_a_dead_worker_costs_its_job_and_the_next_one_hears_a_wish_to_stop(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    executor = opened(workers=1)
    executor.submit(job(tmp_path, 0))
    os.kill(pid_of(executor, tmp_path / "0000"), signal.SIGKILL)
    killed = rest(executor, 1)[0]
    assert killed.status == "killed"
    assert killed.message.startswith("its worker died: ")
    (tmp_path / "hold").unlink()
    executor.submit(job(tmp_path, 0))
    assert rest(executor, 1)[0].status == "done"
    # Running jobs are stopped with a checkpoint, and waiting ones given back.
    (tmp_path / "hold").touch()
    executor.submit(job(tmp_path, 1))
    pid_of(executor, tmp_path / "0001")
    executor.submit(job(tmp_path, 2))
    executor.stop()
    executor.submit(job(tmp_path, 3))
    (tmp_path / "hold").unlink()
    outcomes = rest(executor, 3)
    assert [outcomes[number].status for number in (1, 2, 3)] == ["interrupted"] * 3
    assert outcomes[1].steps < 24
    assert list((tmp_path / "0001" / "checkpoints").glob("step-*"))
    assert not (tmp_path / "0002").exists()


def test_what_a_node_lacks_is_said_before_the_first_trial(opened: Any, tmp_path: Path) -> None:
    executor = opened(workers=1)
    told = executor._told
    executor._told = dataclasses.replace(told, versions=told.versions | {"torch": "1.0.0"})
    executor.submit(job(tmp_path, 0))
    with pytest.raises(MachineError, match=r"has torch .*, and the search is run with torch 1\.0\.0\n  install torch"):
        rest(executor, 1)
    executor.close()
    executor = opened(workers=1)
    executor._told = dataclasses.replace(told, token=Path("/nowhere/study/.ray-0"))
    executor.submit(job(tmp_path, 0))
    with pytest.raises(MachineError, match="does not see the study folder /nowhere/study\n  put it on storage"):
        rest(executor, 1)


def test_no_room_no_cluster_and_no_client(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match="that of a Ray client"):
        opened(address="ray://10.0.0.1:10001")
    with pytest.raises(MachineError, match="no node of the Ray cluster has 64 cores and 0 GPUs"):
        opened(cpus=64)
    assert set(worker.versions()) == {"trainkit", "torch", "Python"}


def test_a_node_that_dies_costs_its_job_and_another_takes_its_place(
    cluster: Any, opened: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    extra = cluster.add_node(num_cpus=4, object_store_memory=80 << 20)
    (tmp_path / "hold").touch()
    executor = opened(workers=1, cpus=3)  # the new node alone has room
    executor.submit(job(tmp_path, 0))
    pid_of(executor, tmp_path / "0000")
    cluster.remove_node(extra, allow_graceful=False)
    assert rest(executor, 1)[0].status == "killed"
    (tmp_path / "hold").unlink()
    executor.submit(job(tmp_path, 0))
    assert not executor.wait(0.5)  # no node has room now; the job waits for one
    capfd.readouterr()
    other = cluster.add_node(num_cpus=4, object_store_memory=80 << 20)
    assert rest(executor, 1)[0].status == "done"
    printed = capfd.readouterr()
    executor.close()
    cluster.remove_node(other)
    assert "raylet" not in printed.out + printed.err


def test_a_cluster_that_goes_away_ends_the_search_with_what_to_do(
    opened: Any, own_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOOK_S", 0.3)
    (tmp_path / "hold").touch()
    executor = opened(workers=1)
    executor.submit(job(tmp_path, 0))
    pid_of(executor, tmp_path / "0000")
    own_cluster.head_node.kill_gcs_server()
    with pytest.raises(MachineError, match=r"is gone\n  nothing is lost: .* trainkit resume STUDY") as caught:
        rest(executor, 1)
    assert caught.value.exit_code == 3
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 40  # LEAVE_S, and what a crowded machine adds
