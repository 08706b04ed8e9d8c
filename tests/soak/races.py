"""G13: of several processes that begin in one run folder exactly one runs; the others change nothing."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path

from tests.soak.jobs import Home
from tests.soak.zygote import Zygote


def check(count: int, seed: int) -> list[str]:
    """Let 2 to 8 processes begin at once, ``count`` times; then kill the one that runs, and go on at once."""
    failures = []
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="soak-races-") as top, Zygote() as zygote:
        short = Home(Path(top) / "short", zygote)
        for number in range(count):
            name, starters = f"run-{number}", rng.randint(2, 8)
            words = [*short.words(name), "run.duration=100000ep"]
            resume = rng.random() < 0.5
            if not resume:
                words.remove("--resume")
            begin = time.time() + 0.05 + 0.02 * starters
            files = [short.path / f"{name}-{i}.seconds" for i in range(starters)]
            processes = [
                zygote.start(words, begin=begin, seconds=str(file), log=str(short.path / f"{name}.txt"))
                for file in files
            ]
            where = f"race {number} of {starters}{' with --resume' if resume else ''}"
            # All but one end by themselves; the one that runs would go on for hours.
            deadline = time.time() + 60
            while time.time() < deadline and sum(file.exists() for file in files) < starters - 1:
                time.sleep(0.005)
            time.sleep(0.02)
            ended = [file.exists() for file in files]
            if sum(ended) != starters - 1:
                failures.append(f"{where}: {sum(ended)} have ended:\n{short.told(name)[-600:]}")
                for process in processes:
                    os.kill(process, signal.SIGKILL)
                    zygote.wait(process)
                continue
            winner = processes[ended.index(False)]
            for process, file in zip(processes, files, strict=True):
                if process == winner:
                    continue
                code = zygote.wait(process)
                wall, cpu = map(float, file.read_text(encoding="utf-8").split())
                if code != 3:
                    failures.append(f"{where}: one that did not run has exit code {code}:\n{short.told(name)[-600:]}")
                # Each shares the processors with the others here, and with whatever else runs; none waits for the lock.
                if cpu > 2.0 or wall > 5.0 + starters:
                    failures.append(f"{where}: one that did not run took {wall:.2f} s, {cpu:.2f} s of CPU time")
            folder = short.path / name
            deadline = time.time() + 60
            while time.time() < deadline and not list(folder.glob("checkpoints/step-*")):
                time.sleep(0.005)
            os.kill(winner, signal.SIGSTOP)
            time.sleep(0.05)  # calls that are under way come to their end
            before = _contents(folder)
            late = zygote.run(words, log=str(short.path / f"{name}.txt"))
            if late != 3:
                failures.append(f"{where}: one that came later has exit code {late}")
            if changed := dict(set(_contents(folder).items()) ^ set(before.items())):
                failures.append(f"{where}: one that came later has changed {sorted(changed)}")
            os.kill(winner, signal.SIGKILL)
            zygote.wait(winner)
            again = [*short.words(name), "run.duration=100000ep", "--traceback"]
            process = zygote.start(again, log=str(short.path / f"{name}.txt"))
            held = _newest(folder)
            deadline = time.time() + 60
            while time.time() < deadline and _newest(folder) == held:
                time.sleep(0.005)
            if _newest(folder) == held:
                failures.append(f"{where}: after the kill nothing goes on:\n{short.told(name)[-600:]}")
            os.kill(process, signal.SIGKILL)
            zygote.wait(process)
    return failures


def _newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("checkpoints/step-*")), default="")


def _contents(folder: Path) -> dict[str, str]:
    """Every file with the hash of its contents, and every folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found
