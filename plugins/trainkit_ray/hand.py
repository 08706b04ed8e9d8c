"""One worker as the driver sees it: what it trains, what it was told, and where its run's folder goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import filelock

from trainkit import MachineError
from trainkit_ray.carried import Piece, Receiver, everything, in_messages
from trainkit_ray.cluster import lasting
from trainkit_ray.worker import JOB, sent

if TYPE_CHECKING:
    from trainkit import Job


class Hand:
    """A worker.

    Args:
        actor: the worker, which is beginning.
        size: of how many processes the runs are that it has room for.
    """

    def __init__(self, actor: Any, size: int) -> None:
        self.size = size
        self.ready = False  # whether it has begun
        self.sees = True  # whether its node sees the study folder
        self.job: Job | None = None  # what it trains, as it was submitted
        self.since = time.monotonic()  # when it began with that
        self.stopped = False  # whether it was told to stop
        self.late = False  # whether it was ended because its job's time was over
        self.doubted = 0.0  # since when no message comes through, and nobody knows yet why
        self._actor = actor
        self._outgoing: Iterator[list[Piece]] | None = None
        self._home: _Home | None = None
        with lasting():
            # What will come from it next; ``None`` while it has nothing to do.
            self.heard: Any = actor.begin.remote()

    def give(self, job: Job) -> None:
        """Let it train a job.

        Raises:
            MachineError: if the run's folder has to be carried, and another process writes to it.
        """
        self.job, self.since = job, time.monotonic()
        self.stopped = self.late = False
        if self.sees:
            self.say(JOB, sent(job))
            return
        self._home = _Home(job)
        self._outgoing = in_messages(everything(job.folder))
        with lasting():
            self.heard = self._actor.take.remote(job.folder.name, next(self._outgoing, []))

    def send_more(self) -> bool:
        """Send the next part of the run's folder, and then the job; whether there was anything to send."""
        if self._outgoing is None:
            return False
        if (message := next(self._outgoing, None)) is not None:
            with lasting():
                self.heard = self._actor.take.remote("", message)
        else:
            assert self.job is not None
            self._outgoing = None
            self.say(JOB, sent(self.job))
        return True

    def receive(self, pieces: list[Piece]) -> None:
        """Take in what has changed in the run's folder.

        Raises:
            MachineError: if the disk refuses.
        """
        assert self._home is not None
        self._home.receive(pieces)

    def rest(self) -> None:
        """Its job has come to rest."""
        self.job = self._outgoing = None
        if self._home is not None:
            self._home.close()
            self._home = None

    def say(self, word: str, said: Any = None) -> None:
        """Send it a message; the answer will come."""
        with lasting():
            self.heard = self._actor.talk.remote(word, said)

    def ask(self) -> None:
        """Ask whether it is there: what comes tells how it died, once Ray knows."""
        self.doubted = self.doubted or time.monotonic()
        with lasting():
            self.heard = self._actor.here.remote()

    def stop(self) -> None:
        """Let its job stop at the next step boundary."""
        if not self.stopped:
            self.stopped = True
            with lasting():
                self._actor.stop.remote()

    def kill(self) -> None:
        """End it at once; that it is dead will be heard."""
        import ray

        with contextlib.suppress(Exception):
            ray.kill(self._actor)

    def end(self) -> None:
        """End it at once, and leave its job."""
        self.kill()
        self.rest()


class _Home:
    """Where the folder of a carried run comes back to; locked meanwhile, as where the run itself writes to it."""

    def __init__(self, job: Job) -> None:
        self._folder = folder = job.folder
        self._made = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(folder / ".lock")
            self._lock.acquire(timeout=0)
            self._receiver = Receiver(folder, durable=True)
        except filelock.Timeout:
            raise MachineError(f"{folder}: another process is writing to this run folder; wait for it") from None
        except OSError as error:
            raise _refused(folder, error) from error

    def receive(self, pieces: list[Piece]) -> None:
        try:
            for piece in pieces:
                self._receiver.take(piece)
        except OSError as error:
            raise _refused(self._folder, error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._receiver.close()
        self._lock.release()
        if self._made and {entry.name for entry in self._folder.iterdir()} <= {".lock"}:  # it never began
            with contextlib.suppress(OSError):
                (self._folder / ".lock").unlink(missing_ok=True)
                self._folder.rmdir()


def _refused(folder: Any, error: OSError) -> MachineError:
    return MachineError(f"{error.filename or folder}: {error.strerror or error}")
