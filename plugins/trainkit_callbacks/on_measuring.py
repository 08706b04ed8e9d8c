"""Callbacks that change how a model is measured, and nothing else: factories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainkit import DataError, DataSpec, Fraction, NonNegativeInt

if TYPE_CHECKING:
    from trainkit_callbacks.thresholds import Threshold
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


def threshold(
    data_spec: DataSpec,
    /,
    *,
    maximise: Literal["balanced_accuracy", "f1", "positive_f1", "mcc", "accuracy"] = "balanced_accuracy",
    least_recall: Fraction = 0.0,
    least_precision: Fraction = 0.0,
) -> Threshold:
    """Decide between two classes at a threshold that each evaluation of the validation split chooses anew.

    The threshold is kept in checkpoints, with the weights it was chosen for: metrics of predicted classes (accuracy,
    error, f1, balanced_accuracy) use it on validation and test samples, and so do ``evaluate``, ``predict`` and the
    confusion on a run's page. The figure ``val.threshold`` is the probability of the second class at it. Training, the
    loss, and figures of probabilities or ranks know nothing of it; neither do exports and ensembles, which have the
    model alone. Figures on the validation samples that it was chosen on flatter it a little: those on test samples
    count.

    Args:
        maximise: what it is chosen by: the mean of both classes' recall, the mean of both classes' F1, F1 of the second
            class, Matthews' correlation, or the share of right ones.
        least_recall: of the second class, the share that must be found.
        least_precision: of those that are predicted as the second class, the share that must be right; where no
            threshold has both, this one gives way.

    Raises:
        DataError: if the data does not have two classes, or no validation samples; on evaluating, if these are all of
            one class.

    Source: Fawcett 2006, "An introduction to ROC analysis"; Youden 1950, "Index for rating diagnostic tests".
    """
    from functools import partial

    from trainkit_callbacks.thresholds import Threshold, choose

    two = data_spec.task == "binary" or (data_spec.task == "classification" and data_spec.outputs == 2)
    if not two:
        has = f"{data_spec.outputs} classes" if data_spec.task == "classification" else f"the task {data_spec.task}"
        raise DataError(
            f"callback threshold decides between two classes, the data has {has}: leave it out; balance in [loss], or "
            'sampling = "balanced" in [data], is for any number of classes'
        )
    if data_spec.sizes and not data_spec.sizes.get("val"):
        raise DataError("callback threshold is chosen on validation samples, the data has none: leave it out")
    return Threshold(partial(choose, criterion=maximise, least_recall=least_recall, least_precision=least_precision))
