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

# Without it Ray asks or tells about usage statistics, and sends them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's announcement of what it will do with CUDA_VISIBLE_DEVICES; it does so from now on.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

OBJECTS = 80 << 20  # bytes of shared memory for a cluster of our own: only messages travel; Ray takes no less
LOOK_S = 2.0  # seconds of silence after which somebody looks whether the cluster is still there
GONE = 3  # looks that find nobody: then it is not
LEAVE_S = 15.0


class Connection:
    """This process's place in a cluster.

    Args:
        cluster: as the setting of that name.
    """

    def __init__(self, cluster: str) -> None:
        self.began = False  # whether the cluster is our own
        self.came = False  # whether we came to it, and have to leave
        self._print: Any = None
        self._missed = 0
        self._looked = time.monotonic()
        self._head = ""
        self._come(cluster)

    def _come(self, cluster: str) -> None:
        import ray

        if not ray.is_initialized():
            options: dict[str, Any] = {
                "log_to_driver": False,
                "logging_level": logging.CRITICAL,
                "configure_logging": True,
            }
            with _own_signals(), _quiet():
                self.began = not _connected(cluster, options)
                if self.began:
                    _begun(options)
            self.came = True
            self._print = _silenced()
        self._head = str(ray.get_runtime_context().gcs_address)

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers the whole cluster has room for."""
        import ray

        listed: Any = ray.nodes  # without annotations
        nodes = [node["Resources"] for node in listed() if node["Alive"]]
        return sum(
            min(int(held.get("CPU", 0.0) / cpus), int(held.get("GPU", 0.0) / gpus) if gpus else 1 << 30)
            for held in nodes
        )

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
        "  nothing is lost: once it is there again, trainkit resume STUDY goes on from the trials' newest checkpoints"
    )


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Make of what Ray says where its processes are gone an error of the machine."""
    import ray

    try:
        yield
    except (ray.exceptions.RaySystemError, ray.exceptions.RpcError, ConnectionError) as error:
        raise gone(f"({reason(error)})") from error


def reason(error: Exception) -> str:
    """The sentence of an error of Ray's that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "cause" in line.lower() or "Error:" in line or "died" in line.lower()]
    return (telling or lines or [type(error).__name__])[-1][:300]


def _connected(cluster: str, options: dict[str, Any]) -> bool:
    """Come to a cluster that runs; whether there is one.

    Raises:
        MachineError: if the one that the environment names does not answer, or is that of a Ray client.
    """
    import ray

    asked = os.environ.get("RAY_ADDRESS")
    if cluster == "local" or asked == "local":
        return False
    if asked and "://" in asked:
        raise MachineError(
            f"RAY_ADDRESS = {asked} is that of a Ray client, which cannot hold workers\n"
            "  set the address of the cluster itself, such as 10.0.0.1:6379, and search on one of its nodes"
        )
    try:
        ray.init(address=asked or "auto", **options)
    except Exception as error:  # Ray raises what its layers raise: ConnectionError, RuntimeError, ValueError
        if not asked and isinstance(error, ConnectionError):
            return False
        where = asked if asked and asked != "auto" else "of this machine"
        said = str(error).strip().splitlines()
        raise MachineError(
            f"the Ray cluster {where} cannot be reached: {said[0] if said else type(error).__name__}\n"
            '  begin it with: ray start --head; or cluster = "local" begins one for this search alone'
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


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers that the search has set: Ray puts one of its own for SIGTERM, which exits at once."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    held = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in held.items():
                if handler is not None:
                    signal.signal(number, handler)


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
