"""What a checkpoint costs: how long training stands still for it, until it is on the disk, and to read it back.

    python benchmarks/checkpoints.py            38 kB, 1 MB, 100 MB and 1 GB, and the share of a run
    python benchmarks/checkpoints.py --quick    small ones and few rounds, to see that it works

Beside ``torch.save``, with and without an fsync of its file; ``torch.load(weights_only=True)`` reads. Ours hashes every
byte, writes three files, and makes files and folders durable. All in turns, in one process, on one file system.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from common import interleave
from torch import Tensor

from trainkit import checkpoint
from trainkit.saving import Saver

SIZES = {"38 kB": 38_000, "1 MB": 1_000_000, "100 MB": 100_000_000, "1 GB": 1_000_000_000}


def tensors_of(size: int) -> dict[str, Tensor]:
    """Weights and two moments of about so many bytes: a few large matrices and many small vectors."""
    share = max(size // 4 // 3 // 12, 1)
    return {
        f"{kind}/layers.{layer}/{part}": torch.randn(share if part == "weight" else min(64, share))
        for kind in ("model", "optimizer/exp_avg", "optimizer/exp_avg_sq")
        for layer in range(12)
        for part in ("weight", "bias")
    }


def timed(work: Callable[[], object]) -> float:
    """Wall seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(tensors: Mapping[str, Tensor], top: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round."""
    file, parent = top / "peer.pt", top / "run" / "checkpoints"
    parent.parent.mkdir()
    state = {"step": 0, "groups": [{"names": list(tensors), "lr": {"__float__": "0x1p-7"}}]}
    background, waiting = Saver(parent, 2, True), Saver(parent, 2, False)
    step = 0

    def plain(durable: bool = False) -> float:
        def save() -> None:
            with file.open("wb") as opened:
                torch.save(dict(tensors), opened)
                if durable:
                    opened.flush()
                    os.fsync(opened.fileno())

        return timed(save)

    def ours(saver: Saver, whole: bool = False) -> float:
        nonlocal step
        step += 1
        begun = time.perf_counter()
        saver.save(step, tensors, state)
        blocked = time.perf_counter() - begun
        saver.wait()
        return time.perf_counter() - begun if whole else blocked

    contenders = {
        "torch.save": plain,
        "torch.save + fsync": lambda: plain(True),
        "trainkit: training stands still": lambda: ours(background),
        "trainkit: until it is durable": lambda: ours(background, True),
        "trainkit, save_in_background = false": lambda: ours(waiting),
        "torch.load": lambda: timed(lambda: torch.load(file, weights_only=True)),
        "trainkit: read and verified": lambda: timed(lambda: checkpoint.load(checkpoint.newest_first(parent)[0])),
    }
    try:
        interleave(contenders, 2)  # memory and files that are used again come to be
        return interleave(contenders, rounds)
    finally:
        background.close()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dir", help="where to write; the system's folder for temporary files if not given")
    given = parser.parse_args()
    print("| bytes | contender | ms (median) | x torch.save, reading x torch.load: median [min to max] |")
    print("|---|---|---|---|")
    for name, size in SIZES.items():
        if given.quick and size > 1_000_000:
            continue
        rounds = 3 if given.quick else {1_000_000_000: 5, 100_000_000: 11}.get(size, 51)
        top = Path(tempfile.mkdtemp(prefix="benchmark-checkpoints-", dir=given.dir))
        try:
            seconds = measure(tensors_of(size), top, rounds)
        finally:
            shutil.rmtree(top)
        for contender, values in seconds.items():
            base = seconds["torch.load" if contender in ("torch.load", "trainkit: read and verified") else "torch.save"]
            ratios = sorted(value / other for value, other in zip(values, base, strict=True))
            spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]"
            print(f"| {name} | {contender} | {statistics.median(values) * 1e3:.2f} | {spread} |", flush=True)
    share(3 if given.quick else 9)


def share(rounds: int) -> None:
    """What saving once an epoch of 22 updates adds to a run of the recipe ``mlp_digits``."""
    from trainkit.launch import launch
    from trainkit.manager import Plugins
    from trainkit.recipe import load_recipe

    plugins = Plugins()

    def run(*changes: str) -> tuple[float, float]:
        recipe = load_recipe("trainkit:mlp_digits", ["run.threads=1", "logger=[]", *changes], plugins)
        with tempfile.TemporaryDirectory() as top:
            wall, cpu = time.perf_counter(), time.process_time()
            launch(recipe, plugins, folder=Path(top) / "run")
            return time.perf_counter() - wall, time.process_time() - cpu

    contenders = {
        "saved once, at the end": ["run.save_every=1dur", "run.evaluate_every=1dur"],
        "saved every epoch, in the background": ["run.evaluate_every=1dur", "run.save_pause=0"],
        "saved every epoch, waited for": [
            *("run.save_in_background=false", "run.evaluate_every=1dur", "run.save_pause=0")
        ],
    }
    run()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, changes in contenders.items():
            seconds[name].append(run(*changes))
    print("\n| 30 epochs of 22 updates | wall ms | CPU ms | more a save: wall, CPU |\n|---|---|---|---|")
    base = [statistics.median(values) for values in zip(*seconds["saved once, at the end"], strict=True)]
    for name, values in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        more = f"{(wall - base[0]) / 29 * 1e3:.2f} ms, {(cpu - base[1]) / 29 * 1e3:.2f} ms"
        print(f"| {name} | {wall * 1e3:.0f} | {cpu * 1e3:.0f} | {more} |", flush=True)


if __name__ == "__main__":
    main()
