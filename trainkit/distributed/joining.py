"""From what the environment says of a group to a process that is one of it."""

from __future__ import annotations

import contextlib
import datetime
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from trainkit.distributed.addresses import within
from trainkit.distributed.group import ONE, Group, PeerLost, asked_for
from trainkit.distributed.lifeline import Lifeline
from trainkit.distributed.meeting import Card, Meeting
from trainkit.errors import MachineError

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store  # type: ignore[attr-defined]  # a public name all the same

TIMEOUT_S = 300.0  # for all to arrive, and of silence after which another process counts as lost
_CONNECT_S = 20.0  # for torch to connect processes that have met
_NEWS_S = 1.0  # for the news that another process has ended
TIMEOUT = "TRAINKIT_GROUP_TIMEOUT"  # the environment variable that sets another number of seconds


def group_timeout(environ: Mapping[str, str] | None = None) -> float:
    """Seconds after which a process that does not come, or says nothing, counts as lost.

    Raises:
        MachineError: if the environment says no number.
    """
    text = (os.environ if environ is None else environ).get(TIMEOUT) or str(TIMEOUT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e6:
        raise MachineError(f"{TIMEOUT}={text}: it is the number of seconds that processes wait for each other")
    return seconds


def join(
    device: Callable[[int], torch.device] | None = None,
    environ: Mapping[str, str] | None = None,
    card: Card | None = None,
    parent: int | None = None,
    at_end: Callable[[str], None] | None = None,
    store: Store | None = None,
    look: Callable[[], None] | None = None,
) -> Group:
    """Join the group that the environment names, as torchrun sets it; a group of one where it names none.

    Args:
        device: gives this process's device by its number on the machine.
        environ: the environment; that of the process if not given.
        card: what must be alike in all processes; see `trainkit.distributed.meeting.Card`.
        parent: who started this process and is not to be outlived.
        at_end: told how this process ends where it has to be ended, since another one is gone.
        store: where the processes meet, if this is the first one and has opened it already.
        look: called again and again while others are waited for; may raise.

    Raises:
        MachineError: if the processes do not find each other, or have not the same versions.
        UsageError: if they have not the same recipe.
        PeerLost: if one is gone before they begin.
    """
    environ = os.environ if environ is None else environ
    if not asked_for(environ):
        return ONE
    numbers = _numbers(environ)
    seconds = group_timeout(environ)
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        raise MachineError("this process is one of another group already; each makes one training at a time")
    rank, size, local_rank = numbers["RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_RANK"]
    own = device(local_rank) if device is not None else torch.device("cpu")
    if own.type == "cuda":
        check_nccl()
        torch.cuda.set_device(own)
    hosted = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    meeting = Meeting(rank, size, environ["MASTER_ADDR"], numbers["MASTER_PORT"], hosted, seconds, card or {})
    met = meeting.meet(store, look)
    # Before torch connects all to all, in C: where another one ends meanwhile, this one is ended from its thread.
    lifeline = Lifeline(rank, size, met.lines, parent, at_end)
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    try:
        # All have just met. In torch's waiting for one that is gone since then nothing else of this process runs.
        brief = min(seconds, _CONNECT_S) if own.type == "cpu" else seconds
        with within(meeting.host):
            dist.init_process_group(
                backend, store=met.store, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=brief)
            )
        if brief < seconds:
            dist.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=seconds))
        restarts = _most(numbers["TORCHELASTIC_RESTART_COUNT"])
    except BaseException as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        of_torch = isinstance(error, RuntimeError | ValueError | OSError)
        lost = lifeline.lost(_NEWS_S) if of_torch else None
        # This process may live on, and make another group: nothing of this one is to end it, or to be in its way.
        lifeline.failed(said)
        lifeline.mute()
        if dist.is_initialized():
            with contextlib.suppress(Exception):
                dist.destroy_process_group()
        if not of_torch:
            raise
        if lost is not None:
            raise PeerLost(lost.told(size)) from error
        raise PeerLost(
            f"process {rank} of {size} met the others at {meeting.host}:{meeting.port}, and they cannot begin: {said}\n"
            "  another one may have ended; else see that machines reach each other on all ports, and that "
            "GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, where set, names the network between them"
        ) from error
    return Group(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=max(1, numbers["LOCAL_WORLD_SIZE"]),
        restarts=restarts,
        lifeline=lifeline,
    )


def check_nccl() -> None:
    """Hold that torch can let CUDA devices talk to each other.

    Raises:
        MachineError: if it is built without NCCL.
    """
    import torch.distributed as dist

    if not dist.is_nccl_available():
        raise MachineError(
            "this torch is built without NCCL, by which CUDA devices talk to each other\n"
            '  install a build of torch that has it (those for Linux do), write device = "cpu", or train in one process'
        )


def _numbers(environ: Mapping[str, str]) -> dict[str, int]:
    numbers = {}
    for name, default in _NAMES.items():
        text = environ.get(name, default)
        try:
            numbers[name] = int(text)
        except ValueError:
            numbers[name] = -1
        if numbers[name] < 0:
            raise MachineError(
                f"{name}={text}: it says which process of how many this is, or where they meet\n"
                "  torchrun sets it; where another program starts the processes it sets RANK, WORLD_SIZE, LOCAL_RANK, "
                "MASTER_ADDR and MASTER_PORT"
            )
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        size = numbers["WORLD_SIZE"]
        raise MachineError(f"RANK={numbers['RANK']}: with WORLD_SIZE={size} ranks are from 0 to {size - 1}")
    return numbers


_NAMES: Mapping[str, str] = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_PORT": "",
    "TORCHELASTIC_RESTART_COUNT": "0",
}


def _most(restarts: int) -> int:
    """How often the group was started again: of several machines, torchrun counts where a process has failed alone."""
    import torch
    import torch.distributed as dist

    highest = torch.tensor(restarts)
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    return int(highest)
