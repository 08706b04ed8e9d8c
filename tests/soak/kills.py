"""G1: a run that is killed at any instant goes on to the same end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from tests.soak.jobs import Home
from tests.soak.zygote import Zygote

KILLS_OF_A_RUN = 5
AIMED = 0.4  # of the kills wait for the next save to begin


def check(count: int, seed: int, duration: str = "16ep") -> list[str]:
    """Kill runs ``count`` times, five times each, and compare how they end.

    Shuffled data from two worker processes, mixup, dropout, EMA, a schedule with a reaction, accumulation; every second
    run waits for its checkpoints, the others write them in the background.
    """
    failures, inside, resumed = [], 0, 0
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-kills-") as top, Zygote() as zygote:
        runs = -(-count // KILLS_OF_A_RUN)
        homes = [
            Home(Path(top) / str(background), zygote, background, duration, "1ba", workers=2)
            for background in (True, False)[:runs]
        ]
        for number in range(runs):
            home, name = homes[number % 2], f"run-{number}"
            mark = home.path / f"{name}.mark"
            for _ in range(min(KILLS_OF_A_RUN, count - KILLS_OF_A_RUN * number)):
                process = zygote.start(home.words(name), log=str(home.path / f"{name}.txt"), mark=str(mark))
                time.sleep(rng.uniform(0.02, home.took * 0.7))
                if rng.random() < AIMED:
                    wait_for_a_save(mark)
                    time.sleep(rng.uniform(0, 0.001))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                code = zygote.wait(process)
                state = mark.read_bytes() if mark.exists() else b""
                inside += bool(state and state[0] and code == -signal.SIGKILL)
                resumed += (home.path / name / "checkpoints").is_dir()
                if code not in (0, 2, -signal.SIGKILL):  # 2: it was over already
                    failures.append(f"{name} of {home.path.name}: exit code {code}:\n{home.told(name)[-600:]}")
            code = home.run(name)
            if code not in (0, 2):
                failures.append(f"{name}: the last resume ended with {code}:\n{home.told(name)[-600:]}")
            elif difference := home.differs(name, tidied=not code):
                failures.append(f"{name}: {difference}")
    check.note = f"{inside} inside a save, {resumed} after one"  # type: ignore[attr-defined]
    return failures


def wait_for_a_save(mark: Path) -> None:
    """Come back in the next save that a process makes; after a while in any case."""
    deadline = time.perf_counter() + 0.5
    with contextlib.suppress(OSError), mark.open("rb", buffering=0) as file:
        while time.perf_counter() < deadline:
            if os.pread(file.fileno(), 1, 0) == b"\x01":
                return
