"""A search that is killed from the outside, with real runs: the same trials, points and values as undisturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.search.conftest import Searching
from tests.search.test_command import LONG
from tests.search.test_study import figures
from tests.soak.zygote import Zygote
from trainkit.cli import main
from trainkit.search.log import NAME


def test_kills_change_nothing(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "whole", *LONG)
    folder, chance = tmp_path / "s", random.Random(3)
    words, log = [str(searching.file), *LONG, "--run-dir", str(folder), "--resume", "-q"], tmp_path / "log.txt"
    with Zygote() as zygote:
        for _ in range(int(os.environ.get("TRAINKIT_KILLS", "3"))):
            size, deadline = _size(folder / NAME), time.monotonic() + 60
            process = zygote.start(words, log=str(log))
            while _size(folder / NAME) <= size and time.monotonic() < deadline:
                time.sleep(0.003)
            if zygote.wait_within(process, 0.15 * chance.random()) is None:
                os.kill(process, signal.SIGKILL)
                zygote.wait(process)
        assert "Traceback" not in log.read_text()
    assert main(["resume", str(folder), "-q"]) == 0
    assert figures(folder) == figures(tmp_path / "whole")
    assert sorted(path.name for path in (folder / "trials").iterdir()) == [f"{number:04d}" for number in range(5)]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
