"""What grows with parameters, trials and processes: time, memory, disk; growth.py has what grows with updates.

    python benchmarks/growth_sizes.py [--quick] [--json FILE]

- parameters: an MLP trained by AdamW, 30 updates of 32 samples with two checkpoints, each size in a process of its own;
- trials: studies whose trials do nothing (`search_overhead.py`), and studies of real ones;
- processes: sums over two processes of ever more bytes; ResNet-20 with the same global batch in 1, 2 and 4 processes;
  and what these let expect of more processes than there are cores, by a formula that the page names.

`--json` keeps the figures, of which `docs/make_pictures.py` draws the picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import common
from common import keep
from distributed import Contender
from distributed_rank import BATCH

from trainkit import hookimpl

Row = list[float]
RESNET_20 = 269_722  # parameters
PARAMETERS = """
recipe = 1
[run]
duration = "30ba"
threads = 1
log_every = "10ba"
save_every = "15ba"
[data]
use = "synthetic"
samples = 540
features = [64]
batch_size = 32
[model]
use = "mlp"
widths = [{width}, {width}]
[loss]
use = "cross_entropy"
[optimizer]
use = "adamw"
"""
SEARCH = """
recipe = 1
[run]
duration = "3ep"
threads = 1
[data]
use = "digits"
[model]
use = "mlp"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
[search]
use = "random"
trials = {trials}
objective = "val.loss"
[search.space]
"optimizer.lr" = {{ low = 1e-3, high = 1.0, scale = "log" }}
"""


class Stamps:
    """CPU time at the end of each update."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.parameters = 0

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        self.at.append(time.process_time())
        self.parameters = sum(parameter.numel() for parameter in run.model.parameters())


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def disk_mb(folder: Path) -> float:
    """What the files of a folder hold."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def of_width(width: int) -> Row:
    """Parameters, CPU ms of an update, peak MB, MB of the run folder, MB of a checkpoint."""
    from trainkit.launch import launch
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe

    plugins, stamps = Plugins(without=["reports"]), Stamps()
    with tempfile.TemporaryDirectory() as name:
        recipe, folder = Path(name) / "recipe.toml", Path(name) / "run"
        recipe.write_text(PARAMETERS.format(width=width))
        launch(load_recipe(recipe, [], plugins), plugins, folder=folder, listeners=[stamps])
        took = statistics.median(after - before for before, after in pairwise(stamps.at))
        saved = max(disk_mb(place) for place in (folder / "checkpoints").iterdir() if place.is_dir())
        return [stamps.parameters, took * 1e3, peak_mb(), disk_mb(folder), saved]


def of_study(recipe: str, *words: str) -> Row:
    """CPU seconds of a study, peak MB, MB of its folder."""
    from trainkit.cli import main

    with tempfile.TemporaryDirectory() as name:
        file, folder = Path(name) / "recipe.toml", Path(name) / "study"
        file.write_text(recipe)
        said, begun = io.StringIO(), time.process_time()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = main(["run", str(file), "--run-dir", str(folder), "-q", "--without", "reports", *words])
        if code:
            raise RuntimeError(said.getvalue())
        return [time.process_time() - begun, peak_mb(), disk_mb(folder)]


def idle_study(trials: int) -> Row:
    """A study whose trials do nothing."""
    import search_overhead

    return [trials, *of_study(search_overhead.RECIPE.format(trials=trials), "-p", search_overhead.__file__)]


def real_study(trials: int) -> Row:
    """A study of short trials, one after the other."""
    return [trials, *of_study(SEARCH.format(trials=trials))]


def sum_of(bytes_: int, turns: int) -> Row:
    """Bytes, and the wall ms that two processes take to sum them: the fastest of some turns."""
    with contextlib.ExitStack() as stack:
        group = Contender("sum", "reduce", 2, more=str(bytes_))
        group.start(stack, 0)
        each = 3 if bytes_ > 1e7 else 20
        return [bytes_, min(group.turn(each) for _ in range(turns)) / each * 1e3]


def of_processes(processes: int, batch: int, depth: int, turns: int) -> Row:
    """Processes, samples in an update, wall ms of one, CPU ms of the busiest process, its peak MB."""
    with contextlib.ExitStack() as stack:
        more = "local" if processes > 1 else ""
        group = Contender("trainkit", "trainkit", processes, more=more, batch=batch)
        group.start(stack, depth)
        group.turn(2)
        group.cpu.clear()
        wall = min(group.turn(4) for _ in range(turns)) / 4 * 1e3
        return [processes, batch, wall, min(group.cpu) / 4 * 1e3, group.memory]


def of_strategy(processes: int, strategy: str, width: int) -> Row:
    """Processes, parameters, CPU ms of an update in the busiest process, and its peak MB."""
    with contextlib.ExitStack() as stack:
        group = Contender(strategy, "wide", processes, more=strategy)
        group.start(stack, width)
        group.turn(6)
        return [processes, 3 * width**2 + 71 * width + 3, group.cpu[0] / 6 * 1e3, group.memory]


def expected(alone: Sequence[Row], sums: Sequence[Row], bytes_: float) -> list[Row]:
    """Processes, and ms of an update by the formula of docs/growth.md, from what one process and two were seen to do.

    Args:
        alone: what one process takes for ever smaller batches, as `of_processes`.
        sums: what two processes take to sum ever more bytes, as `sum_of`.
        bytes_: bytes of all gradients.
    """
    latency = sums[0][1]
    a_byte = (sums[-1][1] - latency) / sums[-1][0]  # for two processes, each of which sends as much as it has
    whole = alone[0][1]
    found = []
    for _, batch, _, cpu, _ in alone:
        count = whole / batch
        steps, part = (2 * (count - 1), 2 * (count - 1) / count) if count > 1 else (0.0, 0.0)
        found.append([count, cpu + steps / 2 * latency + part * bytes_ * a_byte])
    return found


def fresh(work: Callable[..., Row], *arguments: object) -> Row:
    """Call it in a process of its own, so that memory counts from nothing; with ``--quick`` in one for all."""
    if common.quick():
        return common.shared().submit(work, *arguments).result()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def show(title: str, heads: Sequence[str], rows: Sequence[Row], forms: Sequence[str]) -> None:
    """Print one table."""
    print(f"### {title}\n\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for row in rows:
        print("| " + " | ".join(format(value, form) for value, form in zip(row, forms, strict=True)) + " |")
    print()


def by_parameters(quick: bool) -> dict[str, list[Row]]:
    """One size after the other."""
    widths = (64,) if quick else (64, 256, 1000, 3100, 5400)
    rows = [fresh(of_width, width) for width in widths]
    heads = ["parameters", "CPU ms an update", "peak MB", "run folder, MB", "a checkpoint, MB"]
    show("Parameters", heads, rows, [",.0f", ".2f", ".0f", ".2f", ".2f"])
    return {"parameters": rows}


def by_trials(quick: bool) -> dict[str, list[Row]]:
    """Studies of ever more trials."""
    heads = ["trials", "CPU s of the study", "peak MB", "its folder, MB"]
    idle = [fresh(idle_study, trials) for trials in ((2,) if quick else (10, 100, 1000, 10_000))]
    show("Trials that do nothing", heads, idle, [",.0f", ".2f", ".0f", ".2f"])
    real = [fresh(real_study, trials) for trials in ((2,) if quick else (4, 16, 64))]
    show("Trials of three epochs on digits", heads, real, [",.0f", ".2f", ".0f", ".2f"])
    return {"idle trials": idle, "real trials": real}


def by_processes(quick: bool) -> dict[str, list[Row]]:
    """What an update is made of, and what is expected of more processes."""
    sizes = (10_000,) if quick else (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    sums = [sum_of(bytes_, 2 if quick else 7) for bytes_ in sizes]
    show("Sums over two processes", ["bytes", "wall ms"], sums, [",.0f", ".3f"])
    depth, turns = (8, 1) if quick else (20, 5)
    whole = 8 if quick else BATCH
    several = [of_processes(count, whole, depth, turns) for count in ((1,) if quick else (1, 2, 4))]
    heads = ["processes", "batch", "wall ms an update", "CPU ms of the busiest process", "peak MB of a process"]
    show(f"ResNet-{depth}, one global batch", heads, several, [".0f"] * 5)
    batches = () if quick else (BATCH // 2, BATCH // 4, BATCH // 8, BATCH // 16)
    alone = [several[0], *(of_processes(1, batch, depth, turns) for batch in batches)]
    show("One process, smaller batches", heads, alone, [".0f"] * 5)
    more = expected(alone, sums, RESNET_20 * 4)
    show("Expected by the formula", ["processes", "ms an update"], more, [".0f", ".1f"])
    width = 100 if quick else 2000
    ways = ((2, "fsdp"),) if quick else ((1, "ddp"), (2, "ddp"), (2, "fsdp"))
    held = [of_strategy(count, name, width) for count, name in ways]
    heads = ["processes (the last: fsdp)", "parameters", "CPU ms an update", "peak MB of a process"]
    show("An MLP by AdamW, whole in each process or cut among them", heads, held, [".0f", ",.0f", ".0f", ".0f"])
    return {"held": held, "sums": sums, "processes": several, "alone": alone, "expected": more}


PARTS = {"parameters": by_parameters, "trials": by_trials, "processes": by_processes}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of each, to see that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="leave the others out")
    parser.add_argument("--json", type=Path, help="where the figures are kept; those of other parts stay there")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for part in options.only:
        found = PARTS[part](options.quick)
        if options.json:
            keep(options.json, found)


if __name__ == "__main__":
    main()
