"""Groups of which any process is killed at any instant: they end within 30 s, are started again, and end alike."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.soak.agent import END_S, GroupHome
from tests.soak.kills import AIMED, wait_for_a_save
from tests.soak.zygote import Zygote

KILLS_OF_A_RUN = 5
EARLY = 0.2
TERMED = 0.15  # of the kills are asked to stop instead
# Two processes write checkpoints in the background; three let training wait, and each has a process that makes batches;
# where the model is divided all write.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "two": {"size": 2},
    "three": {"size": 3, "background": False, "workers": 1},
    "divided": {"size": 2, "more": ["run.strategy=fsdp"]},
}


def check(count: int, seed: int, kinds: Sequence[str] = tuple(KINDS), duration: str = "8ep") -> list[str]:
    """Kill a process of a group ``count`` times, five times each run, and compare how the runs end.

    What is trained is that of `tests.soak.kills`, in turn by groups of each of ``kinds``. Whoever starts the processes
    again gives them the command that began the run.
    """
    failures: list[str] = []
    inside = resumed = asked = 0
    longest = 0.0
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-group-") as top, Zygote() as zygote:
        runs = -(-count // KILLS_OF_A_RUN)
        homes = [
            GroupHome(Path(top) / kind, zygote, duration=duration, save_every="1ba", **KINDS[kind])
            for kind in kinds[:runs]
        ]
        for number in range(runs):
            home, name = homes[number % len(homes)], f"run-{number}"
            mark = home.path / f"{name}.mark"
            agent = home.agent(name)
            for _ in range(min(KILLS_OF_A_RUN, count - KILLS_OF_A_RUN * number)):
                agent.start({0: {"mark": str(mark)}})
                early = rng.random() < EARLY  # while they begin, which is most of the time that a short run takes
                time.sleep(rng.uniform(*((0.02, 0.3) if early else (0.3, 0.9))) * home.took)
                if rng.random() < AIMED:
                    wait_for_a_save(mark)
                    time.sleep(rng.uniform(0, 0.001))
                rank = rng.randrange(home.size)
                agent.kill(rank, signal.SIGTERM if rng.random() < TERMED else signal.SIGKILL)
                begun = time.perf_counter()
                codes = agent.end()
                longest = max(longest, time.perf_counter() - begun)
                inside += bool(rank == 0 and mark.exists() and mark.read_bytes()[:1] == b"\x01")
                resumed += (home.path / name / "checkpoints").is_dir()
                if None in codes:
                    failures.append(f"{name}: {codes} {END_S:g} s after rank {rank} was killed:\n{agent.told()[-900:]}")
                if "Traceback" in agent.told():
                    failures.append(f"{name}: {agent.told()[-1500:]}")
                    break
                if set(codes) == {0}:
                    break
            asked += agent.asked
            codes = agent.run()
            if set(codes) != {0}:
                failures.append(f"{name}: the last attempt ended with {codes}:\n{agent.told()[-900:]}")
            elif difference := home.differs(name):
                failures.append(f"{name} of {home.path.name}: {difference}")
    check.note = f"{inside} in a save, {resumed} after one; ends within {longest:.1f} s, {asked} asked to"  # type: ignore[attr-defined]
    return failures
