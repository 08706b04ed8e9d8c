"""Data workers that die or hang: the run gets the same batches, or ends soon and says what to do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing.process import BaseProcess
from types import SimpleNamespace

import pytest
import torch

from tests.soak import workers as soak
from trainkit import Dataset, DataSpec, RunError, Split
from trainkit.feed import make_feed
from trainkit.feed.workers import Gate, Passing

# The signal of a worker's death may meet a callback of the garbage collector, such as Hypothesis has: what the handler
# raises there is lost with this warning, and it looks again two seconds later.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

if sys.platform != "linux":
    pytest.skip("processes as Linux has them", allow_module_level=True)


class Rows:
    """Samples read by a worker, one of which does what it is told there."""

    def __init__(self, fault: str = "", row: int = 20) -> None:
        self.fault, self.row = fault, row
        self.parent = os.getpid()

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        if os.getpid() != self.parent and self.row in index.tolist():
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(90)
        return index[:, None].float()


def feed_of(rows: Rows, said: list[str], **settings: object):
    spec = DataSpec((1,), "regression", 1, sizes={"train": 64, "val": 64})
    split = Split(rows, torch.zeros(64))
    dataset = Dataset(spec, {"train": split, "val": split})
    options = {"batch_size": 8, "device": "cpu", "seed": 0, "loading": "streamed", "workers": 2, **settings}
    return make_feed(dataset, say=said.append, **options)


def test_a_worker_that_dies_at_every_try_ends_the_run_soon():
    said: list[str] = []
    feed = feed_of(Rows("die"), said)
    begun = time.monotonic()
    with pytest.raises(RunError, match="a data worker ended or hung") as raised:
        list(feed.train(0))
    assert time.monotonic() - begun < 30
    assert raised.value.exit_code == 4
    assert "workers are often killed for memory: set fewer workers, or workers = 0" in str(raised.value)
    assert [text.rpartition(", ")[2] for text in said] == ["1 of 2 times", "2 of 2 times"]


def test_a_worker_that_hangs_ends_the_run_in_the_time_that_is_set():
    feed = feed_of(Rows("hang"), [], worker_timeout=1)
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"timed out after 1.* seconds\n.*data.worker_timeout"):
        list(feed.train(0))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_are_the_same_after_a_worker_was_killed(split):
    def batches(feed):
        return feed.train(1) if split == "train" else feed.evaluate(split)

    sizes = {} if split == "train" else {"eval_batch_size": 4}
    whole = [batch.index.tolist() for batch in batches(feed_of(Rows(), [], **sizes))]
    said: list[str] = []
    feed = feed_of(Rows(), said, **sizes)
    others = soak.children()  # of other tests, such as the compiler's
    for at in (0, 3, 7):
        before = len(said)
        for _ in range(2):  # the second pass begins with workers that run, or died between the passes
            got = []
            for number, batch in enumerate(batches(feed)):
                got.append(batch.index.tolist())
                if number == at:
                    os.kill(next(child for child in soak.children() if child not in others), signal.SIGKILL)
                    time.sleep(0.05)  # the end is noticed here, where it must not raise
            assert got == whole
        assert 1 <= len(said) - before <= 2 * 2


def test_workers_let_the_run_decide_about_ctrl_c(tmp_path):
    """A Ctrl-C reaches every process of the terminal; the run still makes its update and ends with its batches."""
    script = tmp_path / "s.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        from tests.feed.test_workers import Rows, feed_of
        signal.signal(signal.SIGINT, lambda *_: None)
        for number, batch in enumerate(feed_of(Rows(), [lambda text: print(text)]).train(0)):
            if number == 1:
                os.killpg(os.getpgid(0), signal.SIGINT)
        print("all batches")
        """),
        encoding="utf-8",
    )
    root = str(soak.Path(soak.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(script), root], capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert done.stdout.strip() == "all batches", done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_whose_workers_are_killed_ends_the_same():
    assert soak.check(4, seed=1) == []


def test_a_look_of_one_pass_leaves_the_other_to_look_after_its_own_workers():
    """A worker of the training pass may die while an evaluation waits, whose workers live."""

    def dies(number: int, frame: object) -> None:
        raise RuntimeError

    def worker(alive: bool) -> SimpleNamespace:
        return SimpleNamespace(is_alive=lambda: alive, pid=1, exitcode=-9)

    gate = Gate(dies)
    training, evaluation = (
        Passing(SimpleNamespace(_iterator=SimpleNamespace(_workers=[worker(alive)]))) for alive in (False, True)
    )
    training.gate = evaluation.gate = gate
    training._look(always=False)  # nothing has been heard yet
    gate(17, None)
    evaluation._look(always=False)
    with pytest.raises(RuntimeError, match="ended with -9"):
        training._look(always=False)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_worker_killed_while_the_others_are_started_is_missed_at_once(monkeypatch, number, passes):
    """The start of the next process reaps it, so that torch, which learns of the workers later, never sees it end."""
    started: list[int] = []
    start = BaseProcess.start

    def kill_the_first(process: BaseProcess) -> None:
        start(process)
        started.append(process.pid)
        if len(started) == number + 1:
            os.kill(process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    said: list[str] = []
    feed = feed_of(Rows(), said, worker_timeout=60)
    if passes == 2:  # torch's handler is there already
        list(feed_of(Rows(), []).train(0))
    monkeypatch.setattr(BaseProcess, "start", kill_the_first)
    begun = time.monotonic()
    assert sum(len(batch.index) for batch in feed.train(0)) == 64
    assert time.monotonic() - begun < 30
    assert len(said) == 1
    assert len(started) == 4


def test_a_worker_that_ends_just_before_a_pass_asks_for_it_is_missed_while_its_answer_is_waited_for(monkeypatch):
    """Workers of the pass before are asked to go on; one may die after the look at them, and its signal be lost."""
    said: list[str] = []
    feed = feed_of(Rows(), said, worker_timeout=60)
    others = soak.children()
    list(feed.train(0))
    (victim, *_) = [child for child in soak.children() if child not in others]
    os.kill(victim, signal.SIGKILL)
    os.waitid(os.P_PID, victim, os.WEXITED | os.WNOWAIT)
    look, looks = Passing._look, []

    def too_early(passing: Passing, always: bool) -> None:
        looks.append(always)
        if len(looks) > 1:
            look(passing, always)

    monkeypatch.setattr(Passing, "_look", too_early)
    begun = time.monotonic()
    assert sum(len(batch.index) for batch in feed.train(1)) == 64
    assert time.monotonic() - begun < 30
    assert len(said) == 1


def test_a_worker_that_something_else_has_reaped_is_missed_while_a_batch_is_waited_for():
    """``multiprocessing.active_children`` and every start of a process reap whatever has ended."""

    class Reaped(Rows):
        def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
            if os.getpid() != self.parent and self.row in index.tolist():
                time.sleep(0.5)
            return super().__getitem__(index)

    said: list[str] = []
    feed = feed_of(Reaped(), said, worker_timeout=60)
    batches = feed.train(0)
    begun = time.monotonic()
    next(batches)

    def reap() -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # the news comes after the reaping
    try:
        reap()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    list(batches)
    assert time.monotonic() - begun < 30
    assert said
