"""A search that is killed from the outside, with real runs: the same trials, points and values as undisturbed."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path

from tests.search.conftest import Searching
from tests.search.test_command import LONG, begun, when
from tests.search.test_study import figures
from trainkit.cli import main
from trainkit.search.log import NAME


def test_kills_change_nothing(tmp_path: Path, searching: Searching) -> None:
    searching(tmp_path / "whole", *LONG)
    folder, chance = tmp_path / "s", random.Random(3)
    for _ in range(int(os.environ.get("TRAINKIT_KILLS", "3"))):
        process = begun(str(searching.file), *LONG, "--run-dir", str(folder), "--resume", "-q")
        size = (folder / NAME).stat().st_size if (folder / NAME).exists() else 0
        when(partial(_has_grown, folder / NAME, size), process)
        time.sleep(0.15 * chance.random())
        process.kill()
        process.communicate()
    assert main(["resume", str(folder), "-q"]) == 0
    assert figures(folder) == figures(tmp_path / "whole")
    assert sorted(path.name for path in (folder / "trials").iterdir()) == [f"{number:04d}" for number in range(5)]


def _has_grown(file: Path, size: int) -> bool:
    return file.exists() and file.stat().st_size > size
