"""Where a cluster is: what the command line, the environment and the recipe say of it."""

from __future__ import annotations

import importlib.util
import os
import socket

from trainkit import MachineError, UsageError

CLIENT = "ray://"
REACH_S = 5.0  # seconds that a cluster may take to answer; Ray itself would try for minutes, and print each try


def address_of(cluster: str, where: str) -> str:
    """Where the cluster is: ``host:port``, ``ray://host:port``, ``auto`` for any that this machine knows, or ``local``.

    Raises:
        UsageError: if what the user said is none of them.
    """
    if not where:
        found = os.environ.get("RAY_ADDRESS")
        return "local" if cluster == "local" or found == "local" else found or "auto"
    if where in ("auto", "local"):
        return (os.environ.get("RAY_ADDRESS") or "auto") if where == "auto" else "local"
    host, colon, port = where.removeprefix(CLIENT).rpartition(":")
    if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 1 << 16) or "/" in host:
        raise UsageError(
            f"--on {where}: it is no address of a Ray cluster\n"
            "  write ray://HOST:10001 from any machine, HOST:6379 on a machine of the cluster, auto, or local"
        )
    return where


def knock(address: str) -> None:
    """See whether anybody answers where an address says that a cluster is; ``auto`` and the like say nothing of where.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if host and port.isascii() and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()


def check_client(address: str) -> None:
    """See whether Ray's client can be used, and whether a server of it answers."""
    if importlib.util.find_spec("grpc") is None:
        raise MachineError(
            f"{address}: Ray's client needs the library 'grpcio'; install it with: pip install 'trainkit[ray]'"
        )
    try:
        knock(address)
    except (OSError, OverflowError) as error:
        raise MachineError(
            f"the Ray cluster {address} cannot be reached: {error}\n"
            "  its head must run the server of Ray's clients: ray start --head --ray-client-server-port=10001, with "
            "pip install 'ray[client]'"
        ) from error
