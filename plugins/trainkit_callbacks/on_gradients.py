"""Callbacks that change gradients before they are used: factories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import NonNegative, Positive

if TYPE_CHECKING:
    from trainkit_callbacks.centring import GradientCentralization
    from trainkit_callbacks.clip import AdaptiveClip, ClipNorm, ClipValue
    from trainkit_callbacks.noise import GradientNoise


def gradient_centralization(*, conv_only: bool = False) -> GradientCentralization:
    """Subtract from each output's gradients their mean, in weights of two and more dimensions.

    An output's gradients are a row of a matrix or a filter of a convolution; biases and norms are left alone. It comes
    before noise and before every clipping, wherever it stands in the recipe.

    Args:
        conv_only: whether only weights of three and more dimensions are taken, which are those of convolutions.

    Source: Yong et al. 2020, "Gradient Centralization: A New Optimization Technique for Deep Neural Networks",
    equation 1; arXiv 2004.01461.
    """
    from trainkit_callbacks.centring import GradientCentralization

    return GradientCentralization(conv_only)


def gradient_noise(seed: int, /, *, eta: NonNegative = 0.01, gamma: NonNegative = 0.55) -> GradientNoise:
    """Add Gaussian noise to the gradients, of variance ``eta / (1 + t) ** gamma`` at update ``t``.

    The numbers depend on seed and update alone, so that a continued run draws the same ones. Whether the noise is
    clipped too follows from what stands first in the recipe. With compile = "step" the run goes on eagerly.

    Args:
        eta: variance at the first update; the paper tries 0.01, 0.3 and 1.
        gamma: how fast it falls.

    Source: Neelakantan et al. 2015, "Adding Gradient Noise Improves Learning for Very Deep Networks";
    arXiv 1511.06807.
    """
    from trainkit_callbacks.noise import GradientNoise

    return GradientNoise(seed, eta, gamma)


def agc(*, clipping: Positive = 0.01, eps: Positive = 1e-3, skip: tuple[str, ...] = ("head.*",)) -> AdaptiveClip:
    """Clip each unit's gradient where its norm is large beside that of the unit's weights.

    A unit is all that leads to one output of a layer: a row of a matrix, a filter of a convolution; a bias or a norm's
    scale is one unit as a whole. It comes before ``clip_norm``.

    Args:
        clipping: largest ratio of the gradient's norm to the weights' that passes unchanged.
        eps: least norm that weights count with, so that those that begin at zero can move.
        skip: patterns of parameters that are left alone; the paper leaves out the last layer.

    Source: Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization", section 4;
    arXiv 2102.06171.
    """
    from trainkit_callbacks.clip import AdaptiveClip

    return AdaptiveClip(clipping, eps, skip)


def clip_value(*, max_value: Positive) -> ClipValue:
    """Cut every number of the gradients at ``-max_value`` and ``max_value``.

    Agrees with `torch.nn.utils.clip_grad_value_`. It comes before ``clip_norm``, wherever it stands in the recipe.

    Args:
        max_value: largest absolute value that passes unchanged.

    Source: Mikolov 2012, "Statistical Language Models Based on Neural Networks", PhD thesis, Brno.
    """
    from trainkit_callbacks.clip import ClipValue

    return ClipValue(max_value)


def clip_norm(*, max_norm: Positive) -> ClipNorm:
    """Scale all gradients down together when their common L2 norm is above ``max_norm``.

    Agrees with `torch.nn.utils.clip_grad_norm_`.

    Args:
        max_norm: largest norm that passes unchanged.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", algorithm 1;
    arXiv 1211.5063.
    """
    from trainkit_callbacks.clip import ClipNorm

    return ClipNorm(max_norm)
