"""Layers that several models share, and how their weights start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from trainkit_models import Activation

# Never in place: an overwritten activation would break per-sample gradients and gradient checks.
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def mean_over_image(inputs: Tensor) -> Tensor:
    """Map ``(batch, channels, height, width)`` to ``(batch, channels)``."""
    # Pooling, not `mean`: its gradient leaves channels_last, and the next backward pass has to read two layouts, which
    # slows the whole step of ResNet-8 by 3 to 5 % (CPU, float32 and bfloat16).
    return functional.avg_pool2d(inputs, kernel_size=inputs.shape[2:]).flatten(1)


def start_hidden(layer: nn.Linear, activation: Activation) -> None:
    """Draw a hidden layer's weights so that the signal keeps its variance: He et al. for relu and its smooth kin.

    Source: He et al. 2015, arXiv 1502.01852, eq. 10; Glorot & Bengio 2010, eq. 16 for tanh.
    """
    if activation == "tanh":
        nn.init.xavier_uniform_(layer.weight)
    else:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def start_convolutions(model: nn.Module) -> None:
    """Draw every convolution of a model from He's normal distribution over the fan-out, biases zero.

    The head keeps what `nn.Linear` does, variance 1 / (3 fan_in): small logits, so the first loss is near ln(classes).

    Source: He et al. 2015, arXiv 1502.01852, section 2.2 (backward case), as in torchvision's ResNet.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
