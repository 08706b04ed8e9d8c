"""Groups of processes that make a run together, started and started again as torchrun does, but forked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.soak.jobs import Home
from tests.soak.zygote import Zygote

END_S = 30.0  # a group of which one process has ended ends within so many seconds
FIND_S = 60.0  # and so long its processes look for each other
ASK_S = 6.0


class Agent:
    """Starts the processes of a group; a process of this one keeps their store, which outlives them.

    Args:
        zygote: starts processes.
        words: the command line of each.
        size: how many there are.
        log: takes what they say; one file each, with the rank behind its name.
    """

    def __init__(self, zygote: Zygote, words: list[str], size: int, log: Path) -> None:
        import torch.distributed as dist

        self.zygote, self.words, self.size, self.log = zygote, words, size, log
        self.store = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        self.restarts = -1
        self.asked = 0  # processes that had not noticed by themselves that another one was gone
        self.processes: list[int] = []

    def start(self, faults: Mapping[int, Mapping[str, Any]] | None = None) -> None:
        """Start all, each with the faults of its rank."""
        self.restarts += 1
        self.processes = []
        for rank in range(self.size):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.size),
                "LOCAL_WORLD_SIZE": str(self.size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(self.store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": str(self.restarts),
                "TRAINKIT_GROUP_TIMEOUT": str(FIND_S),
            }
            own = (faults or {}).get(rank, {})
            log = f"{self.log}.{rank}"
            self.processes.append(self.zygote.start(self.words, log=log, environment=environment, **own))

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of them, if it is still there."""
        _send(self.processes[rank], number)

    def end(self) -> list[int | None]:
        """Exit codes of all, one of which has been killed; ``None`` of those that have not ended within 30 s.

        Those that are there after a few seconds are asked to stop, as torchrun asks at once: before they have found
        each other they cannot know.
        """
        deadline = time.monotonic() + END_S
        codes = {process: self.zygote.wait_within(process, ASK_S / self.size) for process in self.processes}
        left = [process for process, code in codes.items() if code is None]
        self.asked += len(left)
        for process in left:
            _send(process, signal.SIGTERM)
        return [code if code is not None else self._ended(process, deadline) for process, code in codes.items()]

    def wait(self, seconds: float = 120.0) -> list[int | None]:
        """Exit codes of all; ``None`` of those that had not ended after so many seconds, which are killed."""
        deadline = time.monotonic() + seconds
        return [self._ended(process, deadline) for process in self.processes]

    def _ended(self, process: int, deadline: float) -> int | None:
        code = self.zygote.wait_within(process, max(0.0, deadline - time.monotonic()))
        if code is None:
            _send(process, signal.SIGUSR1)  # it says where it stands
            time.sleep(0.2)
            _send(process, signal.SIGKILL)
            self.zygote.wait(process)
        return code

    def run(self, faults: Mapping[int, Mapping[str, Any]] | None = None, seconds: float = 120.0) -> list[int | None]:
        """Start and wait."""
        self.start(faults)
        return self.wait(seconds)

    def told(self) -> str:
        """What all of them have said."""
        return "\n".join(
            f"{rank}: {Path(f'{self.log}.{rank}').read_text(encoding='utf-8', errors='replace')}"
            for rank in range(self.size)
        )


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


class GroupHome(Home):
    """A home of runs that several processes make together.

    Args:
        path: the folder.
        zygote: starts processes.
        size: how many processes make a run.
        more: words beside the recipe.
        kind: of `tests.soak.jobs.Home`.
    """

    def __init__(self, path: Path, zygote: Zygote, size: int, more: Sequence[str] = (), **kind: Any) -> None:
        self.size, self.more = size, more
        super().__init__(path, zygote, **kind)

    def agent(self, name: str, *more: str, size: int = 0) -> Agent:
        """Starts the processes of a run, as many as is usual here or ``size``."""
        words = [str(self.recipe), "--run-dir", str(self.path / name), "-q", *self.more, *more]
        return Agent(self.zygote, words, size or self.size, self.path / f"{name}.txt")

    def run(self, name: str, **faults: Any) -> int:
        """Begin a run or go on with it, until it ends; its exit code."""
        codes = self.agent(name, "--resume").run({0: faults})
        return 0 if set(codes) == {0} else next(code or 70 for code in codes if code != 0)

    def told(self, name: str) -> str:
        """What the processes of a run have said."""
        return Agent.told(self.agent(name))
