"""Where processes listen for each other: on this machine alone where all of them are on it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trainkit.errors import MachineError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # a public name all the same

STORE_S = 60.0  # for one answer of a store that is there
_INTERFACE = "GLOO_SOCKET_IFNAME"  # where gloo listens; by default at the address of the machine's name


def is_loopback(host: str) -> bool:
    """Whether a host as it was named, such as 127.0.0.1, is this machine for this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def listening(host: str, port: int = 0, backlog: int | None = None) -> socket.socket:
    """A socket to which others connect, at one address of this machine; an empty one is for all that it has."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
    family = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family, backlog=backlog)


def open_store(host: str, port: int) -> Store:
    """Open a store for the processes of a group; port 0 takes a free one.

    Nobody has to show who he is to a store, and torch unpickles what lies in some: that of processes of one machine is
    not to be reached from another one.

    Raises:
        MachineError: if the port is in use.
    """
    import torch.distributed as dist

    made: dict[str, Any] = {"wait_for_workers": False, "multi_tenant": port != 0}
    try:
        if is_loopback(host):  # torch by itself would listen at all addresses
            server = listening(host, port)
            port = server.getsockname()[1]
            made = {"wait_for_workers": False, "master_listen_fd": server.detach()}
        store: Store = dist.TCPStore(  # type: ignore[attr-defined]
            host, port, None, True, datetime.timedelta(seconds=STORE_S), **made
        )
        return store
    except (RuntimeError, OSError) as error:
        in_use = "EADDRINUSE" in str(error) or "in use" in str(error)
        said = "the port is in use" if in_use else (str(error).strip().splitlines() or ["no reason given"])[0]
        raise MachineError(
            f"the processes cannot meet at {host}:{port}: {said}\n"
            "  name another port: torchrun --master-port N, or MASTER_PORT where torchrun is not used"
        ) from error


@contextlib.contextmanager
def within(host: str) -> Iterator[None]:
    """Let gloo, which asks nobody who he is, listen on this machine alone where the processes meet on it."""
    names = {name for _, name in socket.if_nameindex()} & {"lo", "lo0"} if hasattr(socket, "if_nameindex") else set()
    if not is_loopback(host) or not names or _INTERFACE in os.environ:
        yield
        return
    os.environ[_INTERFACE] = names.pop()
    try:
        yield
    finally:
        os.environ.pop(_INTERFACE, None)
