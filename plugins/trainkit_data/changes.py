"""Augmentations: each changes a training batch, with random numbers of each sample's own. Importing this is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainkit import DataError, DataSpec, Fraction, NonNegativeInt, Positive, PositiveInt

if TYPE_CHECKING:
    from trainkit import Augmentation


def random_crop(
    data_spec: DataSpec, /, *, padding: NonNegativeInt = 4, mode: Literal["zero", "reflect"] = "zero"
) -> Augmentation:
    """Shift each image by up to ``padding`` pixels both ways: pad all sides, then cut the old size out at random.

    Args:
        padding: pixels added on each side.
        mode: what the added pixels hold: ``zero``, or the image mirrored at its edge (``reflect``).

    Raises:
        DataError: if the samples are no images, or too small to be mirrored so far.
    """
    from trainkit_data.crops import RandomCrop

    height, width = _image_size(data_spec, "random_crop")
    if mode == "reflect" and padding >= min(height, width):
        raise DataError(
            f'random_crop with mode = "reflect" needs padding below the image size {height}x{width}, got {padding}'
        )
    return RandomCrop(padding, mode)


def flip(data_spec: DataSpec, /, *, probability: Fraction = 0.5, alternate: bool = False) -> Augmentation:
    """Mirror each image left to right with some probability.

    Args:
        probability: share of the images that are mirrored; with ``alternate`` those of the first epoch.
        alternate: whether an image's side changes from each epoch to the next instead of being drawn anew: any two
            epochs in a row then show both sides of every image.

    Raises:
        DataError: if the samples are no images.

    Source: alternating flip of Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", section 3.6,
    arXiv 2404.00498.
    """
    from trainkit_data.crops import Flip

    _image_size(data_spec, "flip")
    return Flip(probability, alternate)


def cutout(
    data_spec: DataSpec,
    /,
    *,
    size: PositiveInt = 8,
    inside: bool = False,
    fill: Literal["zero", "mean"] = "zero",
) -> Augmentation:
    """Blacken one square of each image, anywhere; squares over the edge are cut off there.

    The square holds stored zeros, which is black for bytes and the mean for inputs that are stored standardised.

    Args:
        size: side of the square in pixels.
        inside: whether the whole square lies within the image.
        fill: what the square of an image of bytes holds: ``zero``, or the ``mean`` of each channel over the training
            images, where the data was standardised by it.

    Raises:
        DataError: if the samples are no images, or too small for a square within.

    Source: DeVries & Taylor 2017, arXiv 1708.04552, section 3.2.
    """
    from trainkit_data.crops import Cutout

    height, width = _image_size(data_spec, "cutout")
    if inside and size > min(height, width):
        raise DataError(f"cutout with inside = true needs size up to the image's {height}x{width}, got {size}")
    # Bytes are standardised by numbers in their own unit when they are prepared.
    mean = tuple(round(one) for one in data_spec.input_mean) if fill == "mean" else ()
    return Cutout(size, inside, mean)


def mixup(data_spec: DataSpec, /, *, alpha: Positive = 0.2, probability: Fraction = 1.0) -> Augmentation:
    """Mix each sample and its target with those of another sample of the batch: ``x = w x + (1 - w) x'``.

    Each sample has a weight ``w`` of its own from Beta(alpha, alpha), made of two uniform numbers; its partner is the
    sample at the same place when the batch is sorted by another uniform number. Integer targets become
    ``(batch, classes)`` probabilities. Bytes are mixed as floats of the same range, 0 to 255.

    Args:
        alpha: both parameters of the Beta distribution; large values mix evenly.
        probability: share of the samples that are mixed at all.

    Raises:
        DataError: if the samples are tokens, or some inputs are numbers of categories, between which there is nothing.

    Source: Zhang et al. 2018, arXiv 1710.09412, equation 1; weights per sample instead of per batch.
    """
    from trainkit_data.mixing import Mixup

    if data_spec.task == "tokens":
        raise DataError("mixup mixes numbers, and between the numbers of two tokens there is nothing; leave it out")
    if any(data_spec.categories):
        raise DataError(
            "mixup mixes numbers, and between the numbers of two categories there is nothing; leave it out, or set "
            "embed = false"
        )
    return Mixup(alpha, probability, data_spec.outputs)


def cutmix(data_spec: DataSpec, /, *, alpha: Positive = 1.0, probability: Fraction = 1.0) -> Augmentation:
    """Paste a box of another image of the batch into each image, and mix the targets by the area.

    The box has the image's aspect and a share ``1 - w`` of its area, with ``w`` from Beta(alpha, alpha) and a uniform
    centre, for each sample its own; over the edge it is cut off, and the weight is the area that remains. Partner,
    weight and targets are made as for `mixup`.

    Args:
        alpha: both parameters of the Beta distribution; 1 is uniform.
        probability: share of the samples that are mixed at all.

    Raises:
        DataError: if the samples are no images, or the targets are no classes.

    Source: Yun et al. 2019, arXiv 1905.04899, section 3.1; boxes per sample instead of per batch.
    """
    from trainkit_data.mixing import CutMix

    _image_size(data_spec, "cutmix")
    if data_spec.task == "regression":
        raise DataError("cutmix mixes classes, and the data is a regression; use mixup")
    return CutMix(alpha, probability, data_spec.outputs)


def _image_size(data_spec: DataSpec, name: str) -> tuple[int, int]:
    if len(data_spec.input_shape) != 3:
        raise DataError(
            f"augmentation {name} needs images (channels, height, width), the data has {data_spec.input_shape}: "
            "leave it out"
        )
    return data_spec.input_shape[1], data_spec.input_shape[2]
