"""Residual networks of both families of He et al.: one class, since they differ in four numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataError
from trainkit_models.fit import check_sample_shape, image_shape
from trainkit_models.layers import mean_over_image, start_convolutions

if TYPE_CHECKING:
    from trainkit import DataSpec

Option = Literal["A", "B"]

# Longest side of an image that the small stem takes: Tiny ImageNet's, of which the other stem would leave 2x2 pixels.
SMALL_IMAGE = 64


@dataclass(frozen=True)
class Plan:
    """What a depth stands for.

    Args:
        blocks: residual blocks of each stage; every stage but the first halves the image.
        channels: channels of the first stage; they double from stage to stage.
        expansion: a block's outputs per channel; 4 makes its blocks bottlenecks.
        shortcut: the option that was published with it.
    """

    blocks: tuple[int, ...]
    channels: int
    expansion: int
    shortcut: Option


# arXiv 1512.03385: section 4.2 for depths 6n + 2, table 1 for the others.
PLANS: Mapping[int, Plan] = {
    **{6 * n + 2: Plan((n, n, n), channels=16, expansion=1, shortcut="A") for n in (1, 2, 3, 5, 7, 9)},
    18: Plan((2, 2, 2, 2), channels=64, expansion=1, shortcut="B"),
    34: Plan((3, 4, 6, 3), channels=64, expansion=1, shortcut="B"),
    50: Plan((3, 4, 6, 3), channels=64, expansion=4, shortcut="B"),
}


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and channels of zeros behind the given ones; nothing to learn."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, channels, height, width)`` to ``(batch, channels + extra, ceil(height / stride), ...)``."""
        # Pooling over one pixel, not slicing: a slice's gradient leaves channels_last, which slows the whole step by a
        # fifth to a third (ResNet-8 on a CPU, float32 and bfloat16).
        taken = functional.avg_pool2d(inputs, kernel_size=1, stride=self.stride)
        return functional.pad(taken, (0, 0, 0, 0, 0, self.extra_channels))


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution without bias, which the batch norm behind it would undo, that keeps the image's size."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def make_shortcut(inputs: int, outputs: int, stride: int, option: Option) -> nn.Module:
    """Make what a block adds its result to: the input itself, unless its shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if option == "A":
        return PadShortcut(outputs - inputs, stride)
    return nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int, option: Option) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, channels, 3, stride)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.last_norm = nn.BatchNorm2d(channels)
        self.shortcut = make_shortcut(inputs, channels, stride, option)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, inputs, height, width)`` to ``(batch, channels, ceil(height / stride), ...)``."""
        hidden = functional.relu(self.norm1(self.conv1(inputs)))
        return functional.relu(self.last_norm(self.conv2(hidden)) + self.shortcut(inputs))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the stride is in the 3x3, as in torchvision ("v1.5")."""

    def __init__(self, inputs: int, channels: int, stride: int, option: Option, expansion: int) -> None:
        super().__init__()
        outputs = channels * expansion
        self.conv1 = convolution(inputs, channels, 1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels, 3, stride)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = convolution(channels, outputs, 1)
        self.last_norm = nn.BatchNorm2d(outputs)
        self.shortcut = make_shortcut(inputs, outputs, stride, option)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map ``(batch, inputs, height, width)`` to ``(batch, outputs, ceil(height / stride), ...)``."""
        hidden = functional.relu(self.norm1(self.conv1(inputs)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        return functional.relu(self.last_norm(self.conv3(hidden)) + self.shortcut(inputs))


class ResNet(nn.Module):
    """A stem, stages of residual blocks, the mean over the image, and a linear head."""

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        depth: int,
        width: float,
        shortcut: Literal["auto", "A", "B"],
        stem: Literal["auto", "small", "imagenet"],
        zero_init_residual: bool,
    ) -> None:
        super().__init__()
        colours, image_height, image_width = image_shape(data_spec, "resnet")
        plan = PLANS[depth]
        option: Option = plan.shortcut if shortcut == "auto" else shortcut
        if stem == "auto":
            stem = "small" if max(image_height, image_width) <= SMALL_IMAGE else "imagenet"
        halvings = len(plan.blocks) - 1 + (2 if stem == "imagenet" else 0)
        if min(image_height, image_width) < 2**halvings:
            cure = 'use stem = "small"' if stem == "imagenet" else "use a shallower family (depth 8) or model mlp"
            raise DataError(
                f"model resnet with depth {depth} and the {stem} stem halves the image {halvings} times and needs at "
                f"least {2**halvings} x {2**halvings} pixels, the data has {data_spec.input_shape}: {cure}"
            )
        self.input_shape = (colours, image_height, image_width)
        channels = max(1, round(plan.channels * width))
        self.stem = nn.Sequential(
            convolution(colours, channels, 3) if stem == "small" else convolution(colours, channels, 7, 2),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        if stem == "imagenet":
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.Sequential()
        inputs = channels
        for number, count in enumerate(plan.blocks):
            stage = nn.Sequential()
            for block in range(count):
                stride = 2 if number > 0 and block == 0 else 1
                stage.append(
                    BasicBlock(inputs, channels, stride, option)
                    if plan.expansion == 1
                    else BottleneckBlock(inputs, channels, stride, option, plan.expansion)
                )
                inputs = channels * plan.expansion
            self.stages.append(stage)
            channels *= 2
        self.head = nn.Linear(inputs, data_spec.outputs)
        start_convolutions(self)
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, BasicBlock | BottleneckBlock):
                    nn.init.zeros_(module.last_norm.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(batch, channels, height, width)`` to outputs ``(batch, outputs)``."""
        check_sample_shape(inputs, self.input_shape)
        outputs: Tensor = self.head(mean_over_image(self.stages(self.stem(inputs))))
        return outputs
