"""A small convolutional network that learns in few epochs; its first layer is known before the first update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError, Run, hookimpl
from trainkit_models.fit import check_sample_shape, image_shape
from trainkit_models.layers import ACTIVATIONS
from trainkit_models.whitening import second_moment, whitening_filters

if TYPE_CHECKING:
    from trainkit import DataSpec
    from trainkit_models import Activation

PATCH = 2  # pixels on each side of what the first layer makes white
AT_ONCE = 250  # images that are cut into patches together, of which each pixel is in four


def dirac_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution whose first outputs begin as its inputs: the signal passes a new network unharmed.

    Source: Jordan 2024, section 3.3, arXiv 2404.00498, after Zagoruyko & Komodakis 2017, arXiv 1706.00388.
    """
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:inputs])
    return layer


def shifting_norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """A BatchNorm that learns what it adds, and not what it multiplies by."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    norm.weight.requires_grad_(False)
    return norm


class Group(nn.Module):
    """Two or three convolutions at one size: the first halves the image, the last two of three have a shortcut."""

    def __init__(self, inputs: int, channels: int, convolutions: int, activation: Activation, momentum: float) -> None:
        super().__init__()
        self.conv1 = dirac_convolution(inputs, channels)
        self.norm1 = shifting_norm(channels, momentum)
        self.conv2 = dirac_convolution(channels, channels)
        self.norm2 = shifting_norm(channels, momentum)
        self.conv3 = dirac_convolution(channels, channels) if convolutions == 3 else None
        self.norm3 = shifting_norm(channels, momentum) if convolutions == 3 else None
        self.activation = ACTIVATIONS[activation]()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, inputs, height, width)`` to ``(batch, channels, height // 2, width // 2)``."""
        halved = functional.max_pool2d(self.conv1(inputs), 2)
        hidden: Tensor = self.activation(self.norm1(halved))
        outputs = self.norm2(self.conv2(hidden))
        if self.conv3 is not None and self.norm3 is not None:
            outputs = self.norm3(self.conv3(self.activation(outputs))) + hidden
        found: Tensor = self.activation(outputs)
        return found


class SpeedNet(nn.Module):
    """A frozen whitening layer, groups of convolutions, the maximum over the image, and a scaled linear head.

    The whitening layer is set from training images before a run builds its optimizer. Until then, and in a model that
    is built outside of a run, it is a random one; its weights are in every checkpoint.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        widths: tuple[int, ...],
        convolutions: int,
        activation: Activation,
        norm_momentum: float,
        logit_scale: float,
        whiten_samples: int,
        whiten_eps: float,
    ) -> None:
        super().__init__()
        colours, height, width = image_shape(data_spec, "speednet")
        least = 2 ** len(widths) + PATCH - 1
        if min(height, width) < least:
            raise DataError(
                f"model speednet with {len(widths)} widths halves the image {len(widths)} times and needs at least "
                f"{least} x {least} pixels, the data has {data_spec.input_shape}: write fewer widths"
            )
        self.input_shape = (colours, height, width)
        self.logit_scale = logit_scale
        self.whiten_samples = whiten_samples
        self.whiten_eps = whiten_eps
        self.whiten = nn.Conv2d(colours, 2 * colours * PATCH**2, PATCH)
        self.whiten.weight.requires_grad_(False)
        assert self.whiten.bias is not None
        nn.init.zeros_(self.whiten.bias)
        self.activation = ACTIVATIONS[activation]()
        self.groups = nn.Sequential()
        inputs = self.whiten.out_channels
        for channels in widths:
            self.groups.append(Group(inputs, channels, convolutions, activation, norm_momentum))
            inputs = channels
        self.head = nn.Linear(inputs, data_spec.outputs, bias=False)

    @hookimpl
    def trainkit_prepare_model(self, run: Run) -> None:
        """Set the whitening layer from training images, without augmentation."""
        images = run.feed.spread("train", self.whiten_samples).inputs
        moment = second_moment((part.to(run.device) for part in torch.split(images, AT_ONCE)), PATCH)
        filters = whitening_filters(moment, (self.input_shape[0], PATCH, PATCH), self.whiten_eps)
        with torch.no_grad():
            self.whiten.weight.copy_(filters)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(batch, channels, height, width)`` to outputs ``(batch, outputs)``."""
        check_sample_shape(inputs, self.input_shape)
        hidden = self.groups(self.activation(self.whiten(inputs)))
        highest = functional.max_pool2d(hidden, hidden.shape[2:]).flatten(1)
        outputs: Tensor = self.head(highest) * self.logit_scale
        return outputs
