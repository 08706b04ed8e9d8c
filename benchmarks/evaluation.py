"""What an evaluation takes beside a raw loop: ResNets on 32x32 colour images, and a small MLP, one thread.

    python benchmarks/evaluation.py [--quick] [--depths 8 20]

The raw loop is plain PyTorch as it comes: evaluation mode, ``no_grad``, float32, images as (channels, height, width),
batches of 128, the mean loss and the accuracy. Raw with kept pages is the same with glibc told, as trainkit tells it,
to keep freed memory. trainkit makes the evaluation of a recipe. Each has a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import cpu_seconds, in_own_process, interleave, quick, table, warm_up
from random_images import images
from torch import Tensor, nn

from trainkit import DataSpec
from trainkit.allocator import keep_pages
from trainkit.build import build
from trainkit.finished import predictions_of
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe
from trainkit_models.residual import ResNet

BATCH = 8 if quick() else 128
FOR_GOOD = contextlib.ExitStack()  # of this process: what enters it is never left, nor dropped and undone thereby
OURS = {
    "": "",
    ", fold_batchnorm = false": "fold_batchnorm = false",
    ", channels_last = false": "channels_last = false",
    ", keep_pages = false": "keep_pages = false",
    ', precision = "bfloat16"': 'precision = "bfloat16"',
}
RECIPE = """
recipe = 1
[run]
duration = "1ep"
threads = 1
{more}
[data]
use = "random_images"
updates = {batches}
batch_size = {size}
[model]
use = "resnet"
depth = {depth}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
"""
MLP = "trainkit:mlp_digits"


def raw_evaluation(model: nn.Module, pixels: Tensor, classes: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy."""
    loss = torch.zeros((), dtype=torch.float64)
    right = torch.zeros((), dtype=torch.int64)
    model.eval()
    with torch.no_grad():
        for inputs, targets in zip(pixels.split(BATCH), classes.split(BATCH), strict=True):
            outputs = model(inputs)
            loss += nn.functional.cross_entropy(outputs, targets) * len(targets)
            right += (outputs.argmax(1) == targets).sum()
    model.train()
    return float(loss) / len(classes), float(right) / len(classes)


@cache
def raw_work(depth: int, batches: int, kept: bool) -> Callable[[], Any]:
    """The raw evaluation, ready to be made; an MLP where there is no depth."""
    torch.set_num_threads(1)
    if kept:
        FOR_GOOD.enter_context(keep_pages())
    torch.manual_seed(0)
    if not depth:
        run, _ = our_run("", MLP)
        ((inputs, targets, _),) = run.feed.evaluate("test")
        return lambda: raw_evaluation(run.model, inputs, targets)
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    model = ResNet(spec, depth=depth, width=1.0, shortcut="auto", stem="auto", zero_init_residual=False)
    pixels, classes = images(batches * BATCH)
    return lambda: raw_evaluation(model, pixels, classes)


def our_run(text: str, name: str = "") -> tuple[Any, contextlib.AbstractContextManager[bool]]:
    """A run that is built, and what keeps its pages."""
    plugins = Plugins([str(Path(__file__).parent / "random_images.py")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text)
        recipe = load_recipe(name or path, ["logger=[]", "run.threads=1"], plugins)
        run = build(recipe, plugins, Path(folder), silent).run
    return run, keep_pages(run.recipe["run"]["keep_pages"])


@cache
def our_work(depth: int, batches: int, more: str, predict: bool) -> Callable[[], Any]:
    """trainkit's evaluation or prediction, ready to be made."""
    if depth:
        run, kept = our_run(RECIPE.format(size=BATCH, batches=batches, depth=depth, more=more))
    else:
        run, kept = our_run("", MLP)
    FOR_GOOD.enter_context(kept)
    split = "train" if depth else "test"
    if predict:
        return lambda: predictions_of(run, split)
    return lambda: run.hook.trainkit_evaluate(run=run, split=split)


def a_round(make: Callable[..., Callable[[], Any]], times: int, *arguments: Any) -> float:
    """CPU seconds of so many evaluations."""
    work = make(*arguments)
    return cpu_seconds(lambda: [work() for _ in range(times)])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few samples, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--depths", type=int, nargs="+", default=[], help="else 8 and 20, with --quick 8 alone")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 9)
    batches = 1 if options.quick else 10
    ours = {"": ""} if options.quick else OURS
    for depth in options.depths or ([8] if options.quick else [8, 20]):
        works: dict[str, tuple[Any, ...]] = {
            "raw": (raw_work, 1, depth, batches, False),
            "raw, kept pages": (raw_work, 1, depth, batches, True),
            **{f"trainkit{name}": (our_work, 1, depth, batches, more, False) for name, more in ours.items()},
            "trainkit, predict": (our_work, 1, depth, batches, "", True),
        }
        compare(f"ResNet-{depth}, {batches * BATCH} images", works, rounds, batches * BATCH, "image")
    times = 2 if options.quick else 500
    compare(
        "MLP 64-128-10, 359 samples",
        {"raw": (raw_work, times, 0, 0, False), "trainkit": (our_work, times, 0, 0, "", False)},
        rounds,
        times,
        "evaluation",
    )


def compare(title: str, works: dict[str, tuple[Any, ...]], rounds: int, units: int, unit: str) -> None:
    """Print one table, after a round that does not count."""
    with contextlib.ExitStack() as stack:
        contenders = {name: in_own_process(stack, a_round, *work) for name, work in works.items()}
        warm_up(contenders)
        print(table(title, interleave(contenders, rounds), "raw", units, unit) + "\n")


if __name__ == "__main__":
    main()
