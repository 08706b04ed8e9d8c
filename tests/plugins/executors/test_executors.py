"""Trials here and in processes, beyond the contracts of executors: numbers to the last bit, many workers, deaths."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Executor, Job, MachineError, Measured, Outcome, Site, checkpoint, open_plugins

PARTS = Path(__file__).parents[2] / "search" / "trainkit_trial_parts.py"
# 116 samples of 192 train: 8 updates an epoch, 48 in all.
RECIPE = """\
recipe = 1
seed = 5
logger = []
model = { use = "mlp", widths = [8], dropout = 0.1 }
loss = { use = "cross_entropy" }
optimizer = { use = "sgd", lr = LR, momentum = 0.9 }
TOP
[run]
duration = "6ep"
device = "cpu"
threads = 1
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
"""


def text(lr: float = 0.1, what: str = "", **more: Any) -> str:
    settings = "".join(f", {name} = {json.dumps(value)}" for name, value in more.items())
    top = f'callback = [{{ use = "act", what = "{what}"{settings} }}]' if what else ""
    return RECIPE.replace("LR", str(lr)).replace("TOP", top)


def make(name: str, **settings: Any) -> Executor:
    executor: Executor = open_plugins().find("executor", name)[0].factory(**settings)
    return executor


@contextlib.contextmanager
def opened(executor: Executor, folder: Path, **site: Any) -> Iterator[Executor]:
    executor.open(Site(folder, modules=[str(PARTS)], recipe=text(), **site))
    try:
        yield executor
    finally:
        executor.close()


def all_of(executor: Executor, jobs: list[Job], seconds: float = 60.0) -> dict[int, Outcome]:
    """Train all jobs, as many at once as the executor takes."""
    left, running, rested = list(jobs), 0, dict[int, Outcome]()
    until = time.monotonic() + seconds
    while len(rested) < len(jobs):
        while left and running < executor.slots:
            executor.submit(left.pop(0))
            running += 1
        for job, outcome in executor.wait(0.5):
            rested[job.trial] = outcome
            running -= 1
        assert time.monotonic() < until, f"only {sorted(rested)} have come to rest"
    return rested


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors = checkpoint.load_newest(folder / "checkpoints")[1]
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model/")}


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Pool:
    """Two workers that the tests of this module share, as trials do: each start of one imports torch."""

    def __init__(self) -> None:
        self.executor = make("processes", workers=2)
        self.hear()

    def hear(self, measured: Callable[[Job, Measured], str] = lambda job, measured: "") -> None:
        """Let something else be told what is measured."""
        self.measured = measured


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    shared = Pool()
    folder = tmp_path_factory.mktemp("study")
    with opened(shared.executor, folder, measured=lambda job, measured: shared.measured(job, measured)):
        yield shared


@pytest.fixture
def pool(shared: Pool) -> Iterator[Executor]:
    yield shared.executor
    shared.hear()


def running(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_for(true: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def pids(executor: Any) -> list[int]:
    return [worker.process.pid for worker in executor._workers]


# ---------------------------------------------------------------- the same numbers


def test_trials_are_the_same_here_and_in_processes(pool, tmp_path):
    def jobs(home: str, until: float) -> list[Job]:
        return [Job(n, 0, text(0.02 * (n + 1)), tmp_path / home / str(n), until) for n in range(3)]

    with opened(make("serial"), tmp_path) as serial:
        ours = [all_of(serial, jobs("serial", until)) for until in (0.4, 1.0)]
    theirs = [all_of(pool, jobs("pool", until)) for until in (0.4, 1.0)]
    for one, other in zip(ours, theirs, strict=True):
        for number in range(3):
            a, b = one[number], other[number]
            assert (a.status, a.trained, a.steps) == (b.status, b.trained, b.steps)
            del a.metrics["seconds"], b.metrics["seconds"]
            assert a.metrics == b.metrics
    assert {outcome.status for outcome in ours[1].values()} == {"done"}
    assert all(same_weights(tmp_path / "serial" / str(n), tmp_path / "pool" / str(n)) for n in range(3))


def test_threads_and_cores(tmp_path):
    with opened(make("processes"), tmp_path) as executor:
        assert executor.slots == len(os.sched_getaffinity(0))
    with opened(make("serial"), tmp_path) as executor:
        assert executor.slots == 1


def test_what_workers_print_goes_to_the_runs_log(pool, tmp_path, capfd):
    assert all_of(pool, [Job(0, 0, text(what="print"), tmp_path / "run")])[0].status == "done"
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "printed by a part\n" in log
    assert "printed by a child\n" in log
    assert capfd.readouterr() == ("", "")


def test_failures_are_outcomes_and_the_worker_stays(pool, tmp_path):
    all_of(pool, [Job(n, 0, text(), tmp_path / f"before-{n}") for n in range(2)])
    before = sorted(pids(pool))
    wrong = [text(1e30), text(what="cuda memory"), text(what="memory"), text(what="defect"), text(-1.0)]
    rested = all_of(pool, [Job(n, 0, recipe, tmp_path / str(n)) for n, recipe in enumerate(wrong)])
    assert [rested[n].status for n in range(5)] == ["nan", "oom", "oom", "error", "error"]
    assert [rested[n].defect for n in range(5)] == [False, False, False, True, False]
    with opened(make("serial"), tmp_path) as serial:
        here = all_of(serial, [Job(3, 0, wrong[3], tmp_path / "3-here"), Job(4, 0, wrong[4], tmp_path / "4-here")])
    assert [here[n].origin for n in (3, 4)] == [rested[n].origin for n in (3, 4)]
    assert sorted(pids(pool)) == before


# ---------------------------------------------------------------- deaths


def test_a_worker_that_dies_is_an_outcome_and_the_run_goes_on_bit_for_bit(pool, tmp_path):
    how = {"kill": "signal 9", "exit": "exit code 7"}
    dying = [
        Job(n, 0, text(what=what, at=20, once=str(tmp_path / f"{what} done")), tmp_path / what)
        for n, what in enumerate(how)
    ]
    all_of(pool, [Job(n, 0, text(), tmp_path / f"before-{n}") for n in range(2)])
    for worker in pool._workers:
        worker.late = True  # its time was over as its job ended: that is no timeout of its next job
    rested = all_of(pool, [*dying, Job(2, 0, text(), tmp_path / "other")])
    assert [rested[n].status for n in range(3)] == ["killed", "killed", "done"]
    again = all_of(pool, dying)
    for n, (what, said) in enumerate(how.items()):
        assert said in rested[n].message
        assert (again[n].status, again[n].steps) == ("done", 48)
        assert "the run goes on from update " in (tmp_path / what / "log.txt").read_text(encoding="utf-8")
        assert same_weights(tmp_path / what, tmp_path / "other")
    assert len(pids(pool)) <= 2


def test_a_worker_that_dies_without_work_is_replaced(pool, tmp_path):
    assert all_of(pool, [Job(0, 0, text(), tmp_path / "0")])[0].status == "done"
    dead = pids(pool)[0]
    os.kill(dead, signal.SIGKILL)
    rested = all_of(pool, [Job(n, 0, text(), tmp_path / f"next-{n}") for n in range(3)])
    # One that was given a job before its death was seen takes the job with it: it is tried again as any other.
    assert {outcome.status for outcome in rested.values()} <= {"done", "killed"}
    lost = [Job(n, 0, text(), tmp_path / f"next-{n}") for n, outcome in rested.items() if outcome.status == "killed"]
    assert all(outcome.status == "done" for outcome in all_of(pool, lost).values())
    assert dead not in pids(pool)


def test_a_worker_that_hangs_is_ended_when_its_time_is_over(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("trainkit_executors.pool.GRACE_S", 0.5)
    outcome = all_of(pool, [Job(1, 0, text(what="hang"), tmp_path / "run", timeout=2)])[1]
    assert outcome.status == "timeout"
    assert "no step boundary" in outcome.message
    monkeypatch.setattr("trainkit_executors.pool.GRACE_S", 20.0)
    # More updates than a fast machine makes in that time, and time for the first ones on a crowded one.
    recipe = text(what="slow").replace("6ep", "600ep")
    slow = all_of(pool, [Job(2, 0, recipe, tmp_path / "slow", timeout=2)])[2]
    assert (slow.status, slow.message) == ("timeout", "timeout: 2 s are over")
    assert checkpoint.newest_first(tmp_path / "slow" / "checkpoints")


def test_what_no_trial_can_help_ends_the_search(pool, tmp_path):
    with pytest.raises(MachineError, match="No space left"):
        all_of(pool, [Job(0, 0, text(what="full"), tmp_path / "run")])
    assert all_of(pool, [Job(1, 0, text(), tmp_path / "next")])[1].status == "done"


def test_plugins_that_workers_cannot_load_are_named(tmp_path):
    broken = tmp_path / "trainkit_broken_here.py"
    broken.write_text("raise RuntimeError('not today')\n", encoding="utf-8")
    executor = make("processes", workers=1)
    executor.open(Site(tmp_path, modules=[str(broken)]))
    try:
        with pytest.raises(MachineError, match="not today"):
            all_of(executor, [Job(0, 0, text(), tmp_path / "run")])
    finally:
        executor.close()


# ---------------------------------------------------------------- the end


def test_devices_are_dealt_out_and_workers_stop_and_their_jobs_go_on_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("trainkit_executors.pool.cuda_devices", lambda: [0, 1])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    jobs = [Job(n, 0, text(what="slow"), tmp_path / str(n)) for n in range(2)]
    threads: list[threading.Thread] = []

    def measured(job: Job, measured: Measured) -> str:
        if job.trial < 2 and not threads:  # soon after, while it is waited for the next message
            threads.append(threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)))
            threads[0].start()
        return ""

    executor = make("processes")
    executor.open(Site(tmp_path, modules=[str(PARTS)], measured=measured))
    before = signal.signal(signal.SIGINT, lambda *_: executor.stop())
    try:
        assert executor.slots == 2
        first = [Job(2 + n, 0, text(what="environment"), tmp_path / f"first-{n}") for n in range(2)]
        for job in first:
            executor.submit(job)
        rested = 0
        while rested < 2:
            rested += len(executor.wait(0.5))
        outcomes = all_of(executor, jobs)
        outcomes |= all_of(executor, [Job(4, 0, text(), tmp_path / "late")])  # given to one that was told to stop
    finally:
        signal.signal(signal.SIGINT, before)
        executor.close()
    logs = [(job.folder / "log.txt").read_text(encoding="utf-8") for job in first]
    assert ["devices: 4\n" in logs[0], "devices: 7\n" in logs[1]] == [True, True]
    assert {outcome.status for outcome in outcomes.values()} == {"interrupted"}
    assert all(outcome.steps < 48 for outcome in outcomes.values())
    with opened(make("serial"), tmp_path) as serial:
        again = all_of(serial, [*jobs, Job(9, 0, text(), tmp_path / "straight")])
    assert {outcome.status for outcome in again.values()} == {"done"}
    assert all(same_weights(tmp_path / str(job.trial), tmp_path / "straight") for job in jobs)


DRIVER = """
    from pathlib import Path
    from trainkit import Job, Site
    from trainkit_executors import processes
    folder, recipe = Path({folder!r}), {recipe!r}
    executor = processes(workers=2)
    executor.open(Site(folder, modules=[{parts!r}], recipe=recipe))
    for n in range(2):
        executor.submit(Job(n, 0, recipe, folder / str(n)))
    {more}
    print(*[worker.process.pid for worker in executor._workers], flush=True)
    while True:
        for job, outcome in executor.wait(0.2):
            print(job.trial, outcome.status, flush=True)
        if all(worker.job is None for worker in executor._workers):
            break
    executor.close()
"""


@contextlib.contextmanager
def drive(tmp_path: Path, more: str = "") -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "driver.py"  # without a guard of its own: workers must not run it
    recipe = text(what="slow").replace("6ep", "600ep")
    filled = DRIVER.format(recipe=recipe, parts=str(PARTS), folder=str(tmp_path), more=more)
    script.write_text(textwrap.dedent(filled), encoding="utf-8")
    command = [sys.executable, str(script)]
    options: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **options) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def test_ctrl_c_leaves_workers_to_the_driver_and_they_end_by_themselves_when_it_is_killed(tmp_path):
    notes = "import signal; signal.signal(signal.SIGINT, lambda *_: print('heard', flush=True))"
    with drive(tmp_path, notes) as driver:
        assert driver.stdout is not None
        began = [int(word) for word in driver.stdout.readline().split()]
        os.killpg(driver.pid, signal.SIGINT)  # at once: they may not have said yet what they do with it
        wait_for(lambda: all(list((tmp_path / str(n)).glob("checkpoints/step-*")) for n in range(2)), 60.0)
        assert len(began) == 2
        assert all(running(pid) for pid in began)
        driver.kill()
        driver.wait()
        wait_for(lambda: not any(running(pid) for pid in began))
        assert driver.stdout.read() == "heard\n"
    assert all(checkpoint.load_newest(tmp_path / str(n) / "checkpoints") for n in range(2))


def test_closing_leaves_no_process_behind(shared, tmp_path, monkeypatch):
    """The last one: it closes what the tests of this module share."""
    monkeypatch.setattr("trainkit_executors.pool.LAST_S", 60.0)
    executor: Any = shared.executor
    for n in range(2):
        executor.submit(Job(n, 0, text(what="hang"), tmp_path / f"hangs-{n}"))
    hang = [tmp_path / f"hangs-{n}" / "recipe.toml" for n in range(2)]
    wait_for(lambda: executor.wait(0.05) == [] and all(file.exists() for file in hang))
    began, start = pids(executor), time.monotonic()
    executor.close()
    assert time.monotonic() - start < 20  # they ended by themselves
    assert len(began) == 2
    assert not any(running(pid) for pid in began)
    executor.close()
