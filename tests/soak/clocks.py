"""G12: the clock may stand, run backwards or be years off: the same weights, checkpoints and choice of the newest."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from tests.soak.faults import DEAD
from tests.soak.jobs import Home
from tests.soak.zygote import Zygote

CLOCKS = ("frozen", "backwards", "future", "past")


def check(count: int, seed: int) -> list[str]:
    """Interrupt ``count`` runs under clocks that are wrong, with all times of files equal or turned round."""
    failures = []
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-clocks-") as top, Zygote() as zygote:
        home = Home(Path(top) / "home", zygote)
        expected = sorted(os.listdir(home.whole / "checkpoints"))
        for number in range(count):
            name = f"run-{number}"
            clocks = rng.choice(CLOCKS), rng.choice(CLOCKS)
            where = f"{name}: clocks {clocks}"
            code = home.run(name, clock=clocks[0], die={"save": rng.randint(2, 4), "call": 1, "when": "before"})
            if code != DEAD:
                failures.append(f"{where}: exit code {code} where it should have died")
                continue
            folders = sorted((home.path / name / "checkpoints").glob("step-*"))
            for age, folder in enumerate(folders):
                moment = 1_000_000_000 - (age if number % 2 else 0)
                os.utime(folder, (moment, moment))
            if code := home.run(name, clock=clocks[1]):
                failures.append(f"{where}: going on ended with {code}:\n{home.told(name)[-600:]}")
            elif difference := home.differs(name):
                failures.append(f"{where}: {difference}")
            elif (kept := sorted(os.listdir(home.path / name / "checkpoints"))) != expected:
                failures.append(f"{where}: {kept} were kept, not {expected}")
    return failures
