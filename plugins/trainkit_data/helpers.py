"""Work shared out among this process and helpers forked from it, which leave their results in a file.

A helper that dies costs its portion's time and nothing else: what it had begun is done here.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import struct
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_FORKED = sys.platform == "linux"
_MOST = 8  # processes, or threads where none are forked
# Helpers of which nothing is heard for so long, while nothing is left to begin here, are done without.
_PATIENCE_S = 120.0
_TOLD = struct.Struct("=q")
_TOLD_AT_ONCE = 512


def shared_out(
    work: Callable[[int], None], count: int, tickets: Path, alone: bool = False
) -> Generator[int, None, None]:
    """Do ``work(0)`` to ``work(count - 1)`` and yield each number once it is done.

    Close the iterator (`contextlib.closing`) where it may be left early: the helpers end with it.

    Args:
        work: does one portion and leaves the result in a file. What fails in a helper is tried here, and raises here.
        count: portions.
        tickets: a file that is there, to draw numbers from; nothing is read from it or written to it.
        alone: do all of it here: it is not worth a helper's start.
    """
    processors = 1 if alone else min(_MOST, count, _processors())
    if processors > 1 and not _FORKED:
        yield from _threaded(work, count, processors)
        return
    left = set(range(count))
    with _helped(work, count, processors - 1, tickets) as helpers:
        while left:
            if (number := helpers.draw()) < count:
                work(number)
                told = [number, *helpers.hear(0)]
            elif not (told := helpers.hear(_PATIENCE_S)):  # none is left that could have begun what is not done
                number = min(left)
                work(number)
                told = [number]
            for number in told:
                if number < 0:
                    number = -1 - number
                    work(number)
                left.remove(number)
                yield number


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threaded(work: Callable[[int], None], count: int, threads: int) -> Generator[int, None, None]:
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, _ in enumerate(pool.map(work, range(count))):
                yield number
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Helpers:
    """Processes forked from this one, each of which draws a number, does its portion and tells the number.

    Args:
        work: does one portion.
        count: portions.
        tickets: descriptor of a file. Its position is the next number: forked processes share it, and the system moves
            it for one of them at a time.
    """

    def __init__(self, work: Callable[[int], None], count: int, tickets: int) -> None:
        self.work = work
        self.count = count
        self.tickets = tickets
        self.parent = os.getpid()
        self.running: list[int] = []
        self.ear, self.mouth = os.pipe()

    def draw(self) -> int:
        """The next number; from ``count`` on there is nothing left to begin."""
        return os.lseek(self.tickets, 1, os.SEEK_CUR) - 1

    def start(self, helpers: int) -> None:
        """Fork so many, or as many as the system allows."""
        with contextlib.suppress(OSError):
            for _ in range(helpers):
                if not (process := os.fork()):
                    self._help()
                self.running.append(process)
        os.close(self.mouth)  # else it would not be heard that all have ended
        self.mouth = -1

    def _help(self) -> None:
        code = 1
        try:
            # The run decides about Ctrl-C, and what it has open is not to be closed from here.
            for name, handler in (("SIGINT", signal.SIG_IGN), ("SIGHUP", signal.SIG_IGN), ("SIGTERM", signal.SIG_DFL)):
                signal.signal(getattr(signal, name), handler)
            gc.freeze()
            # A run that was killed has nobody left who would want more.
            while os.getppid() == self.parent and (number := self.draw()) < self.count:
                try:
                    self.work(number)
                except Exception:
                    number = -1 - number
                os.write(self.mouth, _TOLD.pack(number))
            code = 0
        finally:
            os._exit(code)

    def hear(self, patience: float) -> list[int]:
        """Numbers of portions that are done, and -1 - number of those that failed.

        Args:
            patience: seconds to wait for the first. After so long without one the helpers are ended, but for 0.

        Returns:
            What was told since the last time; nothing, after patience: there are no helpers any more.
        """
        if not self.running:
            return []
        if not select.select([self.ear], [], [], patience)[0]:
            if patience:
                self.end()
            return []
        told = os.read(self.ear, _TOLD.size * _TOLD_AT_ONCE)
        if not told:
            self.end()
        return [number for (number,) in _TOLD.iter_unpack(told)]

    def end(self) -> None:
        """Kill those that run, and wait until they write no more."""
        while self.running:
            process = self.running.pop()
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)


@contextlib.contextmanager
def _helped(work: Callable[[int], None], count: int, helpers: int, tickets: Path) -> Iterator[_Helpers]:
    with tickets.open("rb") as file:
        crew = _Helpers(work, count, file.fileno())
        try:
            crew.start(helpers)
            yield crew
        finally:
            crew.end()
            os.close(crew.ear)
            if crew.mouth >= 0:
                os.close(crew.mouth)
