"""What the loop costs: MLP 64-128-10 on digits, batch 64, SGD with momentum, against the tightest sensible raw loop.

    python benchmarks/loop_overhead.py [--quick] [--peers] [--compile] [--parts] [--updates 22]

trainkit runs with everything on: progress, training and validation metrics, JSON log, and a checkpoint (fsynced, with
checksums) every epoch. The raw loop trains and does nothing else. `--peers` adds the other frameworks that are
installed; peers.py says how.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import Terminal, cpu_seconds, interleave, table, warm_up
from tiled_digits import arrays, tiled
from torch import nn

from trainkit import hookimpl
from trainkit.display import Display
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

BATCH = 64
RECIPE = """
recipe = 1
[run]
duration = "{epochs}ep"
threads = 1
monitor = "val.accuracy"
{more}
[data]
use = "tiled_digits"
updates = {updates}
batch_size = {batch}
[model]
use = "mlp"
widths = [128]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
"""


class Stopwatch:
    """CPU seconds from the beginning of an epoch to the end of the run, and the accuracy reached."""

    def __init__(self, first: int) -> None:
        self.first = first

    @hookimpl
    def trainkit_epoch_start(self, run: Any) -> None:
        if run.epoch == self.first:
            self.begun = time.process_time()

    @hookimpl(tryfirst=True)
    def trainkit_run_end(self, report: Any) -> None:
        self.seconds = time.process_time() - self.begun
        self.accuracy = report.metrics["val.accuracy"]


def raw(epochs: int, updates: int, extras: bool = False) -> tuple[Callable[[], float], list[float]]:
    """The tightest sensible raw loop: batches by index_select, fused SGD; with ``extras`` what people add by hand."""
    accuracies: list[float] = []
    _, _, test_x, test_y = arrays()
    x, y = tiled(updates, BATCH)
    count = len(x)

    def once() -> float:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
        loss_of = nn.functional.cross_entropy

        def train() -> None:
            for epoch in range(epochs):
                order = torch.randperm(count)
                for start in range(0, count, BATCH):
                    index = order[start : start + BATCH]
                    loss = loss_of(model(x.index_select(0, index)), y.index_select(0, index))
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                if extras:
                    with open(folder / "log.csv", "a") as log:
                        log.write(f"{epoch},{loss.item()}\n")
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "last.pt")

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seconds = cpu_seconds(train)
        with torch.no_grad():
            accuracies.append(float((model(test_x).argmax(1) == test_y).double().mean()))
        return seconds

    return once, accuracies


def ours(epochs: int, updates: int, more: str = "", untimed: int = 0) -> tuple[Callable[[], float], list[float]]:
    """trainkit from a recipe, everything on; ``untimed`` epochs come before, in which a compiled step compiles."""
    accuracies: list[float] = []
    plugins = Plugins([str(Path(__file__).parent / "tiled_digits.py")])

    def once() -> float:
        watch = Stopwatch(untimed)
        with tempfile.TemporaryDirectory() as name:
            recipe = Path(name) / "recipe.toml"
            recipe.write_text(RECIPE.format(epochs=untimed + epochs, updates=updates, batch=BATCH, more=more))
            checked = load_recipe(recipe, ["logger=[]"], plugins)
            with contextlib.redirect_stderr(Terminal()):
                launch(checked, plugins, folder=Path(name) / "run", listeners=[Display(terminal=True), watch])
        accuracies.append(watch.accuracy)
        return watch.seconds

    return once, accuracies


def compare(
    updates: int, epochs: int, rounds: int, contenders: dict[str, tuple[Callable[[], float], list[float]]]
) -> None:
    """Print one table."""
    warm_up({name: once for name, (once, _) in contenders.items()})  # and compile
    seconds = interleave({name: once for name, (once, _) in contenders.items()}, rounds)
    title = f"Loop overhead, epochs of {updates} updates"
    print(table(title, seconds, "raw", updates * epochs, "update"))
    print("Accuracy: " + ", ".join(f"{name} {sum(a) / len(a):.3f}" for name, (_, a) in contenders.items()) + ".\n")


def main() -> None:
    """Read the options and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few updates, to see that it works")
    parser.add_argument("--peers", action="store_true", help="also the peers that are installed")
    parser.add_argument("--compile", action="store_true", help='also compile = "step"')
    parser.add_argument("--parts", action="store_true", help="also trainkit with one thing after the other left out")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--updates", type=int, default=0, help="only epochs of so many updates (500 or 22)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for updates, epochs in ((500, 10), (22, 225)):
        if options.updates not in (0, updates):
            continue
        if options.quick:
            epochs = 1
        contenders = {"raw": raw(epochs, updates), "raw, log and checkpoint by hand": raw(epochs, updates, True)}
        contenders["trainkit, everything on"] = ours(epochs, updates)
        if options.compile:
            one = 'compile = "step"\nupdates_per_call = 1'
            contenders['trainkit, compile = "step", 1 update a call'] = ours(epochs, updates, one, 1)
            contenders['trainkit, compile = "step"'] = ours(epochs, updates, 'compile = "step"', 1)
        if options.parts:
            more, left = "", []
            for part in ("save", "evaluate", "log"):
                more += f'{part}_every = "{epochs}ep"\n'
                left.append(part)
                contenders[f"trainkit, {', '.join(left)} once, at the end"] = ours(epochs, updates, more)
        if options.peers:
            from peers import installed

            contenders |= installed(epochs, updates, BATCH)
        compare(updates, epochs, options.rounds or (1 if options.quick else 9), contenders)


if __name__ == "__main__":
    main()
