"""What a worker process does: trains what comes through its pipe, and ends when nobody is at the other end.

Nothing heavy is imported before the process has said what it will do with signals.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit import Job, Measured, Stopper

# To a worker: a job, an answer to what it measured, and that it is to stop. From it: the rest.
JOB, ANSWER, STOP = "job", "answer", "stop"
READY, MEASURED, PROGRESS, ENDED, LACKS = "ready", "measured", "progress", "ended", "lacks"
TOLD_S = 0.5  # between two messages of how far long work has come
STOPS = "the search stops"
ORPHANED = 3  # exit code of a worker whose driver is gone


@dataclass(frozen=True)
class Told:
    """What a worker is told when it begins.

    Args:
        modules: plugins given with ``-p``.
        without: plugins left out.
        threads: threads of torch where a recipe says none; the processes of a run share them.
        devices: numbers of the CUDA devices that it uses, one for each process of a run; empty for all.
    """

    modules: list[str]
    without: list[str]
    threads: int
    devices: list[int]


def work(pipe: Connection, told: Told) -> None:
    """Train jobs until the pipe is closed; what a new process is started with."""
    # Ctrl-C in a terminal, or the end of a cluster's job, reaches every process: the driver decides what it means.
    numbers = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    if told.devices:
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else []
        seen = [names[number] if number < len(names) else str(number) for number in told.devices]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seen)
    _Worker(pipe, told).run()


class _Worker:
    """A thread reads the pipe all the time, so that a driver's death, or its wish to stop, is noticed at once."""

    def __init__(self, pipe: Connection, told: Told) -> None:
        self.pipe = pipe
        self.told = told
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.stopper: Stopper | None = None
        self.stopping = self.busy = False
        self.told_at = 0.0

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        import gc

        import torch

        from trainkit import Datasets, MachineError, Stopper, TrainkitError, open_plugins, printing_to, run_job

        torch.set_num_threads(self.told.threads)
        try:
            plugins, datasets = open_plugins(self.told.modules, self.told.without), Datasets()
        except TrainkitError as error:
            self.tell(LACKS, str(error))
            return
        gc.collect()
        gc.freeze()  # what is imported stays, and need not be looked through again
        self.tell(READY, None)
        while (job := self.jobs.get()) is not None:
            self.stopper = Stopper()
            if self.stopping:
                self.stopper.ask(STOPS)
            try:
                with printing_to(job.folder):
                    outcome = run_job(job, plugins, self.measured, self.stopper, datasets, progress=self.progress)
            except MachineError as error:
                self.tell(LACKS, str(error))
            except OSError as error:
                self.tell(LACKS, f"{error.filename or job.folder}: {error.strerror or error}")
            else:
                self.tell(ENDED, outcome)
            self.stopper = None
            gc.collect()  # a run's parts refer to each other, and its memory, a device's too, is for the next

    def listen(self) -> None:
        while True:
            try:
                word, said = self.pipe.recv()
            except (EOFError, OSError):
                # The driver has closed the pipe or died. Checkpoints are whole whenever a process ends.
                os._exit(ORPHANED)
            if word == JOB:
                self.jobs.put(said)
            elif word == ANSWER:
                self.answers.put(said)
            elif word == STOP:
                self.stopping = True
                if (stopper := self.stopper) is not None:
                    stopper.ask(STOPS)

    def measured(self, job: Job, measured: Measured) -> str:
        self.tell(MEASURED, measured)
        return self.answers.get() if job.watched else ""

    def progress(self, done: int, total: int, text: str) -> None:
        if done >= total or time.monotonic() - self.told_at > TOLD_S:
            self.told_at = time.monotonic()
            self.tell(PROGRESS, (done, total, text))

    def tell(self, word: str, said: Any) -> None:
        try:
            self.pipe.send((word, said))
        except OSError:
            os._exit(ORPHANED)
