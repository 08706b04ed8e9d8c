"""Batches from worker processes and images from folders, beside what PyTorch's own parts and a plain loop take.

    python benchmarks/data_workers.py [--quick]

Passes over the same data in turns, in one process on one thread; each contender keeps its workers from pass to pass.
The tables show wall time and the CPU time of the run and its workers, for Linux.
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Dataset, DataSpec, Split
from trainkit.allocator import keep_pages
from trainkit.feed import make_feed
from trainkit_data.files import image_folder

BATCH = 128
SIDE = 32
Feeds = dict[str, Callable[[int], Iterable[Any]]]


class Files:
    """JPEGs in memory, decoded whenever they are asked for; serves both ways of loading."""

    def __init__(self, samples: int) -> None:
        self.files = [jpeg(number, SIDE) for number in range(samples)]

    def __len__(self) -> int:
        return len(self.files)

    def decode(self, number: int) -> Tensor:
        """One image, float32 from 0 to 1."""
        pixels = np.array(Image.open(io.BytesIO(self.files[number])).convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)

    def __getitem__(self, index: Any) -> Any:
        """Samples of a tensor's numbers for our feeds, or a sample and its target for a ``DataLoader``."""
        if isinstance(index, Tensor):
            return torch.stack([self.decode(number) for number in index.tolist()])
        return self.decode(index), index % 10


def jpeg(number: int, side: int) -> bytes:
    """A coloured pattern with some noise."""
    chance = np.random.default_rng(number)
    coarse = Image.fromarray(chance.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=int)
    noisy = (pixels + chance.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def again(loader: DataLoader[Any], epoch: int) -> DataLoader[Any]:
    """A loader begins each pass by itself."""
    return loader


def contenders(inputs: Any, data: Any) -> tuple[Feeds, list[Any]]:
    """Ways to go through ``inputs``, or through the map-style ``data``, with 0, 1 and 2 workers; and what to close."""
    spec = DataSpec((3, SIDE, SIDE), "classification", 10, tuple("0123456789"))
    held = Dataset(spec, {"train": Split(inputs, torch.arange(len(inputs)) % 10)})
    feeds: Feeds = {}
    ours = []
    for workers in (0, 1, 2):
        loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        feeds[f"DataLoader, workers = {workers}"] = functools.partial(again, loader)
        ours.append(make_feed(held, batch_size=BATCH, seed=0, device="cpu", loading="streamed", workers=workers))
        feeds[f"ours, streamed, workers = {workers}"] = ours[-1].train
    return feeds, ours


def cpu() -> float:
    """CPU seconds of this process and of its children, those that run included."""
    spent = time.process_time() + sum(os.times()[2:4])
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds; a function that the work gives back tidies up afterwards."""
    wall, spent = time.perf_counter(), cpu()
    tidy = work()
    seconds = time.perf_counter() - wall, cpu() - spent
    if callable(tidy):
        tidy()
    return seconds


def rows(
    contenders: Mapping[str, Callable[[int], object]], rounds: int, units: int, base: Callable[[str], str]
) -> None:
    """Print a table of rounds made in turns, the first of which warms up."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            seconds = timed(functools.partial(work, number))
            if number:
                seen[name].append(seconds)
    for name, values in seen.items():
        cells = []
        for part in (0, 1):
            pairs = zip(values, seen[base(name)], strict=True)
            ratios = sorted(peer[part] / max(own[part], 1e-9) for own, peer in pairs)
            middle = statistics.median(value[part] for value in values) / units * 1e6
            cells.append(f"{middle:.0f} | {statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"\n{rounds} interleaved rounds.\n")


def through(feed: Callable[[int], Iterable[Any]], passes: int) -> Callable[[int], None]:
    """Go through the data so often."""

    def work(number: int) -> None:
        for epoch in range(passes):
            for _ in feed(number * passes + epoch):
                pass

    return work


def plain(files: list[Path], into: Any) -> None:
    """Decode files in a plain loop."""
    for number, path in enumerate(files):
        with Image.open(path) as image:
            into[number] = np.asarray(image.convert("RGB"))


def two_processes(files: list[Path], side: int) -> None:
    """The plain loop in two forked processes, each with half of the files."""
    into = np.empty((len(files), side, side, 3), np.uint8)
    context = multiprocessing.get_context("fork")
    parts = files[::2], files[1::2]
    processes = [context.Process(target=plain, args=(part, into)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def folders(top: Path, count: int, side: int) -> dict[str, Callable[[int], object]]:
    """Ways to decode a folder of images of that side."""
    tree = top / f"images{side}"
    for number in range(count):
        path = tree / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number, side))
    files = sorted(tree.rglob("*.jpg"))

    def ours(number: int) -> Callable[[], object]:
        cache = tempfile.TemporaryDirectory(dir=top)
        image_folder(top, Path(cache.name), lambda *_: None, path=Path(tree.name), standardise=False)
        return cache.cleanup

    return {
        "plain loop, two processes": lambda number: two_processes(files, side),
        "ours, image_folder, decoded into the cache": ours,
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, for CI")
    quick = parser.parse_args().quick
    rounds = 7 if not quick else 2
    torch.set_num_threads(1)
    heads = "| {} | wall µs {} | x: median [min to max] | CPU µs {} | x: median [min to max] |\n|---|---|---|---|---|"
    with keep_pages(), tempfile.TemporaryDirectory() as name:
        samples = 1280 if quick else 5120
        tensors = torch.rand(samples, 3, SIDE, SIDE)
        files = Files(samples // 4)
        for title, inputs, data, passes in (
            ("tensors", tensors, TensorDataset(tensors, torch.arange(samples) % 10), 2),
            ("images decoded one by one", files, files, 1),
        ):
            print(f"### Streamed {title}\n\n" + heads.format("way of feeding", "a batch", "a batch"))
            feeds, ours = contenders(inputs, data)
            work = {label: through(feed, passes) for label, feed in feeds.items()}
            rows(work, rounds, passes * len(inputs) // BATCH, lambda label: f"DataLoader, {label.split(', ')[-1]}")
            for feed in ours:
                feed.close()
        for side, count in ((32, 2000), (224, 300)):
            count = count // 4 if quick else count
            print(f"### A folder of images, {side}x{side}\n\n" + heads.format("way", "an image", "an image"))
            rows(folders(Path(name), count, side), rounds, count, lambda label: "plain loop, two processes")


if __name__ == "__main__":
    main()
