"""A data component of the benchmarks: digits, repeated until an epoch has the number of updates asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, Dataset, DataSpec, PositiveInt, Split, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


def arrays() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels ``(1437, 64)`` in 0 to 1 and classes for training, and 360 of each for measuring."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, classes = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16.0, classes, test_size=360, random_state=0, stratify=classes)
    train_x, test_x, train_y, test_y = (torch.as_tensor(part) for part in parts)
    return train_x.float(), train_y.long(), test_x.float(), test_y.long()


def tiled(updates: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Training pixels and classes, repeated to fill the updates."""
    pixels, classes, _, _ = arrays()
    count = updates * batch_size
    repeats = -(-count // len(pixels))
    return pixels.repeat(repeats, 1)[:count], classes.repeat(repeats)[:count]


def tiled_digits(*, updates: PositiveInt = 500, batch_size: PositiveInt = 64) -> Dataset:
    """Digits, repeated to ``updates * batch_size`` training samples.

    Args:
        updates: updates in one epoch.
        batch_size: samples in one update.
    """
    _, _, test_x, test_y = arrays()
    train_x, train_y = tiled(updates, batch_size)
    sizes = {"train": len(train_x), "val": len(test_x)}
    spec = DataSpec((64,), "classification", 10, tuple("0123456789"), sizes=sizes)
    return Dataset(spec, {"train": Split(train_x, train_y), "val": Split(test_x, test_y)})


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("data", tiled_digits, example={"updates": 22})]
