"""Faults at the I/O calls of a save: a process that dies there, a disk that refuses; marks of where a process is."""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CALLS = ("open", "write", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate", "close")
DEAD = 99


class Saves:
    """Calls ``at(when, save, call, name, args)`` before and after each I/O call within a save of this process.

    Saves count from 0, calls from 1 within each save. Whatever ``at`` returns before a call stands for its result.
    """

    def __init__(self, at: Callable[[str, int, int, str, tuple[Any, ...]], Any]) -> None:
        self.at = at
        self.save = -1
        self.call = 0
        self._thread = 0

    def __enter__(self) -> Saves:
        from trainkit.saving import Saver

        self._real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            setattr(os, name, self._wrapped(name))
        self._write = write = Saver._write

        def counted(saver: Any, job: Any) -> None:
            self.save, self.call, self._thread = self.save + 1, 0, threading.get_ident()
            self.at("begin", self.save, 0, "", ())
            try:
                write(saver, job)
            finally:
                self._thread = 0
                self.at("end", self.save, self.call, "", ())

        Saver._write = counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        from trainkit.saving import Saver

        Saver._write = self._write  # type: ignore[method-assign]
        for name, real in self._real.items():
            setattr(os, name, real)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*args: Any, **named: Any) -> Any:
            if self._thread != threading.get_ident():
                return real(*args, **named)
            self.call += 1
            number = self.call
            instead = self.at("before", self.save, number, name, args)
            try:
                return real(*args, **named) if instead is None else instead
            finally:
                self.at("after", self.save, number, name, args)

        return call


@contextlib.contextmanager
def arm(
    count: str = "",
    die: dict[str, Any] | None = None,
    refuse: dict[str, Any] | None = None,
    mark: str = "",
    clock: str = "",
    power: dict[str, Any] | None = None,
    begin: float = 0.0,
) -> Iterator[None]:
    """Prepare faults in this process.

    Args:
        count: a file that gets the names of the I/O calls of each save, as JSON.
        die: save, call and "before" or "after": where to die.
        refuse: save, call, errno and whether for ever: where the disk begins to refuse.
        mark: a file whose first byte is 1 within a save, from taking the copy until the checkpoint is durable.
        clock: how time goes wrong: "frozen", "backwards", "future", "past".
        power: see `tests.soak.power_loss.record`.
        begin: the time at which to go on, so that several processes begin together.
    """
    with contextlib.ExitStack() as stack:
        if count:
            stack.enter_context(_counted(count))
        if die is not None:
            stack.enter_context(Saves(_dying(**die)))
        if refuse is not None:
            stack.enter_context(Saves(_Disk(**refuse).at))
        if mark:
            stack.enter_context(_marked(mark))
        if clock:
            stack.enter_context(_wrong(clock))
        if power is not None:
            from tests.soak.power_loss import record

            stack.enter_context(record(**power))
        while time.time() < begin:
            pass
        yield


@contextlib.contextmanager
def _counted(path: str) -> Iterator[None]:
    found: list[list[str]] = []

    def at(when: str, save: int, call: int, name: str, args: tuple[Any, ...]) -> None:
        if when == "begin":
            found.append([])
        elif when == "before":
            found[save].append(name)

    with Saves(at):
        yield
    Path(path).write_text(json.dumps(found), encoding="utf-8")


def _dying(save: int, call: int, when: str) -> Callable[..., None]:
    def at(now: str, of: int, number: int, name: str, args: tuple[Any, ...]) -> None:
        if (now, of, number) == (when, save, call):
            os._exit(DEAD)

    return at


class _Disk:
    """Refuses from a call on, after half of what is written; where it is only full, removing still works."""

    def __init__(self, save: int, call: int, number: str, for_ever: bool) -> None:
        self.start = (save, call)
        self.number = getattr(errno, number)
        self.full = number in ("ENOSPC", "EDQUOT")
        self.for_ever = for_ever
        self.half = False
        self.done = False

    def at(self, when: str, save: int, call: int, name: str, args: tuple[Any, ...]) -> Any:
        if when != "before" or (save, call) < self.start or self.done:
            return None
        if name == "close" or (self.full and name in ("unlink", "rmdir")):
            return None
        if self.full and name == "open" and not args[1] & os.O_CREAT:
            return None
        if name == "write" and len(args[1]) > 1 and not self.half:
            self.half = True
            return _WRITE(args[0], memoryview(args[1])[: len(args[1]) // 2])
        self.half = False
        self.done = not self.for_ever
        raise OSError(self.number, os.strerror(self.number))


_WRITE = os.write


@contextlib.contextmanager
def _marked(path: str) -> Iterator[None]:
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(number, 0)
    os.ftruncate(number, 2)
    shared = mmap.mmap(number, 2)

    def at(when: str, save: int, call: int, name: str, args: tuple[Any, ...]) -> None:
        if when in ("begin", "end"):
            shared[0] = when == "begin"

    with Saves(at):
        yield


@contextlib.contextmanager
def _wrong(kind: str) -> Iterator[None]:
    real, strftime, localtime = time.time, time.strftime, time.localtime
    begun, years = real(), 10 * 365.25 * 86400
    now = {
        "frozen": lambda: begun,
        "backwards": lambda: begun - 100 * (real() - begun),
        "future": lambda: real() + years,
        "past": lambda: real() - years,
    }[kind]
    monotonic = time.monotonic
    time.time = now
    time.strftime = lambda form, moment=None: strftime(form, moment or localtime(now()))  # type: ignore[assignment]
    if kind == "frozen":
        held = monotonic()
        time.monotonic = lambda: held
    try:
        yield
    finally:
        time.time, time.strftime, time.monotonic = real, strftime, monotonic
