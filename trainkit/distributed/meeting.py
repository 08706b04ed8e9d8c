"""How the processes of a group find each other, and make sure that they are about to train the same.

torch's own way waits in C, where no signal reaches, and cannot say who is missing. Here each process opens a line to
the first one, which hears all, compares what they bring, and lets all begin or none.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainkit.distributed.addresses import STORE_S, is_loopback, listening, open_store
from trainkit.distributed.lifeline import Line, remaining
from trainkit.errors import MachineError, TrainkitError, UsageError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # a public name all the same

Card = Mapping[str, Mapping[str, Any]]  # what must be alike in all processes: a table for each subject, of plain values
_KEY = "trainkit/lifeline"
_POLL_S = 0.05
_GRACE_S = 5.0  # the first process decides; the others give it so much longer
_KINDS: Mapping[str, type[TrainkitError]] = {"UsageError": UsageError, "MachineError": MachineError}


@dataclass
class Met:
    """All processes are there.

    Args:
        store: where they leave messages for each other; theirs alone.
        lines: to the other processes.
    """

    store: Store
    lines: dict[int, Line] = field(default_factory=dict)


@dataclass(frozen=True)
class Meeting:
    """Where and how the processes of a group meet.

    Args:
        rank: which of them this one is.
        size: how many there are.
        host: where the store is.
        port: its port.
        hosted: whether somebody else, such as torchrun, keeps the store; else the first process does.
        seconds: how long they are waited for.
        card: what must be alike in all of them.
    """

    rank: int
    size: int
    host: str
    port: int
    hosted: bool
    seconds: float
    card: Card

    def meet(self, store: Store | None = None, look: Callable[[], None] | None = None) -> Met:
        """Wait for all.

        Args:
            store: that of the first process, where it is open already.
            look: called by the first process again and again while it waits; may raise.

        Raises:
            MachineError: if one does not come, or they have not the same versions.
            UsageError: if they have not the same recipe.
        """
        deadline = time.monotonic() + self.seconds
        try:
            store = store or self._store(deadline)
            return self._receive(store, deadline, look) if self.rank == 0 else self._go(store, deadline)
        except (RuntimeError, OSError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MachineError(
                f"process {self.rank} of {self.size} cannot talk to the others at {self.host}:{self.port}: {said}\n"
                "  see that the address is that of the machine with the first process, and that its port is open"
            ) from error

    def _store(self, deadline: float) -> Store:
        if self.rank == 0 and not self.hosted:
            return open_store(self.host, self.port)
        import torch.distributed as dist

        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=max(0.1, remaining(deadline))).close()
                break
            except OSError as error:
                if not remaining(deadline):
                    raise MachineError(
                        f"process {self.rank} of {self.size} found nobody at {self.host}:{self.port} within "
                        f"{self.seconds:g} s: {error.strerror or error}\n"
                        "  see that the first process was started, with the same address and port"
                    ) from error
            time.sleep(_POLL_S)
        client: Store = dist.TCPStore(  # type: ignore[attr-defined]
            self.host, self.port, None, False, datetime.timedelta(seconds=STORE_S), wait_for_workers=False
        )
        return client

    # ------------------------------------------------------------ the first process

    def _receive(self, store: Store, deadline: float, look: Callable[[], None] | None) -> Met:
        """Let the others come, and begin with them."""
        address = self._own_address()
        token = secrets.token_hex(16)
        lines: dict[int, Line] = {}
        try:
            with listening(address, backlog=self.size) as server:
                server.settimeout(_POLL_S)
                store.set(_KEY, json.dumps([address, server.getsockname()[1], token]))
                cards = {0: self.card}
                while len(lines) < self.size - 1:
                    if not remaining(deadline):
                        raise MachineError(self._missing(sorted({*range(1, self.size)} - set(lines))))
                    if look is not None:
                        look()
                    with contextlib.suppress(TimeoutError):
                        self._welcome(server.accept()[0], token, lines, cards)
            self._compare(cards)
        except BaseException as error:
            message = {"refused": str(error) or type(error).__name__, "kind": type(error).__name__}
            for line in lines.values():
                line.send(message)
                line.close()
            raise
        for line in lines.values():
            line.send({"begin": token})
        return Met(_own(store, token), lines)

    def _own_address(self) -> str:
        """The address of this machine on the way to the store; empty where only the others know it.

        Many machines take their own name for a loopback address, by which no other one finds them.
        """
        kind = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind[0], socket.SOCK_DGRAM) as probe:
            probe.connect(kind[4])  # sends nothing
            address = str(probe.getsockname()[0])
        return "" if is_loopback(address) and not is_loopback(self.host) else address

    def _welcome(self, connection: socket.socket, token: str, lines: dict[int, Line], cards: dict[int, Card]) -> None:
        """Take one that comes, if it is one of this group."""
        line = Line(connection)
        came = line.next(time.monotonic() + _GRACE_S)
        if came is None or came.get("token") != token or not isinstance(came.get("rank"), int):
            line.close()  # a stranger
            return
        rank = came["rank"]
        if not 0 < rank < self.size or rank in lines or came.get("size") != self.size:
            text = f"there are two processes {rank} of {self.size}, or it is one of {came.get('size')}"
            line.send({"refused": f"{text}\n  give each process a RANK of its own", "kind": "MachineError"})
            line.close()
            raise MachineError(f"{text}\n  give each process a RANK of its own")
        lines[rank], cards[rank] = line, came["card"]

    def _missing(self, ranks: list[int]) -> str:
        whom = f"process {ranks[0]}" if len(ranks) == 1 else f"processes {', '.join(map(str, ranks))}"
        verb = "has" if len(ranks) == 1 else "have"
        return (
            f"{whom} of {self.size} {verb} not arrived within {self.seconds:g} s\n"
            "  see that all of them were started and reach this machine; TRAINKIT_GROUP_TIMEOUT sets another number "
            "of seconds"
        )

    def _compare(self, cards: Mapping[int, Card]) -> None:
        """Hold that all have brought the same."""
        for rank in range(1, self.size):
            if (found := difference(cards[0], cards[rank])) is None:
                continue
            subject, key, first, other = found
            if subject == "recipe":
                raise UsageError(
                    f"process {rank} has another recipe than process 0: {key} is {other} there and {first} here\n"
                    "  start all processes with the same recipe and the same changes on the command line"
                )
            raise MachineError(
                f"process {rank} runs with another {key} than process 0: {other} there and {first} here\n"
                "  install the same versions for all of them"
            )

    # ------------------------------------------------------------ the others

    def _go(self, store: Store, deadline: float) -> Met:
        """Find the first one, and wait for what it says."""
        late = deadline + _GRACE_S
        told = ""
        while remaining(late):
            if not store.check([_KEY]):
                time.sleep(_POLL_S)
                continue
            address, port, token = json.loads(store.get(_KEY))
            try:
                line = Line(socket.create_connection((address or self.host, port), timeout=_GRACE_S))
            except OSError as error:  # of an attempt before this one
                told = f": {address or self.host}:{port}: {error.strerror or error}"
                time.sleep(_POLL_S)
                continue
            line.send({"token": token, "rank": self.rank, "size": self.size, "card": self.card})
            said = line.next(late)
            if said is not None and said.get("begin") == token:
                return Met(_own(store, token), {0: line})
            line.close()
            if said is not None and "refused" in said:
                raise _KINDS.get(said["kind"], MachineError)(said["refused"])
            time.sleep(_POLL_S)
        raise MachineError(
            f"process {self.rank} of {self.size} has not met process 0 within {self.seconds:g} s{told}\n"
            "  see that it was started and is reached from here; TRAINKIT_GROUP_TIMEOUT sets another number of seconds"
        )


def _own(store: Store, token: str) -> Store:
    """A part of a store that is this group's alone: nothing of an attempt before it lies there."""
    import torch.distributed as dist

    part: Store = dist.PrefixStore(f"trainkit/{token}", store)  # type: ignore[attr-defined]
    return part


def difference(first: Card, other: Card) -> tuple[str, str, str, str] | None:
    """The first thing in which two cards differ: its subject, key and both values; ``None`` where they are alike."""
    first, other = json.loads(json.dumps(first)), json.loads(json.dumps(other))  # as a line carries them
    for subject in first:
        here, there = first[subject], other.get(subject, {})
        for key in sorted({*here, *there}):
            if (key in here, here.get(key)) != (key in there, there.get(key)):
                return subject, key, _shown(here, key), _shown(there, key)
    return None


def _shown(table: Mapping[str, Any], key: str) -> str:
    return json.dumps(table[key], ensure_ascii=False) if key in table else "missing"


def flat(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted keys, as plain data."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                found |= flat(item, f"{name}.{number}.")
        else:
            found[name] = value if isinstance(value, str | int | float | bool | type(None)) else str(value)
    return found
