"""Views of samples, and what changes images so that they stay what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainkit import Augmentation, Batch, DataError, DataSpec, Draw

# Rows give Y, I and Q of red, green and blue. Source: NTSC, FCC 1953.
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


def need_images(data_spec: DataSpec, name: str) -> None:
    """Refuse data of other samples than images.

    Raises:
        DataError: if samples are not ``(channels, height, width)``.
    """
    if len(data_spec.input_shape) != 3:
        raise DataError(
            f"{name} needs images (channels, height, width), the data has {data_spec.input_shape}: leave it out"
        )


@dataclass(frozen=True)
class OfView:
    """The random numbers of one augmentation of one view.

    Args:
        draw: those of the sample.
        mark: tells view and augmentation apart.
    """

    draw: Draw
    mark: str

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.draw.epoch

    def __call__(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, of this epoch."""
        return self.draw(self.mark + name, count)

    def lasting(self, name: str, count: int = 1, /) -> Tensor:
        """``count`` numbers a sample, the same in every epoch."""
        return self.draw.lasting(self.mark + name, count)


@dataclass(frozen=True)
class Views:
    """See `trainkit_unsupervised.pairs.views`."""

    of: Sequence[Augmentation]
    count: int
    always = True  # what is learned is to compare views: there is nothing to measure on one of them

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Make the views of each sample."""
        made = []
        for view in range(self.count):
            changed = batch
            for place, augmentation in enumerate(self.of):
                changed = augmentation(changed, OfView(draw, f"{view}.{place}."))
            made.append(changed.inputs)
        return Batch(torch.stack(made, 1), batch.targets, batch.index)


@dataclass(frozen=True)
class ResizedCrop:
    """See `trainkit_unsupervised.pairs.resized_crop`."""

    least: float
    stretch: float
    degrees: float

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Cut out and enlarge ``(batch, channels, height, width)``; gives floats in units of the pixels."""
        images = batch.inputs if batch.inputs.is_floating_point() else batch.inputs.float()
        area, ratio, across, down, turn = draw("part", 5).to(images.dtype).unbind(1)
        area = self.least + (1 - self.least) * area
        root = ((2 * ratio - 1) * (math.log(self.stretch) / 2)).exp()
        width, height = ((area.sqrt() * side).clamp(max=1.0) for side in (root, 1 / root))
        angle = (2 * turn - 1) * math.radians(self.degrees)
        cos, sin = angle.cos(), angle.sin()
        x, y = (1 - width) * (2 * across - 1), (1 - height) * (2 * down - 1)
        tall = images.shape[-2] / images.shape[-1]  # both sides reach from -1 to 1, whatever their pixels
        rows = torch.stack((width * cos, -height * sin * tall, x, width * sin / tall, height * cos, y), 1).view(
            -1, 2, 3
        )
        grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
        cut = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return Batch(cut, batch.targets, batch.index)


@dataclass(frozen=True)
class ColourJitter:
    """See `trainkit_unsupervised.pairs.colour_jitter`."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    grey: float
    probability: float

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Change the colours of ``(batch, channels, height, width)``; gives floats in units of the pixels."""
        images = batch.inputs if batch.inputs.is_floating_point() else batch.inputs.float()
        drawn = draw("colours", 6).to(images.dtype)[:, :, None, None, None]
        bright, contrast, saturation, turn, whether, colourless = drawn.unbind(1)
        changed = images * self._factor(bright, self.brightness)
        middle = _brightness(changed).mean((1, 2, 3), keepdim=True)
        changed = middle + (changed - middle) * self._factor(contrast, self.contrast)
        if images.shape[1] == 3:
            own = _brightness(changed)
            changed = own + (changed - own) * self._factor(saturation, self.saturation)
            changed = _turned(changed, (2 * turn - 1) * (2 * math.pi * self.hue))
        changed = torch.where(whether < self.probability, changed, images)
        changed = torch.where(colourless < self.grey, _brightness(changed), changed)
        return Batch(changed, batch.targets, batch.index)

    @staticmethod
    def _factor(drawn: Tensor, spread: float) -> Tensor:
        return 1 + spread * (2 * drawn - 1)


def _brightness(images: Tensor) -> Tensor:
    """Y of each pixel, ``(batch, 1, height, width)``."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    weights = _YIQ[0]
    return (weights[0] * red + weights[1] * green + weights[2] * blue).unsqueeze(1)


def _turned(images: Tensor, angle: Tensor) -> Tensor:
    """Colours turned about grey by ``angle``, ``(batch, 1, 1, 1)``."""
    forth = torch.tensor(_YIQ, dtype=torch.float64)
    back = forth.inverse().tolist()
    red, green, blue = images.unbind(1)
    luma, first, second = (row[0] * red + row[1] * green + row[2] * blue for row in _YIQ)
    cos, sin = angle.cos().squeeze(1), angle.sin().squeeze(1)
    first, second = first * cos - second * sin, first * sin + second * cos
    return torch.stack([row[0] * luma + row[1] * first + row[2] * second for row in back], 1)
