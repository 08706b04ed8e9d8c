"""Trials in processes that are kept warm: many at once, and none takes another one, or the search, with it.

The driver and each worker have a pipe, on which the worker is sent jobs and sends what it measures and how jobs end.
A worker's death closes its end, whatever it died of, and the driver's death closes the others: nobody asks who lives.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import time
import tomllib
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from trainkit import Job, MachineError, Outcome, Site
from trainkit_executors.worker import ANSWER, ENDED, JOB, LACKS, MEASURED, PROGRESS, READY, STOP, Told, work

GRACE_S = 20.0  # how long a job may go on after its time is over, before its process is ended
LAST_S = 5.0  # how long workers have to end by themselves when the search does
_BROKEN = (EOFError, OSError)  # what a pipe says whose other end is gone


@dataclass
class Worker:
    """One process and the job it has.

    Args:
        process: the process.
        pipe: the driver's end.
        place: its number among the workers, from 0.
        job: what it trains.
        began: when it was given the job, or was ready for it, on the monotonic clock.
        ready: whether it has begun to work.
        late: whether it was ended because its job's time was over.
    """

    process: Any
    pipe: Connection
    place: int
    job: Job | None = None
    began: float = 0.0
    ready: bool = False
    late: bool = field(default=False)


class Pool:
    """Trains each job in a process of its own, which then takes the next.

    Args:
        workers: how many; ``None``: one for each CUDA device where trials use them, else for each core.
        threads: threads of torch in each, where a job's recipe says none.
        devices: numbers of the CUDA devices that are dealt out in turn; empty for all.
    """

    slots = 1

    def __init__(self, workers: int | None, threads: int, devices: Sequence[int]) -> None:
        self._wanted = workers
        self._threads = threads
        self._devices = list(devices)
        self._dealt = bool(devices)
        self._each = 1  # processes that make a run together, where the search's recipe says so
        self._workers: list[Worker] = []
        self._rested: deque[tuple[Job, Outcome]] = deque()
        # spawn: a forked copy of a process with threads, torch's or CUDA's, can hang.
        self._context = multiprocessing.get_context("spawn")
        self._woken, self._wakes = self._context.Pipe(duplex=False)
        self._stopping = self._told_to_stop = False

    def open(self, site: Site) -> None:
        """Get ready; a worker begins with its first job."""
        self._site = site
        if not self._devices and tomllib.loads(site.recipe).get("run", {}).get("device") != "cpu":
            self._devices = cuda_devices()
        self._dealt = self._dealt or len(self._devices) > 1
        self._each = processes_of(site.recipe)
        self.slots = self._wanted or max(1, (len(self._devices) or cores()) // self._each)
        atexit.register(self.close)  # before Python waits for its children

    def submit(self, job: Job) -> None:
        """Send a job to a worker that has none, a new one where all have."""
        worker = next((one for one in self._workers if one.job is None), None) or self._begin()
        worker.job, worker.began, worker.late = job, time.monotonic(), False
        with contextlib.suppress(*_BROKEN):  # it died since: `wait` notices
            worker.pipe.send((JOB, job))

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Answer what workers measure until a job has come to rest, at most about so long.

        Raises:
            MachineError: as a worker has met it.
        """
        until = time.monotonic() + seconds
        while not self._rested:
            self._tell_to_stop()
            pipes = {one.pipe: one for one in self._workers}
            ready = wait([*pipes, self._woken], max(0.0, min(1.0, until - time.monotonic()))) if pipes else []
            for pipe in ready:
                if pipe is self._woken:
                    self._woken.recv_bytes()
                elif isinstance(pipe, Connection):
                    self._read(pipes[pipe])
            self._look_after()
            if not pipes or (not ready and time.monotonic() >= until):
                break
        rested = list(self._rested)
        self._rested.clear()
        return rested

    def stop(self) -> None:
        """Leave word that all workers are to stop; `wait`, which this may have interrupted, tells them."""
        if not self._stopping:
            self._stopping = True
            self._wakes.send_bytes(b"stop")

    def close(self) -> None:
        """End all workers: those that have nothing to do at once, the others after a moment."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.pipe.close()
        atexit.unregister(self.close)
        last = time.monotonic() + LAST_S
        for worker in self._workers:
            worker.process.join(max(0.0, last - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers = []

    # ------------------------------------------------------------ workers

    def _begin(self) -> Worker:
        taken = {one.place for one in self._workers}
        place = next(number for number in range(self.slots + 1) if number not in taken)
        every, each = self._devices, self._each
        dealt = [every[(place * each + number) % len(every)] for number in range(each)] if self._dealt else []
        devices = list(dict.fromkeys(dealt))
        told = Told(list(self._site.modules), list(self._site.without), self._threads * each, devices)
        ours, theirs = self._context.Pipe()
        # No daemon: those may not have children, which load data.
        process = self._context.Process(target=work, args=(theirs, told), name=f"trainkit worker {place}", daemon=False)
        with _as_main(), _signals_wait():
            process.start()
        theirs.close()
        worker = Worker(process, ours, place)
        self._workers.append(worker)
        return worker

    def _read(self, worker: Worker) -> None:
        try:
            word, said = worker.pipe.recv()
        except _BROKEN:
            self._lost(worker)
            return
        job = worker.job
        if word == READY:
            worker.ready, worker.began = True, time.monotonic()
        elif word == MEASURED and job is not None:
            reason = self._site.measured(job, said)
            if job.watched:
                with contextlib.suppress(*_BROKEN):
                    worker.pipe.send((ANSWER, reason))
        elif word == PROGRESS:
            self._site.progress(*said)
        elif word == ENDED and job is not None:
            worker.job = None
            self._rested.append((job, said))
        elif word == LACKS:
            worker.job = None
            raise MachineError(said)

    def _tell_to_stop(self) -> None:
        if not self._stopping or self._told_to_stop:
            return
        self._told_to_stop = True
        for worker in self._workers:
            with contextlib.suppress(*_BROKEN):
                worker.pipe.send((STOP, None))

    def _lost(self, worker: Worker) -> None:
        """Take in that a worker is dead; the next job begins another one."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(LAST_S)
        code = worker.process.exitcode
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
        job = worker.job
        if job is None:
            return
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        message = f"its process died ({how})"
        if not worker.ready and code is not None and code > 0 and not self._stopping:
            raise MachineError(
                f"a worker process ended before it could begin ({how}); what it said is above\n"
                '  train in this process instead: executor = "serial"'
            )
        seconds = time.monotonic() - worker.began
        if worker.late:
            message = f"timeout: {job.timeout:g} s are over, and no step boundary came within {GRACE_S:g} s more"
        self._rested.append((job, Outcome("timeout" if worker.late else "killed", seconds=seconds, message=message)))

    def _look_after(self) -> None:
        """Find workers whose death does not close their pipe, and end those whose job's time is over and that hang.

        A process that a worker has forked has the pipe too.
        """
        now = time.monotonic()
        for worker in list(self._workers):
            job = worker.job
            if not worker.process.is_alive() and not worker.pipe.poll():
                self._lost(worker)
                continue
            if job is not None and job.timeout and worker.ready and now - worker.began > job.timeout + GRACE_S:
                worker.late = True
                worker.process.kill()


@contextlib.contextmanager
def _as_main() -> Iterator[None]:
    """Let a new process import nothing as its main module: neither the command line nor a user's script again."""
    main: dict[str, Any] = vars(sys.modules["__main__"])
    held: dict[str, Any] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(held)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Keep signals back for a moment: a new process keeps them back too, until it has said what it does with them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with warnings.catch_warnings():  # one that died is begun again, which Python warns of
        warnings.simplefilter("ignore", UserWarning)
        resource_tracker.ensure_running()  # which lets them through when it starts its own process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processes_of(recipe: str) -> int:
    """How many processes make a run of a recipe together, each on a core or a device of its own."""
    found = tomllib.loads(recipe).get("run", {}).get("processes", 1)
    return found if isinstance(found, int) else 1


def cuda_devices() -> list[int]:
    """The numbers of the CUDA devices that this process sees, asked without starting CUDA here."""
    import torch

    return list(range(torch.cuda.device_count()))
