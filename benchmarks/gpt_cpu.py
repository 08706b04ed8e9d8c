"""Updates and writing of small language models, beside a loop as nanoGPT has it: float32, AdamW, one thread.

    python benchmarks/gpt_cpu.py [--quick]

Updates: the raw loop cuts each batch out of the text at random places, clips the gradient's norm, and makes fused
AdamW updates of the same model; trainkit trains it from a recipe, with its schedule and clipping, and is timed from
the end of the warm-up to the end of the last update. Each has a process of its own. Where there is a CUDA device,
tables of wall times on it, in bfloat16, follow. Writing: tokens drawn one by one within the context, beside putting
the whole text through the model for each token, as nanoGPT does.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from common import in_own_process, interleave, quick, table, warm_up
from stopwatch import Stopwatch, now
from torch import Tensor
from torch.nn import functional

from trainkit import DataSpec
from trainkit.continuing import Wanted, draw, write_on
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.protocols import silent
from trainkit.recipe import load_recipe
from trainkit_text.models import gpt
from trainkit_text.reading import read_text

BATCH, CONTEXT = (2, 32) if quick() else (16, 128)
WARM_UP = 1 if quick() else 5  # updates
SIZES = {"small": {"layers": 2, "width": 96}, "larger": {"layers": 4, "width": 256}}
RECIPE = """
recipe = 1
[run]
duration = "{updates}ba"
threads = 1
device = "{device}"
{more}
[data]
use = "text"
context = {context}
batch_size = {batch}
[model]
use = "gpt"
layers = {layers}
width = {width}
[loss]
use = "cross_entropy"
[optimizer]
use = "adamw"
lr = 1e-3
betas = [0.9, 0.95]
weight_decay = 0.1
[schedule]
use = "wsd"
[[callback]]
use = "clip_norm"
max_norm = 1.0
"""


def made(size: str, device: str) -> torch.nn.Module:
    """The model, always with the same weights."""
    torch.manual_seed(0)
    return gpt(DataSpec((CONTEXT,), "tokens", 256), **SIZES[size]).to(device)  # type: ignore[arg-type]


def raw_round(updates: int, size: str, device: str, compiled: bool = False) -> float:
    """A loop as nanoGPT has it."""
    torch.set_num_threads(1)
    text = torch.frombuffer(bytearray(read_text(None, None).encode()), dtype=torch.uint8)[:370000]
    model = made(size, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if compiled else model
    for number in range(WARM_UP + updates):
        if number == WARM_UP:
            begun = now(device)
        places = torch.randint(len(text) - CONTEXT, (BATCH,)).tolist()
        inputs = torch.stack([text[place : place + CONTEXT].long() for place in places]).to(device)
        targets = torch.stack([text[place + 1 : place + 1 + CONTEXT].long() for place in places]).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            loss = functional.cross_entropy(forward(inputs).view(-1, 256), targets.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return now(device) - begun


def our_round(updates: int, size: str, device: str, more: str) -> float:
    """trainkit from a recipe."""
    watch, plugins = Stopwatch(WARM_UP, updates, device), Plugins()
    with tempfile.TemporaryDirectory() as name:
        recipe = Path(name) / "recipe.toml"
        given = {"updates": WARM_UP + updates, "batch": BATCH, "context": CONTEXT, "device": device, "more": more}
        recipe.write_text(RECIPE.format(**given, **SIZES[size]))
        loaded = load_recipe(recipe, ["logger=[]", "data.val=0", "data.test=0"], plugins)
        launch(loaded, plugins, folder=Path(name) / "run", listeners=[watch], say=lambda text: None)
    return watch.seconds


def writing(count: int, size: str, kept: bool) -> float:
    """Seconds to write tokens: with what was computed before kept, or from the whole text each time."""
    torch.set_num_threads(1)
    model, wanted, device = made(size, "cpu").eval(), Wanted("", tokens=count), torch.device("cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        begun = time.process_time()
        if kept:
            write_on(model, [10], wanted, 1, device, silent)  # type: ignore[arg-type]
        else:
            text: Tensor = torch.tensor([[10]])
            for _ in range(count):
                number = draw(model(text[:, -CONTEXT:])[0, -1].double(), wanted, generator)
                text = torch.cat([text, torch.tensor([[number]])], dim=1)
        return time.process_time() - begun


def compared(updates: int, size: str, device: str) -> dict[str, tuple[Any, ...]]:
    """What is compared, by name: a function and what it is called with."""
    found: dict[str, tuple[Any, ...]] = {
        "raw": (raw_round, updates, size, device),
        "trainkit": (our_round, updates, size, device, ""),
    }
    if device != "cpu" and not quick():
        found["raw, torch.compile(model)"] = (raw_round, updates, size, device, True)
        found['trainkit, compile = "model"'] = (our_round, updates, size, device, 'compile = "model"')
        found['trainkit, compile = "step"'] = (our_round, updates, size, device, 'compile = "step"')
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one update, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    updates, rounds = (1, 1) if options.quick else (10, options.rounds or 7)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for size, device in itertools.product(["small"] if options.quick else SIZES, devices):
        with contextlib.ExitStack() as stack:
            works = compared(updates, size, device)
            contenders = {name: in_own_process(stack, *work) for name, work in works.items()}
            warm_up(contenders)
            seconds = interleave(contenders, rounds)
        clock = "CPU time of one thread" if device == "cpu" else "wall time"
        title = f"{SIZES[size]['layers']} layers, width {SIZES[size]['width']}, {BATCH} x {CONTEXT} bytes, {device}"
        print(table(title, seconds, "raw", updates, "update", clock) + "\n")
    count = 8 if options.quick else CONTEXT - 1
    ways = {
        "whole text each time": lambda: writing(count, "small", False),
        "kept": lambda: writing(count, "small", True),
    }
    print(table("Writing, 2 layers, width 96", interleave(ways, rounds), "whole text each time", count, "token"))


if __name__ == "__main__":
    main()
