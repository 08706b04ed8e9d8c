"""Images per CPU-second of the ways to feed 32x32 colour images in batches of 128, as ratios in one run.

    python benchmarks/data_path.py [--quick]

Interleaved in one process on one thread; medians over the rounds, smallest and largest in brackets. The peers are what
PyTorch's own parts give: a `Dataset` that crops and flips one image at a time, and a plain `TensorDataset`, both in
a `DataLoader` in the main process. All end with float32 images; "normalise" subtracts a mean from each channel and
divides by a deviation, else they go from 0 to 1. Freed memory is kept for all of them, as it is in a run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Batch, Dataset, DataSpec, Split
from trainkit.allocator import keep_pages
from trainkit.feed import make_feed
from trainkit_data.crops import Flip, RandomCrop
from trainkit_data.pixels import Scale

BATCH = 128
PADDING = 4
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of CIFAR-10's channels, in units of pixels


class PerSample(torch.utils.data.Dataset[Any]):
    """Crops and flips one image at a time, as most training scripts do."""

    def __init__(self, pixels: Tensor, targets: Tensor, normalise: bool) -> None:
        self.pixels = pixels
        self.targets = targets
        self.normalise = normalise
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Crop, flip and scale one image."""
        image = torch.nn.functional.pad(self.pixels[number], (PADDING,) * 4)
        row, column = torch.randint(0, 2 * PADDING + 1, (2,)).tolist()
        image = image[:, row : row + 32, column : column + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        if self.normalise:
            return image.float().sub_(self.mean).div_(self.std), self.targets[number]
        return image.float().div_(255), self.targets[number]


def contenders(samples: int) -> dict[str, Callable[[int], Iterable[Any]]]:
    """Each gives the batches of an epoch."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (samples, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.arange(samples) % 10
    scale = Scale((0.0,) * 3, (255.0,) * 3)
    spec = DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"))
    data = Dataset(spec, {"train": Split(pixels, targets)}, scale)
    small = Dataset(spec, {"train": Split(pixels.float().div_(255), targets)})
    normal = Dataset(spec, {"train": Split(pixels, targets)}, Scale(MEAN, STD))
    changes = (RandomCrop(PADDING, "zero"), Flip(0.5))

    def ours(data: Dataset, **settings: Any) -> Callable[[int], Iterable[Batch]]:
        return make_feed(data, batch_size=BATCH, seed=0, device="cpu", **settings).train

    per_sample, per_sample_normal = (
        DataLoader(PerSample(pixels, targets, normalise), batch_size=BATCH, shuffle=True) for normalise in (False, True)
    )
    plain = DataLoader(TensorDataset(pixels.float().div_(255), targets), batch_size=BATCH, shuffle=True)
    return {
        "per-sample crop+flip, DataLoader": lambda epoch: per_sample,
        "ours, resident, crop+flip": ours(data, augmentations=changes),
        "ours, streamed (workers=0), crop+flip": ours(data, augmentations=changes, loading="streamed", workers=0),
        "per-sample crop+flip+normalise, DataLoader": lambda epoch: per_sample_normal,
        "ours, resident, crop+flip+normalise": ours(normal, augmentations=changes),
        "ours, streamed (workers=0), crop+flip+normalise": ours(
            normal, augmentations=changes, loading="streamed", workers=0
        ),
        "plain, DataLoader(TensorDataset)": lambda epoch: plain,
        "ours, resident, plain": ours(small),
        "ours, resident, plain from bytes": ours(data),
        "ours, streamed (workers=0), plain": ours(small, loading="streamed", workers=0),
    }


def measure(samples: int, rounds: int) -> dict[str, list[float]]:
    """Images per CPU-second of each contender, round by round."""
    feeds = contenders(samples)
    speeds: dict[str, list[float]] = {name: [] for name in feeds}
    for epoch in range(rounds + 1):
        for name, feed in feeds.items():
            passes = 1 if "per-sample" in name else 6
            begun = time.process_time()
            for number in range(passes):
                for _ in feed(epoch * passes + number):
                    pass
            spent = time.process_time() - begun
            if epoch:  # the first round warms up
                speeds[name].append(passes * samples / spent)
    return speeds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds, for CI")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    with keep_pages():
        speeds = measure(samples=512 if quick else 10240, rounds=1 if quick else 11)
    plain = speeds["plain, DataLoader(TensorDataset)"]
    print(f"### Feeding 32x32 colour images, batch {BATCH}\n")
    print("| way of feeding | images a CPU-second | x per-sample: median [min to max] | x plain DataLoader |")
    print("|---|---|---|---|")
    for name, values in speeds.items():
        cells = []
        augmented = speeds[f"per-sample crop+flip{'+normalise' * ('normalise' in name)}, DataLoader"]
        for base in (augmented, plain):
            ratios = sorted(value / peer for value, peer in zip(values, base, strict=True))
            cells.append(f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]")
        print(f"| {name} | {statistics.median(values):,.0f} | {cells[0]} | {cells[1]} |")
    print(f"\n{len(plain)} interleaved rounds; CPU time of one thread.")


if __name__ == "__main__":
    main()
