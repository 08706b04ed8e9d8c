"""G10: a data worker is killed at a random instant; the run ends the same, or says what to do, and never hangs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from tests.soak import rig
from trainkit import TrainkitError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

STREAMED = {"loading": "streamed", "workers": 2}
LONGEST_S = 10.0  # from the death of a worker to the next update


class Killer:
    """Kills a worker a while after the run began, and measures how long the next update takes to come."""

    def __init__(self, after: float, chance: random.Random) -> None:
        self.after = after
        self.chance = chance
        self.killed_at = 0.0
        self.longest = 0.0

    @hookimpl
    def trainkit_run_start(self) -> None:
        threading.Thread(target=self._kill, daemon=True).start()

    @hookimpl
    def trainkit_step_end(self) -> None:
        time.sleep(0.005)  # the run lasts long enough to be met
        if self.killed_at:
            self.longest, self.killed_at = max(self.longest, time.monotonic() - self.killed_at), 0.0

    def _kill(self) -> None:
        time.sleep(self.after)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if workers := children():
                self.killed_at = time.monotonic()
                os.kill(self.chance.choice(workers), signal.SIGKILL)
                return
            time.sleep(0.001)


def children() -> list[int]:
    """The processes that this one has started and that run."""
    own = os.getpid()
    found = []
    for task in Path(f"/proc/{own}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += [int(word) for word in (task / "children").read_text(encoding="utf-8").split()]
    return found


def check(count: int, seed: int) -> list[str]:
    """Kill a worker in each of so many runs; what went wrong."""
    wrong = []
    chance = random.Random(seed)
    plugins = Plugins()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        recipe = load_recipe(rig.write(top / "r.toml", data=STREAMED), [], plugins)
        launch(recipe, plugins, folder=top / "straight")
        for number in range(count):
            killer = Killer(chance.uniform(0.0, 0.4), chance)
            folder = top / f"run-{number}"
            begun = time.monotonic()
            try:
                report = launch(recipe, plugins, folder=folder, listeners=[killer])
            except TrainkitError as error:
                if error.exit_code != 4 or "workers" not in str(error):
                    wrong.append(f"run {number}: {error}")
                continue
            if report.status == "interrupted":  # by `timeout`, say, which sends one signal and waits
                return [*wrong, f"run {number}: {report.reason}, sent to the soak itself, which ends here"]
            lasted = time.monotonic() - begun
            if killer.longest > LONGEST_S or lasted > LONGEST_S:
                wrong.append(f"run {number}: {lasted:.1f} s, {killer.longest:.1f} s from the death to the next update")
            wrong += [f"run {number}: {what}" for what in rig.differences(top / "straight", folder)]
    return wrong
