"""Callbacks that change how a model is measured, and nothing else: factories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainkit import DataError, DataSpec, NonNegativeInt

if TYPE_CHECKING:
    from trainkit_callbacks.views import SeveralViews


def several_views(
    data_spec: DataSpec,
    /,
    *,
    flip: bool = True,
    shift: NonNegativeInt = 1,
    splits: tuple[Literal["val", "test", "train"], ...] = ("val", "test"),
) -> SeveralViews:
    """Measure the mean of the outputs for several views of each image: mirrored, and shifted.

    With a shift an image itself counts for half, it shifted up and left, and down and right, for a quarter each; what
    is shifted in is mirrored at the edge. With ``flip`` each of these is seen from both sides. An evaluation takes as
    many times longer as there are views: 6 with both. Training never sees them, nor do its figures. ``evaluate`` and
    ``predict`` of a finished run use them; a model that is exported, loaded or made a member of an ensemble is the
    model alone.

    Args:
        flip: whether images are mirrored left to right, too.
        shift: by how many pixels images are shifted; 0 for not at all.
        splits: what is measured so; others are measured plainly.

    Raises:
        DataError: if the samples are no images, or not larger than the shift.

    Source: Jordan 2024, section 3.5 (multi-crop evaluation), arXiv 2404.00498; averaging over crops and mirror images
    is that of Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1.
    """
    from trainkit_callbacks.views import SeveralViews

    if not flip and not shift:
        raise ValueError("flip = false and shift = 0 leave one view\n  leave the callback out, or write one of them")
    if len(data_spec.input_shape) != 3:
        raise DataError(
            "callback test_time_augmentation needs images (channels, height, width), the data has "
            f"{data_spec.input_shape}: leave it out"
        )
    if shift >= min(data_spec.input_shape[1:]):
        raise DataError(
            f"callback test_time_augmentation needs images larger than its shift of {shift}, the data has "
            f"{data_spec.input_shape}: shift less"
        )
    return SeveralViews(flip, shift, splits)
