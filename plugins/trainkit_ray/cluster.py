"""Coming to a cluster and leaving it, quietly: what Ray prints, asks and does with signals stays out of a search."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from trainkit import MachineError
from trainkit_ray.address import CLIENT, address_of, check_client, knock
from trainkit_ray.share import Share

# Without it Ray asks or tells about usage statistics, and sends them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's announcement of what it will do with CUDA_VISIBLE_DEVICES; it does so from now on.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Where a cluster is gone Ray would begin another one by itself, and go on there.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
# With grpcio at hand gRPC would tell on standard error of every process that is begun beside its threads.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

OBJECTS = 80 << 20  # bytes of shared memory for a cluster of our own: only messages travel; Ray takes no less
LOOK_S = 2.0  # seconds of silence after which somebody looks whether the cluster is still there
GONE = 3  # looks that find nobody: then it is not
LEAVE_S = 15.0


class Connection:
    """This process's place in a cluster.

    Args:
        cluster: as the setting of that name.
        where: what the user said on the command line: an address, auto, local, or nothing.
    """

    def __init__(self, cluster: str, where: str = "") -> None:
        self.began = False  # whether the cluster is our own
        self.came = False  # whether we came to it, and have to leave
        self._print: Any = None
        self._missed = 0
        self._looked = time.monotonic()
        self._head = ""
        self._come(address_of(cluster, where))

    def _come(self, address: str) -> None:
        import ray

        if not ray.is_initialized():
            options: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": logging.CRITICAL,
                "configure_logging": True,
            }
            with _own_signals(), _quiet():
                self.began = not _connected(address, options)
                if self.began:
                    _begun(options)
            self.came = True
            self._print = _silenced()
        head: Any = ray.get_runtime_context()
        _of_clients().setLevel(logging.CRITICAL)  # it would tell of each try to reach the server again
        # A client reaches the cluster through its server alone.
        self._head = address.removeprefix(CLIENT) if address.startswith(CLIENT) else str(head.gcs_address)

    def room(self, share: Share, processes: int) -> int:
        """How many workers for runs of so many processes the whole cluster has room for."""
        return sum(share.fits(node, processes) for node in _nodes())

    @property
    def gpus(self) -> bool:
        """Whether any node has a GPU."""
        return any(node.get("GPU", 0.0) for node in _nodes())

    def look(self) -> None:
        """See now and then whether the cluster's head is there; Ray itself waits a minute and then ends the process.

        Raises:
            MachineError: if it is not.
        """
        if time.monotonic() - self._looked < LOOK_S or not self._head:
            return
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), LOOK_S).close()
        except OSError:
            self._missed += 1
        else:
            self._missed = 0
        self._looked = time.monotonic()
        if self._missed >= GONE:
            raise gone(self._head)

    @property
    def there(self) -> bool:
        """Whether this process is still connected; Ray would come to some cluster by itself where it is not."""
        import ray

        return bool(ray.is_initialized()) and not self._missed

    def leave(self) -> None:
        """Leave the cluster, and end it if it is our own; one that is gone is not waited for."""
        import ray

        if not self.came:
            return
        self.came = False

        def leave() -> None:
            with contextlib.suppress(Exception), _quiet():
                ray.shutdown()
            _of_clients().setLevel(logging.NOTSET)
            _silenced(self._print)

        if self._missed == 0:
            with _own_signals():
                leave()
            return
        thread = threading.Thread(target=leave, daemon=True)
        thread.start()
        thread.join(LEAVE_S)


def gone(where: str) -> MachineError:
    """The error for a cluster that was there before."""
    return MachineError(
        f"the Ray cluster {where} is gone\n"
        "  nothing is lost: once it is there again, trainkit resume FOLDER goes on from the newest checkpoints"
    )


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Make of what Ray says where its processes are gone an error of the machine."""
    import ray

    try:
        yield
    except (ray.exceptions.RaySystemError, ray.exceptions.RpcError, ConnectionError) as error:
        lost = "Ray client" in str(error)
        raise gone("(out of reach for its client)" if lost else f"({reason(error)})") from error


def reason(error: Exception) -> str:
    """The sentence of an error of Ray's that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "cause" in line.lower() or "Error:" in line or "died" in line.lower()]
    return (telling or lines or [type(error).__name__])[-1][:300]


def _nodes() -> list[dict[str, float]]:
    """What each node that is there has."""
    import ray

    listed: Any = ray.nodes  # without annotations
    return [node["Resources"] for node in listed() if node["Alive"]]


def node_died(error: Exception) -> bool:
    """Whether a worker is dead because its node is."""
    told = str(error).lower()
    return "node has died" in told or "node is dead" in told or "node died" in told or "node failure" in told


def _connected(address: str, options: dict[str, Any]) -> bool:
    """Come to a cluster that runs; whether there is one.

    Raises:
        MachineError: if the one that is named does not answer.
    """
    import ray

    if address == "local":
        return False
    if address.startswith(CLIENT):
        check_client(address)
        options = {key: options[key] for key in ("log_to_driver", "logging_level")}  # the rest is of this process
    try:
        knock(address)
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises what its layers raise: ConnectionError, RuntimeError, ValueError
        if address == "auto" and "RAY_ADDRESS" not in os.environ and isinstance(error, ConnectionError):
            return False
        with contextlib.suppress(Exception):
            ray.shutdown()  # a client that has half come keeps others out
        where = "of this machine" if address == "auto" else address
        cures = ["begin it with: ray start --head"]
        if address != "auto" and not address.startswith(CLIENT):
            host = address.rpartition(":")[0]
            cures.append(f"from a machine that is not of the cluster: --on ray://{host}:10001")
        else:
            cures.append('cluster = "local", or --on local, begins one for this search alone')
        raise MachineError(
            f"the Ray cluster {where} cannot be reached: {reason(error)}\n  {'; '.join(cures)}"
        ) from error
    return True


def _begun(options: dict[str, Any]) -> None:
    import ray

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        ray.init(address="local", num_cpus=cores, include_dashboard=False, object_store_memory=OBJECTS, **options)
    except Exception as error:
        said = str(error).strip().splitlines()
        raise MachineError(
            f"no Ray cluster could be begun here: {said[0] if said else type(error).__name__}\n"
            '  executor = "processes" trains in processes of this machine without Ray'
        ) from error


def _of_clients() -> logging.Logger:
    return logging.getLogger("ray.util.client")


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers that the search has set: Ray puts one of its own for SIGTERM, which exits at once.

    A signal that has met Ray's is given to the search's.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    held = {number: signal.getsignal(number) for number in numbers}
    met: int | str | None = None
    try:
        yield
    except SystemExit as end:
        met = end.code
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in held.items():
                if handler is not None:
                    signal.signal(number, handler)
            if isinstance(met, int) and met in numbers:
                signal.raise_signal(met)


def _silenced(instead: Any = None) -> Any:
    """Take from Ray what prints its errors about nodes and processes; the search says what became of its trials.

    There is no setting for it: ``log_to_driver`` is about workers alone (Ray 2.60).

    Args:
        instead: what prints from now on; ``None`` for nothing.

    Returns:
        What printed before.
    """
    try:
        from ray._private import worker

        before = worker.print_to_stdstream
        worker.print_to_stdstream = instead or (lambda *args, **options: None)
    except (ImportError, AttributeError):  # another version has another name for it: then it prints
        return None
    return before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray prints and warns of while it comes and goes out of the search's lines."""
    import warnings

    logger = logging.getLogger("ray")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
