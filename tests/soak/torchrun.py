"""A run under torchrun of which any process is killed: it is started again, and ends as if none had been killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.soak import rig

SECONDS = 600.0  # for a run with its kills
KILLS_OF_A_RUN = 5
WORDS = ("--max-restarts", "1000", "--nproc-per-node", "2", "-m", "trainkit")
RUN = {"duration": "12ep", "save_every": "1ba"}


def check(count: int, seed: int) -> list[str]:
    """Kill processes of groups ``count`` times, five times each run, and compare how the runs end."""
    rng, failures = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="soak-torchrun-") as name:
        top = Path(name)
        recipe = rig.write(top / "r.toml", run=RUN)
        straight = _start(recipe, top / "straight", top)
        if straight.wait(SECONDS):
            return [f"the run that nothing interrupts: {(top / 'straight.txt').read_text()[-900:]}"]
        for number in range(-(-count // KILLS_OF_A_RUN)):
            folder = top / f"run-{number}"
            agent = _start(recipe, folder, top)
            for _ in range(min(KILLS_OF_A_RUN, count - KILLS_OF_A_RUN * number)):
                _kill_one(agent, folder, rng)
            try:
                code = agent.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(agent.pid, signal.SIGKILL)
                code = agent.wait()
            told = (top / f"{folder.name}.txt").read_text(encoding="utf-8", errors="replace")
            if code:
                failures.append(f"{folder.name}: exit code {code}: {told[-900:]}")
            elif "Traceback" in told:
                failures.append(f"{folder.name}: {told[-1500:]}")
            else:
                failures += [f"{folder.name}: {what}" for what in rig.differences(top / "straight", folder)]
    return failures


def _start(recipe: Path, folder: Path, top: Path) -> subprocess.Popen[bytes]:
    """Start a run with torchrun; what its processes say goes into a file beside the folder."""
    with (top / f"{folder.name}.txt").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *WORDS, "run", str(recipe), "--run-dir", str(folder), "-q"],
            cwd=top,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _kill_one(agent: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> None:
    """Kill one of the processes at a random instant, once they train; mostly a moment after an update."""
    deadline, before = time.monotonic() + 60, _length(folder)
    while agent.poll() is None and time.monotonic() < deadline and _length(folder) <= before:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.5))
    ranks = ranks_of(agent.pid)
    if ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(ranks[rng.choice(sorted(ranks))], signal.SIGKILL)


def _length(folder: Path) -> int:
    """How much the run has logged."""
    try:
        return (folder / "metrics.jsonl").stat().st_size
    except OSError:
        return 0


def ranks_of(agent: int) -> dict[int, int]:
    """The processes that a process has started as ranks of a group: ``{rank: process}``."""
    found = {}
    for text in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{text}/environ").read_bytes().split(b"\0"):
                if entry.startswith(b"RANK="):
                    found[int(entry[5:])] = int(text)
    return found
