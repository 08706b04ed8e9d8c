"""The other processes of a run that was not started as one of several: this process is the first, and starts the rest.

So a trial of a search, a member of an ensemble or a program that calls `trainkit.launch.launch` trains in as many
processes as ``[run] processes`` says. They end with this one: each has a pipe from it, which the kernel closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from trainkit.device import choose_device
from trainkit.distributed import ONE, Group, PeerLost
from trainkit.distributed.addresses import open_store
from trainkit.distributed.attempts import scratch
from trainkit.distributed.failed import error_of, killed
from trainkit.distributed.group import asked_for
from trainkit.distributed.joining import join
from trainkit.distributed.notes import ERROR_FILE, RESTARTS, endings
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml

_HOST = "127.0.0.1"
_END_S = 20.0  # how long the others may take to end when the run is over
_LAST_WORDS_S = 3.0  # within which a process that fails has said why


def wanted(recipe: Recipe, group: Group) -> int:
    """How many processes this one is the first of, which are not there yet; 1 where there is nothing to start."""
    if group.size > 1 or asked_for() or "TORCHELASTIC_RUN_ID" in os.environ:
        return 1
    return int(recipe.tables["run"]["processes"])


@contextlib.contextmanager
def leading(recipe: Recipe, plugins: Plugins, group: Group, test: bool = True) -> Iterator[Group]:
    """The group that makes a run: the one that is there, or one with processes that are started for this block.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        group: what this process is one of already.
        test: whether the test split is measured at the end, in which all take part.

    Raises:
        TrainkitError: if one of them cannot start or fails by itself; what it said.
    """
    if (size := wanted(recipe, group)) == 1:
        yield group
        return
    choose_device(recipe.tables["run"]["device"], size - 1)  # before anything is started
    before = torch.get_num_threads()
    with scratch() as folder:
        others = _Followers(size, folder / "attempt_0")
        if recipe.tables["run"]["threads"] is None:
            torch.set_num_threads(max(1, before // size))
        try:
            led = others.start(recipe, plugins, test, torch.get_num_threads())
            try:
                yield led
            except BaseException as error:
                led.fail(error)
                if (cause := others.cause(error)) is not error:
                    raise cause from error
                raise
            led.leave()
            others.wait()
        finally:
            torch.set_num_threads(before)
            others.quit()


class _Followers:
    """The processes 1 to ``size`` - 1, and what this one knows of them.

    Args:
        size: how many processes make the run, this one included.
        folder: for what they leave behind.
    """

    def __init__(self, size: int, folder: Path) -> None:
        self.size = size
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._group = ONE

    def start(self, recipe: Recipe, plugins: Plugins, test: bool, threads: int) -> Group:
        """Start them, and meet."""
        store: Any = open_store(_HOST, 0)
        environ = {"MASTER_ADDR": _HOST, "MASTER_PORT": str(store.port), "WORLD_SIZE": str(self.size)}
        environ |= {"LOCAL_WORLD_SIZE": str(self.size), RESTARTS: "0"}
        told = {
            "recipe": fill_toml(recipe),
            "name": str(recipe.path),
            "modules": list(plugins.modules),
            "without": list(plugins.without),
            "test": test,
            "threads": threads,
        }
        for rank in range(1, self.size):
            self._processes[rank] = self._begin(rank, environ, told)
        own = {**os.environ, **environ, "RANK": "0", "LOCAL_RANK": "0"}
        own.pop("TORCHELASTIC_USE_AGENT_STORE", None)
        device = recipe.tables["run"]["device"]
        self._group = join(lambda number: choose_device(device, number), own, store=store, look=self._look)
        return self._group

    def _begin(self, rank: int, environ: Mapping[str, str], told: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        place = self._folder / str(rank)
        place.mkdir(parents=True)
        # -P: nothing is imported from the folder one stands in. What this process could import, the others can.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), ERROR_FILE: str(place / "error.json"), "PYTHONPATH": path}
        own["OMP_NUM_THREADS"] = str(told["threads"])
        with (place / "printed.txt").open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trainkit.follower"],
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environ, **own},
                start_new_session=True,  # Ctrl-C in a terminal is for this process, which all follow
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # how it has ended is seen where it is waited for
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        return process

    def _look(self) -> None:
        """Called while they are waited for: hold that all of them live.

        Raises:
            TrainkitError: what one has said that does not.
        """
        for process in self._processes.values():
            if process.poll() is not None:
                raise self.cause(PeerLost(""))

    def cause(self, error: BaseException) -> BaseException:
        """What one of them has said as it failed, where an error is only that it is gone; else the error."""
        error = self._group.blamed(error)
        if not isinstance(error, PeerLost):
            return error
        until = time.monotonic() + _LAST_WORDS_S
        while True:
            failed = [ending for ending in endings(self._folder) if ending.code and not ending.lost]
            if failed:
                return error_of(failed[0], self.size)
            gone = [rank for rank, process in self._processes.items() if process.poll() is not None]
            if time.monotonic() > until or gone:
                break
            time.sleep(0.05)
        if not gone:
            return error
        rank = gone[0]
        return killed(rank, self.size, self._processes[rank].returncode, self._folder / str(rank) / "printed.txt")

    def wait(self) -> None:
        """Let them end by themselves; the run is over."""
        until = time.monotonic() + _END_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))

    def quit(self) -> None:
        """End those that have not ended, and give back what the group has used."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        self._group.dissolve()
