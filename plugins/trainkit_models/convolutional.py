"""A plain stack of convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from trainkit import DataError
from trainkit_models.fit import check_sample_shape, image_shape
from trainkit_models.layers import ACTIVATIONS, mean_over_image, start_convolutions

if TYPE_CHECKING:
    from trainkit import DataSpec
    from trainkit_models import Activation


class ConvNet(nn.Module):
    """3x3 convolutions with a 2x2 maximum between them, the mean over the image, and a linear head."""

    def __init__(
        self,
        data_spec: DataSpec,
        *,
        widths: tuple[int, ...],
        activation: Activation,
        dropout: float,
        norm: Literal["none", "batch"],
    ) -> None:
        super().__init__()
        channels, height, width = image_shape(data_spec, "convnet")
        least = 2 ** max(0, len(widths) - 1)
        if not widths:
            raise DataError("model convnet needs at least one convolution, widths is []: use model linear")
        if min(height, width) < least:
            raise DataError(
                f"model convnet with {len(widths)} widths halves the image {len(widths) - 1} times and needs at least "
                f"{least} x {least} pixels, the data has {data_spec.input_shape}: give fewer widths"
            )
        self.input_shape = (channels, height, width)
        self.body = nn.Sequential()
        for number, filters in enumerate(widths):
            if number:
                self.body.append(nn.MaxPool2d(2))
            self.body.append(nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=norm == "none"))
            if norm == "batch":
                self.body.append(nn.BatchNorm2d(filters))
            self.body.append(ACTIVATIONS[activation]())
            channels = filters
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(channels, data_spec.outputs)
        start_convolutions(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images ``(batch, channels, height, width)`` to outputs ``(batch, outputs)``."""
        check_sample_shape(inputs, self.input_shape)
        outputs: Tensor = self.head(self.dropout(mean_over_image(self.body(inputs))))
        return outputs
