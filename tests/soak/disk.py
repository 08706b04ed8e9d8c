"""G4: a disk that is full or fails costs no checkpoint that was there."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.soak.jobs import Home
from tests.soak.zygote import Zygote
from trainkit import CheckpointError, checkpoint

PAGE = 4096
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")


def check(count: int, seed: int) -> list[str]:
    """Let the disk refuse at ``count`` places: an error, an I/O call of the second save, once or from there on."""
    failures = []
    with tempfile.TemporaryDirectory(prefix="soak-disk-") as top, Zygote() as zygote:
        places = []
        for background in (True, False):
            calls = Path(top) / f"{background}.json"
            home = Home(Path(top) / str(background), zygote, background, duration="2ep", calls=calls)
            saves = json.loads(calls.read_text(encoding="utf-8"))
            places += [
                (home, save, call + 1, error, for_ever)
                for save in (1, 3)
                for call, name in enumerate(saves[save])
                if name != "close"
                for error in ERRORS
                for for_ever in (False, True)
            ]
        if count < len(places):
            places = random.Random(seed).sample(places, count)
        for number, (home, save, call, error, for_ever) in enumerate(places):
            name = f"run-{number}"
            where = f"{home.path.name}: {error} {'from' if for_ever else 'at'} call {call} of save {save}"
            code = home.run(name, refuse={"save": save, "call": call, "number": error, "for_ever": for_ever})
            failures += [
                f"{where}: {what}" for what in _after(home, name, code, for_ever and error in ("EIO", "EROFS"))
            ]
        check.cases = len(places)  # type: ignore[attr-defined]
    return failures


def _after(home: Home, name: str, code: int, stuck: bool) -> list[str]:
    """What is not as promised after a disk's refusal; ``stuck`` if nothing could be removed either."""
    parent = home.path / name / "checkpoints"
    try:
        checkpoint.load_newest(parent)
    except CheckpointError as error:
        return [f"no checkpoint loads: {error}"]
    if code not in (0, 3):
        return [f"exit code {code}:\n{home.told(name)[-600:]}"]
    if not stuck and (left := [entry for entry in os.listdir(parent) if entry.startswith(".tmp")]):
        return [f"{left} is left"]
    if code == 3 and (code := home.run(name)):
        return [f"going on ended with {code}:\n{home.told(name)[-600:]}"]
    difference = home.differs(name)
    return [difference] if difference else []


def small_disk(seed: int) -> list[str] | None:
    """A run on a file system that is too small for it, and again when it has grown; None where none can be mounted."""
    place = Path(tempfile.mkdtemp(prefix="soak-small-"))
    mounted = place / "disk"
    mounted.mkdir()

    def mount(options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mounted)]
        try:
            return subprocess.run(words, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    try:
        with Zygote() as zygote:
            home = Home(place / "home", zygote)
            files = [file for file in (home.whole / "checkpoints").glob("*/*") if file.is_file()]
            one = sum(-(-file.stat().st_size // PAGE) for file in files) // len({file.parent for file in files})
            if not mount(f"size={(2 * one + one // 2 + 8) * PAGE}"):
                return None
            home.path = mounted
            (home.path / "run").mkdir()
            words = [str(home.recipe), "--run-dir", str(mounted / "run"), "--resume", "-q"]
            log = str(place / "told.txt")
            code = zygote.run(words, log=log)
            told = Path(log).read_text(encoding="utf-8")
            if code != 3 or "No space left" not in told:
                return [f"on a full disk the exit code is {code}: {told}"]
            try:
                checkpoint.load_newest(mounted / "run" / "checkpoints")
            except CheckpointError as error:
                return [f"nothing loads after the disk was full: {error}"]
            mount("remount,size=4m")
            code = zygote.run(words, log=log)
            if code:
                return [f"with more room the run ended with {code}: {Path(log).read_text(encoding='utf-8')}"]
            difference = home.differs("run")
            return [difference] if difference else []
    finally:
        subprocess.run(["umount", str(mounted)], check=False)
        shutil.rmtree(place, ignore_errors=True)
