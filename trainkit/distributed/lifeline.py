"""Lines between the processes of a group, by which each hears at once that another one has ended.

What processes compute together may wait for one that is gone, on some devices for ever. The kernel closes the
connections of a process however it ends; of a machine that is gone it knows after a while of silence. Every process
has a line to the first one, which passes on what it hears.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainkit.errors import Exit

LEFT_S = 15.0  # a process whose peer is gone gets so long to end by itself
_LOOK_S = 1.0  # between two looks at who started this process
_SILENT_S, _ASK_S, _ASKS = 10, 5, 3  # a machine that is gone is noticed after 10 s and 3 questions, one each 5 s
_BYE_S = 30.0  # the first process is waited for, so long at the most
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Lost:
    """A process that has ended before its time.

    Args:
        rank: which one.
        cause: what it said last; empty if it said nothing, as one that is killed.
    """

    rank: int
    cause: str = ""

    def told(self, size: int) -> str:
        """The same for the user."""
        whom = f"process {self.rank} of {size}"
        if self.cause:
            return f"{whom} has failed: {self.cause}"
        return f"{whom} has ended without a word, as one that is killed; the last checkpoint is whole"


class Line:
    """One connection: whole JSON objects, one a line.

    Args:
        connection: a connected socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._got = b""
        self._sending = threading.Lock()
        connection.settimeout(None)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", _SILENT_S), ("TCP_KEEPINTVL", _ASK_S), ("TCP_KEEPCNT", _ASKS)):
            if hasattr(socket, name):
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that cannot be sent is lost, which the other side's end will tell."""
        with self._sending, contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that are there, waiting for something to come; ``None`` at the end of the line."""
        try:
            part = self.connection.recv(65536)
        except OSError:
            return None
        if not part or len(self._got) > _LONGEST:
            return None
        *whole, self._got = (self._got + part).split(b"\n")
        try:
            return [message for text in whole if isinstance(message := json.loads(text), dict)]
        except (ValueError, RecursionError):  # a stranger's
            return None

    def next(self, deadline: float) -> dict[str, Any] | None:
        """The next message, which may come in pieces; ``None`` at the end of the line, or where it comes too late."""
        try:
            while left := remaining(deadline):
                self.connection.settimeout(left)
                if (said := self.receive()) is None or said:
                    return said[0] if said else None
            return None
        finally:
            with contextlib.suppress(OSError):
                self.connection.settimeout(None)

    def close(self) -> None:
        """End the line."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Lifeline:
    """Hears of the ends of the other processes, and ends this one where it does not do so itself.

    Args:
        rank: which process this is.
        size: how many there are.
        lines: to the others: those of the first process by rank, of any other the one to the first.
        parent: who started this process and is not to be outlived, if anybody.
        at_end: told how this process ends where it has to be ended.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        lines: Mapping[int, Line],
        parent: int | None = None,
        at_end: Callable[[str], None] | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self.at_end = at_end
        self._lines = dict(lines)
        self._open = dict(lines)
        self._parent = parent
        self._causes: dict[int, str] = {}
        self._gone: set[int] = set()  # those that have said goodbye
        self._ready: set[int] = set()  # those that have nothing left to do
        self._over = False
        self._lost: Lost | None = None
        self._heard = threading.Condition()
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True, name="trainkit lifeline")
        self._thread.start()

    # ------------------------------------------------------------ for the process itself

    def lost(self, seconds: float = 0.0) -> Lost | None:
        """The first process that was lost, waiting a while for the news."""
        with self._heard:
            self._heard.wait_for(lambda: self._lost is not None, seconds)
            return self._lost

    def failed(self, message: str) -> None:
        """Tell the others why this process is about to end."""
        for line in self._open.copy().values():
            line.send({"failed": message, "rank": self.rank})

    def mute(self) -> None:
        """Let this process end by itself, whatever becomes of the others."""
        with self._heard:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()

    def leave(self) -> None:
        """Say goodbye: what becomes of the others, or of this process, is of no interest to anybody from now on."""
        self.mute()
        for line in self._open.copy().values():
            line.send({"bye": self.rank})

    def end_together(self) -> None:
        """Come back when the others are about to end too: who starts processes may end all when one has.

        The first process ends first, once the others are ready.
        """
        for line in self._open.copy().values():
            line.send({"ready": self.rank})
        with self._heard:
            if self.rank:
                self._heard.wait_for(lambda: 0 not in self._open, _BYE_S)
            else:
                self._heard.wait_for(lambda: not (set(self._open) - self._ready), _BYE_S)

    def close(self) -> None:
        """Give back the connections, once all have said goodbye or are gone; for a process that lives on."""
        self.mute()
        with self._heard:
            self._heard.wait_for(lambda: not (set(self._open) - self._gone), _BYE_S)
        for line in self._lines.values():
            line.close()

    # ------------------------------------------------------------ the thread

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, line in self._lines.items():
                selector.register(line.connection, selectors.EVENT_READ, rank)
            while self._open:
                for key, _ in selector.select(_LOOK_S):
                    rank = key.data
                    messages = self._lines[rank].receive()
                    for message in messages or ():
                        self._hear(message)
                    if messages is None:
                        selector.unregister(key.fileobj)
                        self._ended(rank)
                self._look_at_parent()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if isinstance(message.get("failed"), str):
            self._causes[int(message["rank"])] = message["failed"]
        elif "bye" in message:
            with self._heard:
                self._gone.add(int(message["bye"]))
                self._heard.notify_all()
        elif "ready" in message:
            with self._heard:
                self._ready.add(int(message["ready"]))
                self._heard.notify_all()
        elif "lost" in message:
            self._lose(Lost(int(message["lost"]), str(message.get("cause", ""))))

    def _ended(self, rank: int) -> None:
        with self._heard:
            del self._open[rank]
            self._heard.notify_all()
        if rank not in self._gone:
            self._lose(Lost(rank, self._causes.get(rank, "")))

    def _lose(self, lost: Lost) -> None:
        with self._heard:
            if self._over or self._lost is not None:
                return
            self._lost = lost
            self._heard.notify_all()
            self._timer = threading.Timer(LEFT_S, self._end)
            self._timer.daemon = True
            self._timer.start()
        for line in self._open.copy().values():
            if self.rank == 0:
                line.send({"lost": lost.rank, "cause": lost.cause})

    def _end(self) -> None:
        with self._heard:
            if self._over or self._lost is None:
                return
        with contextlib.suppress(Exception):
            if self.at_end is not None:
                self.at_end(self._lost.told(self.size))
        os._exit(Exit.FAILED)

    def _look_at_parent(self) -> None:
        if self._parent is not None and os.getppid() != self._parent:
            self._parent = None
            # Nobody would start again what fails, or stop what is to stop: it stops, and can be resumed.
            os.kill(os.getpid(), signal.SIGTERM)


def remaining(deadline: float) -> float:
    """Seconds until a deadline of the monotonic clock."""
    return max(0.0, deadline - time.monotonic())
