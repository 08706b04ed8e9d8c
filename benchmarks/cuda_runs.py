"""What the parts of cuda.py share: runs of recipes, their times epoch by epoch, and rows of the table."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainkit import Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

HERE = Path(__file__).parent
MODULES = [str(HERE / name) for name in ("tiled_digits.py", "random_images.py")]
RECIPE = """
recipe = 1
seed = 1
logger = []
[run]
duration = "{epochs}ep"
device = "{device}"
{run}
[data]
use = "{data}"
updates = {updates}
batch_size = {batch}
{more_data}
{model}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.05
momentum = 0.9
[schedule]
use = "cosine"
"""
MLP = '[model]\nuse = "mlp"\nwidths = [128]'
RESNET = '[model]\nuse = "resnet"\ndepth = {depth}'


class Here:
    """Where the part runs, and how much of it.

    Args:
        dry: a little, on the CPU.
        data: a folder with CIFAR-10.
    """

    def __init__(self, dry: bool, data: str) -> None:
        self.dry, self.data = dry, data
        self.device = "cpu" if dry else "cuda"

    def few(self, many: int, few: int) -> int:
        """How many: as many, or few where it is dry."""
        return few if self.dry else many

    def wait(self) -> None:
        """Wait until the device is done."""
        if not self.dry:
            torch.cuda.synchronize()


def tell(what: str, figure: object, target: str = "", reached: bool | str = "") -> None:
    """Print a row."""
    said = {True: "yes", False: "**no**"}.get(reached, reached) if isinstance(reached, bool) else reached
    print(json.dumps({"what": what, "figure": str(figure), "target": target, "reached": said}), flush=True)


class Epochs:
    """Seconds of each epoch of a run but the first, with what is due at its end."""

    def __init__(self, here: Here) -> None:
        self.here, self.marks = here, list[float]()

    @hookimpl(tryfirst=True)
    def trainkit_epoch_start(self, run: Run) -> None:
        self._mark()

    @hookimpl(tryfirst=True)
    def trainkit_run_end(self, run: Run) -> None:
        self._mark()
        self.run = run

    def _mark(self) -> None:
        self.here.wait()
        self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of each epoch but the first."""
        return [end - begin for begin, end in zip(self.marks[1:], self.marks[2:], strict=False)]


def run(here: Here, *changes: str, watch: Epochs | None = None, **given: object) -> Any:
    """Train a recipe; its report."""
    values = {"epochs": 1, "run": "", "more_data": "", "device": here.device, **given}
    plugins = Plugins(MODULES)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        file = Path(folder) / "recipe.toml"
        file.write_text(RECIPE.format(**values))
        recipe = load_recipe(file, list(changes), plugins)
        listeners = [] if watch is None else [watch]
        return launch(recipe, plugins, folder=Path(folder) / "run", listeners=listeners)


def timed(here: Here, *changes: str, **given: Any) -> list[float]:
    """Seconds of an update, epoch by epoch."""
    watch = Epochs(here)
    run(here, *changes, watch=watch, **given)
    return [seconds / given["updates"] for seconds in watch.seconds]


def in_turns(contenders: Mapping[str, Callable[[], list[float]]], rounds: int = 2) -> dict[str, list[float]]:
    """Seconds of an update by contender; one that fails is left out, with a row that says why."""
    found: dict[str, list[float]] = {}
    failed: set[str] = set()
    for _ in range(rounds):
        for name, contender in contenders.items():
            if name in failed:
                continue
            try:
                found.setdefault(name, []).extend(contender())
            except Exception as error:
                failed.add(name)
                found.pop(name, None)
                tell(name, f"failed: {type(error).__name__}: {str(error).splitlines()[:1]}")
    return found


def micros(values: Sequence[float]) -> str:
    """The median and the range in microseconds."""
    low, middle, high = (1e6 * value for value in (min(values), statistics.median(values), max(values)))
    return f"{middle:.0f} µs [{low:.0f} to {high:.0f}]"


def against(found: dict[str, list[float]], base: str, targets: Mapping[str, float]) -> None:
    """Rows of updates' times, each with its speed relative to the base."""
    for name, values in found.items():
        if base not in found:
            tell(name, micros(values))
            continue
        ratio = statistics.median(found[base]) / statistics.median(values)
        goal = targets.get(name)
        target, reached = ("", "") if goal is None else (f"{goal}x", "yes" if ratio >= goal else "**no**")
        tell(name, f"{micros(values)}, {ratio:.2f}x {base}", target, reached)
