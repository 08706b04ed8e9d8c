"""What grows with a run's updates: time of an update over a million, memory and disk over epochs and logged values.

    python benchmarks/growth.py [--quick] [--json FILE]

Growth with parameters, trials and processes is in growth_sizes.py.

Each run is in a process of its own, with everything on: evaluations, log lines, checkpoints, a reaction, the picture at
the end. It is cut into ten parts, whose time, memory and files stand side by side. `--quick` makes a thousandth of it,
too little to tell growth from noise. `--json` keeps the first run's figures beside those of growth_sizes.py.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from common import keep, quick, shared

from trainkit import hookimpl

UPDATES = 1_000_000
EPOCHS = 10_000
LINES = 100_000
FIGURES = 100  # beside those of the run's own
PARTS = 10
RECIPE = """
recipe = 1
[run]
duration = "{duration}"
threads = 1
{more}
[data]
use = "synthetic"
samples = {samples}
features = [8]
batch_size = 8
[model]
use = "linear"
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.01
momentum = 0.9
[schedule]
use = "cosine"
warmup = "0.1dur"
[[schedule.react]]
use = "plateau"
"""


def resident_mb() -> float:
    """Memory of this process that lies in the machine's."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def disk_mb(folder: Path) -> float:
    """What the files of a folder hold; a checkpoint may go while they are counted."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, file)).st_size
    return total / 1e6


class Marks:
    """CPU seconds, memory, and size of the run folder at the borders of ten parts of a run."""

    def __init__(self, updates: int, figures: int) -> None:
        self.borders = iter([updates * part // PARTS for part in range(1, PARTS + 1)])
        self.next = next(self.borders)
        self.seconds: list[float] = []
        self.memory: list[float] = []
        self.disk: list[float] = []
        self.figures = figures

    @hookimpl
    def trainkit_run_start(self, run: Any) -> None:
        self.seconds.append(time.process_time())
        self.memory.append(resident_mb())

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        if run.step >= self.next:
            self.seconds.append(time.process_time())
            self.memory.append(resident_mb())
            self.disk.append(disk_mb(run.folder))
            self.next = next(self.borders, 1 << 62)

    @hookimpl
    def trainkit_figures(self, run: Any) -> dict[str, float]:
        return {f"figure_{number}": (run.step + number) / 7 for number in range(self.figures)}


def one_run(
    duration: str, samples: int, updates: int, figures: int, more: str
) -> tuple[list[float], list[float], list[float], list[Any]]:
    """Train once; CPU seconds, MB of memory and of the run folder at the borders, and what reading back took."""
    from trainkit.launch import launch
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe

    plugins, marks = Plugins(), Marks(updates, figures)
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        recipe.write_text(RECIPE.format(duration=duration, samples=samples, more=more))
        launch(load_recipe(recipe, [], plugins), plugins, folder=Path(name) / "run", listeners=[marks])
        read = read_back(Path(name) / "run" / "metrics.jsonl") if figures else []
    return marks.seconds, marks.memory, marks.disk, read


def read_back(path: Path) -> list[tuple[str, int, float, float]]:
    """Read a tenth and all of the lines: how many bytes, CPU seconds, and how much more memory at the end."""
    from trainkit.lines import Lines

    size = path.stat().st_size

    def take_in(length: int) -> Callable[[], object]:
        return lambda: Lines(path).take_in(length)

    def pass_over(length: int) -> Callable[[], object]:
        lines = Lines(path)
        lines.take_in(length)

        def work() -> None:
            for _ in lines:
                pass

        return work

    found = []
    for what, make in (("a resume reads", take_in), ("a plugin reads run.history", pass_over)):
        for length in (size // 10, size):
            work = make(length)
            before, begun = resident_mb(), time.process_time()
            work()
            found.append((what, length, time.process_time() - begun, resident_mb() - before))
    return found


def in_own_process(*arguments: Any) -> Any:
    """Call `one_run` in a fresh process; with ``--quick`` in one for all."""
    if quick():
        return shared().submit(one_run, *arguments).result()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(one_run, *arguments).result()


def row(title: str, values: Sequence[float], form: str) -> str:
    """One row of a table: a value for each part, then the last against the first."""
    cells = " | ".join(format(value, form) for value in values)
    return f"| {title} | {cells} | {values[-1] / values[0]:.2f} |"


def main() -> None:
    """Make the runs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a thousandth of it, to see that it works")
    parser.add_argument("--json", type=Path, help="where the figures are kept; others stay there")
    options = parser.parse_args()
    part = 1000 if options.quick else 1
    updates, epochs, lines = UPDATES // part, EPOCHS // part, LINES // part
    each = max(10, updates // 1000)  # updates in an epoch of the first run
    runs = {
        f"{updates:,} updates": (f"{updates}ba", each * 8 * 5 // 3, updates, 0, ""),
        f"{epochs:,} epochs of 2 updates": (f"{epochs}ep", 27, epochs * 2, 0, ""),
        f"{lines * FIGURES:,} values in {lines:,} lines": (
            *(f"{lines}ba", 1333, lines, FIGURES),
            'log_every = "1ba"\nsave_every = "1000ba"\n',
        ),
    }
    heads = " | ".join(f"{number}" for number in range(1, PARTS + 1))
    lines_out = [f"| run, in ten parts | {heads} | last : first |", "|---" * (PARTS + 2) + "|"]
    read: list[Any] = []
    for title, arguments in runs.items():
        seconds, memory, disk, back = in_own_process(*arguments)
        took = [(b - a) / (arguments[2] / PARTS) * 1e6 for a, b in itertools.pairwise(seconds)]
        lines_out += [row(f"{title}: µs an update", took, ".0f"), row("its memory, MB", memory[1:], ".1f")]
        lines_out.append(row("its folder, MB", disk, ".2f"))
        read += back
        if options.json and updates == arguments[2]:
            keep(options.json, {"updates": [[*figures] for figures in zip(took, memory[1:], disk, strict=True)]})
    print("\n".join(lines_out))
    print("\n| reading metrics.jsonl | MB | CPU seconds | seconds a GB | more memory, MB |\n|---|---|---|---|---|")
    for what, size, took_s, more in read:
        print(f"| {what} | {size / 1e6:.1f} | {took_s:.2f} | {took_s / size * 1e9:.2f} | {more:.1f} |")


if __name__ == "__main__":
    main()
