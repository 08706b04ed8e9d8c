"""What layout and number format are worth: ResNets on 32x32 colour images, batch 128, SGD with momentum, one thread.

    python benchmarks/resnet_cpu.py [--quick] [--depths 8 20]

The raw loop is plain PyTorch as it comes: float32, images as (channels, height, width), batches by index_select, fused
SGD. trainkit runs the same model from a recipe. Each has a process of its own, because trainkit changes how its process
keeps freed memory, and is timed from the end of the warm-up to the end of the last update, so that building, evaluation
and checkpoints stay out. On processors without bfloat16 arithmetic the last row is the slowest. Where there is a CUDA
device, a second table has wall times on it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import in_own_process, interleave, quick, table, warm_up
from random_images import images
from stopwatch import Stopwatch, now
from torch import nn

from trainkit import DataSpec
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_models.residual import ResNet

BATCH = 8 if quick() else 128
WARM_UP = 1 if quick() else 2  # updates
FLOAT32 = 'precision = "float32"'
RECIPE = """
recipe = 1
[run]
duration = "1ep"
threads = 1
device = "{device}"
{more}
[data]
use = "random_images"
updates = {updates}
batch_size = {batch}
[model]
use = "resnet"
depth = {depth}
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
"""


def raw_round(updates: int, depth: int, device: str) -> float:
    """Plain PyTorch: float32, channels first, fused SGD."""
    torch.set_num_threads(1)
    pixels, classes = (tensor.to(device) for tensor in images((WARM_UP + updates) * BATCH))
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    torch.manual_seed(0)
    model = ResNet(spec, depth=depth, width=1.0, shortcut="auto", stem="auto", zero_init_residual=False).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    order = torch.randperm(len(pixels)).to(device)
    for number, index in enumerate(order.split(BATCH)):
        if number == WARM_UP:
            begun = now(device)
        loss = nn.functional.cross_entropy(model(pixels.index_select(0, index)), classes.index_select(0, index))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return now(device) - begun


def our_round(updates: int, depth: int, device: str, more: str) -> float:
    """trainkit from a recipe."""
    plugins = Plugins([str(Path(__file__).parent / "random_images.py")])
    watch = Stopwatch(WARM_UP, updates, device)
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        given = {"updates": WARM_UP + updates, "batch": BATCH, "depth": depth, "device": device, "more": more}
        recipe.write_text(RECIPE.format(**given))
        launch(load_recipe(recipe, ["logger=[]"], plugins), plugins, folder=Path(name) / "run", listeners=[watch])
    return watch.seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one update, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--depths", type=int, nargs="+", default=[], help="else 8 and 20, with --quick 8 alone")
    options = parser.parse_args()
    updates = 1 if options.quick else 5
    rounds = options.rounds or (1 if options.quick else 11)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    depths = options.depths or ([8] if options.quick else [8, 20])
    for depth, device in itertools.product(depths, devices):
        with contextlib.ExitStack() as stack:
            compared = dict(itertools.islice(works(updates, depth, device).items(), 3 if options.quick else None))
            contenders = {name: in_own_process(stack, *work) for name, work in compared.items()}
            warm_up(contenders)
            seconds = interleave(contenders, rounds)
        title, clock = (
            f"ResNet-{depth}, batch {BATCH}, {device}",
            "CPU time of one thread" if device == "cpu" else "wall time",
        )
        print(table(title, seconds, "raw", updates, "update", clock) + "\n")


def works(updates: int, depth: int, device: str) -> dict[str, tuple[Any, ...]]:
    """What is compared, by name: a function and what it is called with."""
    ours = {
        "": "",
        ", channels_last = false": "channels_last = false",
        ", keep_pages = false": "keep_pages = false",
        ', precision = "bfloat16"': 'precision = "bfloat16"',
    }
    if device == "cuda":
        ours = {"": "", ", channels_last = false": "channels_last = false", ', precision = "float32"': FLOAT32}
    found: dict[str, tuple[Any, ...]] = {"raw": (raw_round, updates, depth, device)}
    return found | {f"trainkit{name}": (our_round, updates, depth, device, more) for name, more in ours.items()}


if __name__ == "__main__":
    main()
