"""A data component of the benchmarks: images of normal noise, as many as the updates of an epoch take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, Dataset, DataSpec, NonNegativeInt, PositiveInt, Split, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


def images(count: int) -> tuple[Tensor, Tensor]:
    """Normal pixels ``(count, 3, 32, 32)`` and ten classes, the same every time."""
    import torch

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    return pixels, torch.randint(0, 10, (count,), generator=generator)


def random_images(*, updates: PositiveInt = 8, batch_size: PositiveInt = 128, measured: NonNegativeInt = 0) -> Dataset:
    """Images of normal noise in ten classes; there is nothing to learn but the time it takes.

    Args:
        updates: updates in one epoch.
        batch_size: samples in one update.
        measured: samples for validation.
    """
    train = updates * batch_size
    pixels, classes = images(train + measured)
    splits = {"train": Split(pixels[:train], classes[:train])}
    if measured:
        splits["val"] = Split(pixels[train:], classes[train:])
    sizes = {name: len(split) for name, split in splits.items()}
    return Dataset(DataSpec((3, 32, 32), "classification", 10, tuple("0123456789"), sizes=sizes), splits)


@hookimpl
def trainkit_components() -> list[Component]:
    """List the data."""
    return [Component("data", random_images, example={"updates": 2})]
