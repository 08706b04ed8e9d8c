"""Data sets of images kept as bytes: scaled, standardised and described."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainkit import DataError, Dataset, DataSpec, Split, fingerprint, split_by_fraction
from trainkit_data.tabular import View, count_classes, recut

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Gatherable

# Images whose statistics are counted at a time.
_CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class Scale:
    """Makes float images of stored pixels, whole numbers or mixtures of them: ``(pixels - mean) / std``.

    Args:
        mean: one number for each channel, in units of pixels.
        std: one number for each channel, in units of pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Scale images ``(batch, channels, height, width)``; gives float32."""
        # Each operation rounds once, whatever the batch.
        images = pixels.to(torch.float32, copy=True)
        if len(set(zip(self.mean, self.std, strict=True))) == 1:
            return (images.sub_(self.mean[0]) if self.mean[0] else images).div_(self.std[0])
        return images.sub_(_channels(self.mean, pixels.device)).div_(_channels(self.std, pixels.device))


@functools.lru_cache(maxsize=64)
def _channels(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """One number for each channel, as images are scaled by them: ``(channels, 1, 1)``."""
    return torch.tensor(numbers, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def fit_scale(inputs: Gatherable, part: Tensor, white: float = 255.0) -> Scale:
    """Mean and standard deviation of each channel over the training images.

    Args:
        inputs: uint8 ``(samples, channels, height, width)``.
        part: the training samples' numbers.
        white: value of a white pixel; pixels above it cannot be.
    """
    channels = inputs[part[:1]].shape[1]
    rows = max(1, _CHUNK_BYTES // max(1, inputs[part[:1]].nbytes))
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for first in range(0, len(part), rows):
        chunk = inputs[part[first : first + rows]]
        for channel in range(channels):
            # Counting grey levels is exact, and needs no float copy of the images.
            counts[channel] += torch.bincount(chunk[:, channel].reshape(-1), minlength=256)
    levels = torch.arange(256, dtype=torch.float64)
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = share @ levels
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    # A channel that never changes has nothing to divide by.
    std = torch.where(std == 0, torch.tensor(white, dtype=torch.float64), std)
    return Scale(tuple(mean.tolist()), tuple(std.tolist()))


def images(
    pixels: Gatherable,
    targets: Tensor,
    parts: Mapping[str, Tensor],
    *,
    classes: Sequence[str],
    white: float = 255.0,
    standardise: bool = False,
    known: str = "",
) -> Dataset:
    """Make a classification data set of byte images.

    Args:
        pixels: uint8 ``(samples, channels, height, width)``.
        targets: ``(samples,)`` int64.
        parts: sample numbers of each split.
        classes: names of the classes.
        white: the pixel value that becomes 1.
        standardise: give each channel mean 0 and standard deviation 1 over the training split; else pixels go 0 to 1.
        known: SHA-256 of pixels and targets, where it has been taken before.

    Raises:
        DataError: if there is no image to train on.
    """
    if not len(parts["train"]):
        raise DataError("there is no image left for training")
    channels = int(pixels[parts["train"][:1]].shape[1])
    scale = (
        fit_scale(pixels, parts["train"], white)
        if standardise
        else Scale((0.0,) * channels, (float(white),) * channels)
    )
    marks = {f"split {name}": part for name, part in parts.items()}
    if known:
        marks["content"] = torch.tensor(list(bytes.fromhex(known)), dtype=torch.uint8)
    else:
        marks |= {"pixels": pixels[torch.arange(len(pixels))], "targets": targets}
    spec = DataSpec(
        input_shape=tuple(pixels[parts["train"][:1]].shape[1:]),
        task="classification",
        outputs=len(classes),
        classes=tuple(classes),
        class_counts=count_classes(targets[parts["train"]], len(classes)),
        sizes={name: len(part) for name, part in parts.items()},
        fingerprint=fingerprint(marks),
        input_mean=scale.mean,
        input_std=scale.std,
    )

    def again(numbers: Mapping[str, Tensor]) -> Dataset:
        return images(
            pixels,
            targets,
            recut(parts, numbers),
            classes=classes,
            white=white,
            standardise=standardise,
            known=known,
        )

    return Dataset(spec, {name: take(pixels, targets, part) for name, part in parts.items()}, scale, recut=again)


def take(pixels: Gatherable, targets: Tensor, part: Tensor) -> Split:
    """One split: tensors are copied, files stay files."""
    inputs = pixels[part] if isinstance(pixels, torch.Tensor) else View(pixels, part)
    return Split(inputs, targets[part])


def hold_out(targets: Tensor, fixed: Mapping[str, Tensor], val: float, split_seed: int) -> dict[str, Tensor]:
    """Take validation samples out of a fixed training part, each class alike; the other parts stay.

    Args:
        targets: ``(samples,)`` of all parts together.
        fixed: sample numbers of each given part; ``train`` among them.
        val: share of the training part; ignored where ``val`` is given.
        split_seed: the choice is a function of this number.
    """
    if "val" in fixed or not val:
        return dict(fixed)
    train = fixed["train"]
    chosen = split_by_fraction(targets[train], {"val": val}, split_seed)
    rest = {name: part for name, part in fixed.items() if name != "train"}
    return {name: train[part] for name, part in chosen.items()} | rest
