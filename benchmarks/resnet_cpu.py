"""What layout and number format are worth: ResNet-8 on 32x32 colour images, batch 128, SGD with momentum, one thread.

    python benchmarks/resnet_cpu.py [--quick]

The raw loop is plain PyTorch as it comes: float32, images as (channels, height, width), batches by index_select, fused
SGD. trainkit runs the same model from a recipe. Each has a process of its own, because trainkit changes how its process
keeps freed memory, and is timed from the end of the warm-up to the end of the last update, so that building, evaluation
and checkpoints stay out. On processors without bfloat16 arithmetic the last row is the slowest.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import interleave, table
from random_images import images
from torch import nn

from trainkit import DataSpec, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_models.residual import ResNet

BATCH = 128
WARM_UP = 2  # updates
RECIPE = """
recipe = 1
[run]
duration = "1ep"
threads = 1
{more}
[data]
use = "random_images"
updates = {updates}
batch_size = {batch}
[model]
use = "resnet"
depth = 8
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
"""


class Stopwatch:
    """CPU seconds from the end of the warm-up to the end of the last update."""

    def __init__(self, updates: int) -> None:
        self.last = WARM_UP + updates

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        if run.step == WARM_UP:
            self.begun = time.process_time()
        elif run.step == self.last:
            self.seconds = time.process_time() - self.begun


def raw_round(updates: int) -> float:
    """Plain PyTorch: float32, channels first, fused SGD."""
    torch.set_num_threads(1)
    pixels, classes = images((WARM_UP + updates) * BATCH)
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    torch.manual_seed(0)
    model = ResNet(spec, depth=8, width=1.0, shortcut="auto", stem="auto", zero_init_residual=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    order = torch.randperm(len(pixels))
    for number, index in enumerate(order.split(BATCH)):
        if number == WARM_UP:
            begun = time.process_time()
        loss = nn.functional.cross_entropy(model(pixels.index_select(0, index)), classes.index_select(0, index))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - begun


def our_round(updates: int, more: str) -> float:
    """trainkit from a recipe."""
    plugins = Plugins([str(Path(__file__).parent / "random_images.py")])
    watch = Stopwatch(updates)
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        recipe.write_text(RECIPE.format(updates=WARM_UP + updates, batch=BATCH, more=more))
        launch(load_recipe(recipe, ["logger=[]"], plugins), plugins, folder=Path(name) / "run", listeners=[watch])
    return watch.seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of two updates, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    updates = 2 if options.quick else 5
    rounds = options.rounds or (2 if options.quick else 11)
    with contextlib.ExitStack() as stack:

        def own(work: Callable[..., float], *arguments: Any) -> Callable[[], float]:
            process = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            return lambda: process.submit(work, updates, *arguments).result()

        contenders = {
            "raw": own(raw_round),
            "trainkit": own(our_round, ""),
            "trainkit, channels_last = false": own(our_round, "channels_last = false"),
            "trainkit, keep_pages = false": own(our_round, "keep_pages = false"),
            'trainkit, precision = "bfloat16"': own(our_round, 'precision = "bfloat16"'),
        }
        if not options.quick:
            interleave(contenders, 1)
        seconds = interleave(contenders, rounds)
    print(table(f"ResNet-8, batch {BATCH}", seconds, "raw", updates, "update"))


if __name__ == "__main__":
    main()
