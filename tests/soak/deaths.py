"""G2: a process may die before and after each I/O call of a save."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from tests.soak.faults import DEAD
from tests.soak.jobs import Home
from tests.soak.zygote import Zygote


def check(count: int, seed: int) -> list[str]:
    """Die at ``count`` places, drawn from all those of the first, a middle and the last save, and compare the ends.

    All places are taken where there are no more than ``count``.
    """
    failures = []
    with tempfile.TemporaryDirectory(prefix="soak-deaths-") as top, Zygote() as zygote:
        places = []
        for background in (True, False):
            calls = Path(top) / f"{background}.json"
            home = Home(Path(top) / str(background), zygote, background, calls=calls)
            saves = json.loads(calls.read_text(encoding="utf-8"))
            for save in (0, len(saves) // 2, len(saves) - 1):
                places += [(home, save, c + 1, w) for c in range(len(saves[save])) for w in ("before", "after")]
        if count < len(places):
            places = random.Random(seed).sample(places, count)
        for number, (home, save, call, when) in enumerate(places):
            name = f"run-{number}"
            where = f"{home.path.name}: {when} call {call} of save {save}"
            code = home.run(name, die={"save": save, "call": call, "when": when})
            if code != DEAD:
                failures.append(f"{where}: did not die, exit code {code}")
            elif code := home.run(name):
                failures.append(f"{where}: going on ended with {code}:\n{home.told(name)[-600:]}")
            elif difference := home.differs(name):
                failures.append(f"{where}: {difference}")
        check.cases = len(places)  # type: ignore[attr-defined]
    return failures
