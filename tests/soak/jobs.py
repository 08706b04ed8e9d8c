"""Runs that are interrupted: the recipe, the run that nothing interrupted, and whether another one ended like it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.soak.zygote import Zygote

RECIPE = """\
recipe = 1
seed = 11
logger = []
[run]
duration = "{duration}"
device = "cpu"
threads = 1
accumulate = 2
log_every = "5ba"
evaluate_every = "4ba"
save_every = "{save_every}"
save_pause = 0
save_in_background = {background}
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 8
loading = "{loading}"
workers = {workers}
augment = [{{ use = "mixup" }}]
[model]
use = "mlp"
widths = [12]
dropout = 0.2
norm = "batch"
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adamw"
lr = 0.01
weight_decay = 0.1
[schedule]
use = "cosine"
warmup = "3ba"
[[schedule.react]]
use = "plateau"
patience = 0
[[callback]]
use = "ema"
decay = 0.9
"""


class Home:
    """A folder with a recipe, its uninterrupted run, and those that faults have interrupted.

    Args:
        path: the folder.
        zygote: starts processes.
        background: whether checkpoints are written while training goes on.
        duration: length of the run.
        save_every: how often it saves.
        workers: processes that make batches; 0 keeps the data in memory.
        calls: file that takes the I/O calls of each save of the uninterrupted run.
    """

    def __init__(
        self,
        path: Path,
        zygote: Zygote,
        background: bool = True,
        duration: str = "3ep",
        save_every: str = "5ba",
        workers: int = 0,
        calls: Path | None = None,
    ) -> None:
        self.path = path
        self.zygote = zygote
        path.mkdir(parents=True, exist_ok=True)
        self.recipe = path / "job.toml"
        text = RECIPE.format(
            duration=duration,
            save_every=save_every,
            background=str(background).lower(),
            loading="streamed" if workers else "resident",
            workers=workers,
        )
        self.recipe.write_text(text, encoding="utf-8")
        self.whole = path / "whole"
        begun = time.perf_counter()
        code = self.run("whole", **({"count": str(calls)} if calls else {}))
        self.took = time.perf_counter() - begun  # seconds
        if code:
            raise RuntimeError(f"the run that nothing interrupts ended with {code}:\n{self.told('whole')}")

    def words(self, name: str) -> list[str]:
        """The command of a run, which is also that of going on with it."""
        return [str(self.recipe), "--run-dir", str(self.path / name), "--resume", "-q"]

    def run(self, name: str, **faults: Any) -> int:
        """Begin a run or go on with it, until it ends; its exit code."""
        return self.zygote.run(self.words(name), log=str(self.path / f"{name}.txt"), **faults)

    def told(self, name: str) -> str:
        """What the processes of a run have said."""
        return (self.path / f"{name}.txt").read_text(encoding="utf-8", errors="replace")

    def differs(self, name: str, tidied: bool = True) -> str:
        """What is not as in the uninterrupted run; empty if all is.

        Args:
            name: the run.
            tidied: whether it had the time to remove what it keeps between saves, before it was killed.
        """
        one, other = self.whole, self.path / name
        reports = [json.loads((folder / "report.json").read_text(encoding="utf-8")) for folder in (one, other)]
        for key in ("status", "steps", "weights_sha256", "best", "metrics"):
            if reports[0][key] != reports[1][key]:
                return f"{key} is {reports[1][key]}, not {reports[0][key]}"
        if lines_of(one) != lines_of(other):
            return "metrics.jsonl has other lines"
        left = [entry for entry in os.listdir(other / "checkpoints") if tidied and not entry.startswith("step-")]
        return f"{left} is left in checkpoints" if left else ""


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """``metrics.jsonl`` without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in found]
