"""Contrastive learning: factories. Importing this does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainkit import Between, DataSpec, Fraction, Nested, Positive, PositiveInt

if TYPE_CHECKING:
    from torch import nn

    from trainkit import Augmentation, Loss
    from trainkit_unsupervised.probing import LinearProbe

Share = Annotated[float, Between(0, 1, low_open=True)]


def views(
    *, of: list[Annotated[Any, Nested("augmentation")]], count: Annotated[int, Between(2, 16)] = 2
) -> Augmentation:
    """Several views of each sample, each changed at random in its own way: ``(batch, views, ...)``.

    Evaluations see views too, of each sample the same each time. Targets stay as they are.

    Args:
        of: what changes a view, in this order.
        count: views of a sample.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", arXiv
    2002.05709, section 2.1.
    """
    from trainkit_unsupervised.viewing import Views

    if not of:
        raise ValueError("views without augmentations are all alike\nwrite [[data.augment.of]] with use = ...")
    return Views(tuple(of), count)


def resized_crop(
    data_spec: DataSpec,
    /,
    *,
    least: Share = 0.25,
    stretch: Annotated[float, Between(1, 4)] = 4 / 3,
    degrees: Annotated[float, Between(0, 180)] = 0.0,
) -> Augmentation:
    """Cut a part out of each image at random and enlarge it to the image's size, by bilinear interpolation.

    Args:
        least: smallest share of the image's area; the largest is all of it.
        stretch: the part is narrower or flatter than the image by this factor at most, before it is enlarged.
        degrees: the part is turned by up to so much, either way; what lies outside the image mirrors its edge.

    Raises:
        DataError: if the samples are no images.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 6; Chen et al. 2020, arXiv 2002.05709,
    appendix A.
    """
    from trainkit_unsupervised.viewing import ResizedCrop, need_images

    need_images(data_spec, "resized_crop")
    return ResizedCrop(least, stretch, degrees)


def colour_jitter(
    data_spec: DataSpec,
    /,
    *,
    brightness: Fraction = 0.4,
    contrast: Fraction = 0.4,
    saturation: Fraction = 0.4,
    hue: Annotated[float, Between(0, 0.5)] = 0.1,
    grey: Fraction = 0.2,
    probability: Fraction = 0.8,
) -> Augmentation:
    """Change brightness, contrast and colours of each image at random, or take its colours away.

    Each factor lies between 1 - s and 1 + s. Values are not clipped. Images of one channel have no colours to change.

    Args:
        brightness: s of the factor on all pixels.
        contrast: s of the factor on each pixel's distance from the image's mean brightness.
        saturation: s of the factor on each pixel's distance from its own grey.
        hue: colours are turned by up to this share of the circle, either way.
        grey: share of the images that lose their colours, whatever else happens to them.
        probability: share of the images whose colours are changed.

    Raises:
        DataError: if the samples are no images of one or three channels.

    Source: Chen et al. 2020, arXiv 2002.05709, appendix A; hue is turned in the plane of YIQ.
    """
    from trainkit import DataError
    from trainkit_unsupervised.viewing import ColourJitter, need_images

    need_images(data_spec, "colour_jitter")
    if data_spec.input_shape[0] not in (1, 3):
        raise DataError(
            f"colour_jitter needs images of one or three channels, the data has {data_spec.input_shape}: leave it out"
        )
    return ColourJitter(brightness, contrast, saturation, hue, grey, probability)


def simclr(
    data_spec: DataSpec,
    /,
    *,
    encoder: Annotated[Any, Nested("model")],
    projection: Annotated[int, Between(2)] = 64,
    hidden: PositiveInt | None = None,
) -> nn.Module:
    """An encoder, and a projection of what it says to the numbers that the loss ``nt_xent`` compares.

    The encoder's last layer, its ``head``, is taken off: what comes before it is the representation that other tasks
    begin with, by ``[model] weights``, ``rename = { "encoder." = "" }`` and ``head = ["head.*", "projection.*"]``.

    Args:
        encoder: any model whose last layer is a linear one called ``head``: mlp, convnet, resnet.
        projection: numbers of the projection.
        hidden: width of the projection's hidden layer; unset is that of the representation.

    Raises:
        DataError: if the encoder has no such layer.

    Source: Chen et al. 2020, arXiv 2002.05709, sections 2.1 and 4.2: linear, ReLU, linear, with BatchNorm between as in
    its code.
    """
    from trainkit_unsupervised.contrastive import SimClr

    return SimClr(data_spec, encoder, projection, hidden)


def nt_xent(*, temperature: Positive = 0.5) -> Loss:
    """Cross-entropy of finding each view's other view among all other views of the batch, by the cosine between them.

    Outputs are ``(batch, views, numbers)``; targets are not looked at. Larger batches make a harder task, so that
    losses of other batch sizes are not comparable; with accumulation each loader batch is one. Of samples that have one
    view alone, this view stands for both.

    Args:
        temperature: what cosines are divided by; lower ones look at the nearest others more. A schedule may change it.

    Source: Chen et al. 2020, arXiv 2002.05709, equation 1; with more than two views the mean over the others.
    """
    from trainkit_unsupervised.contrastive import NtXent

    return NtXent(temperature)


def linear_probe(
    data_spec: DataSpec,
    /,
    *,
    samples: PositiveInt = 4096,
    strength: Positive = 0.01,
    splits: tuple[Literal["val", "test"], ...] = ("val", "test"),
) -> LinearProbe:
    """Measure what a linear classifier makes of a contrastive model's representation: the figure ``probe``.

    At each evaluation ridge regression on the classes is fitted, in one step, to the representations of training
    samples, and ``probe`` is its accuracy on the split. Labels are used for nothing else. Samples are seen as they are,
    not as views.

    Args:
        samples: training samples that it is fitted to, at equal distances over the split, and the most that are
            measured.
        strength: of the ridge, relative to the variance of a feature, for each sample.
        splits: what is measured.

    Raises:
        DataError: if the data has no classes.

    Source: Chen et al. 2020, arXiv 2002.05709, section 2.3 (linear evaluation); here by least squares.
    """
    from trainkit import DataError
    from trainkit_unsupervised.probing import LinearProbe

    if data_spec.task not in ("classification", "binary"):
        raise DataError(
            f"callback linear_probe measures by classes, and the data's task is {data_spec.task}: leave it out"
        )
    classes = 2 if data_spec.task == "binary" else data_spec.outputs
    return LinearProbe(classes, samples, strength, splits)
