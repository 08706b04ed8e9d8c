"""Worker processes that die: seen where the run waits for a batch, and there at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from trainkit.signals import for_workers

KNOCK_S = 2.0  # between two looks at the workers while a batch is waited for


def begin(number: int) -> None:
    """Called first in each worker, which was forked with the handlers of the run."""
    for_workers()


class Gate:
    """Stands before torch's handler for workers that end, which raises: at any place, in the middle of an update too.

    Args:
        handler: torch's.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler
        # Set while the run waits for a batch, the one place where the error is of use: looks at the pass's workers.
        self.waiting: Callable[[], None] | None = None
        self.ended = 0  # how often one has ended: of the workers of any pass, each of which looks after its own

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGCHLD."""
        try:
            self.handler(number, frame)
        except RuntimeError:
            self.ended += 1
            if self.waiting is not None:
                raise
        else:
            # torch sees only those that nobody has reaped: each start of a process reaps all that have ended by then.
            if self.waiting is not None:
                self.waiting()


class Passing:
    """One pass of a loader, in which the end of a worker is seen at the next batch and nowhere else.

    Args:
        loader: the loader, whose sampler knows the requests.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.gate: Gate | None = None
        self._seen = 0  # of the gate's ends, those after which this pass has looked at its workers
        self._over = threading.Event()
        self.iterator: Any = getattr(loader, "_iterator", None)  # persistent workers, if they run already

    def __iter__(self) -> Iterator[Any]:
        """The batches.

        Raises:
            RuntimeError: if a worker has ended, or gives nothing for too long.
        """
        self.gate = _gate()
        self._look(always=True)
        try:
            yield from self._batches()
        finally:
            self._over.set()

    def _batches(self) -> Iterator[Any]:
        # Workers that run already are waited for; where they are forked here, what is raised within would be lost.
        if running := self.iterator is not None:
            self._begin_to_knock()
        with self._waiting() if running else contextlib.nullcontext():
            self.iterator = iter(self.loader)
        self._look(always=True)  # torch learns of its workers when the last is started, and one may be gone by then
        if not running:  # a thread less at the fork
            self._begin_to_knock()
        while True:
            self.gate = _gate()  # torch's handler is there since the first workers are
            try:
                with self._waiting():
                    self._look(always=self.gate is None)
                    made = next(self.iterator)
            except StopIteration:
                return
            yield made

    def _begin_to_knock(self) -> None:
        """Begin to look every now and then, where a handler can."""
        if _gate() is not None:
            threading.Thread(target=self._knock, name="trainkit-workers", daemon=True).start()

    def _knock(self) -> None:
        """Let the handler look again every now and then while the run waits.

        What it raises is lost where the signal meets a destructor or the like, and a run would wait for its timeout.
        """
        main = threading.main_thread().ident
        while not self._over.wait(KNOCK_S):
            if self.gate is not None and self.gate.waiting is not None and main is not None:
                signal.pthread_kill(main, signal.SIGCHLD)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        if self.gate is None:
            yield
            return
        self.gate.waiting = partial(self._look, always=True)
        try:
            yield
        finally:
            self.gate.waiting = None

    def _look(self, always: bool) -> None:
        """Raise if a worker has ended."""
        if self.iterator is None or not (always or (self.gate is not None and self.gate.ended != self._seen)):
            return
        if self.gate is not None:
            self._seen = self.gate.ended
        for worker in getattr(self.iterator, "_workers", ()):
            if not worker.is_alive():
                raise RuntimeError(f"process {worker.pid} ended with {worker.exitcode}")

    def abandon(self) -> None:
        """End the workers without asking them: one that is dead may hold a lock for which the others wait.

        What torch would do at the end is left out, since it waits for them.
        """
        iterator, workers = self.iterator, getattr(self.iterator, "_workers", ())
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join(5)
        if iterator is None or not hasattr(iterator, "_shutdown") or iterator._shutdown:
            return
        iterator._shutdown = True
        if (done := getattr(iterator, "_pin_memory_thread_done_event", None)) is not None:
            done.set()
        for queue in iterator._index_queues:
            queue.cancel_join_thread()
            queue.close()
        signal_handling._remove_worker_pids(id(iterator))  # type: ignore[attr-defined]  # imported there from torch._C


def end(loader: DataLoader[Any]) -> None:
    """Let a loader's workers end, and wait for them; one that does not hear is killed."""
    if (iterator := getattr(loader, "_iterator", None)) is None:
        return
    try:
        iterator._shutdown_workers()
    except (RuntimeError, OSError):  # torch's handler raises where one was dead already
        Passing(loader).abandon()


def let_go(error: BaseException) -> None:
    """Close what the error's frames still hold: the socket of a tensor whose transfer the worker's death cut short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        traceback.clear_frames(error.__traceback__)


def _gate() -> Gate | None:
    """The gate before torch's handler; ``None`` in threads and on systems that have no such handler."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(signal.SIGCHLD)
    if isinstance(handler, Gate):
        return handler
    if not callable(handler):
        return None
    gate = Gate(handler)
    signal.signal(signal.SIGCHLD, gate)
    return gate
