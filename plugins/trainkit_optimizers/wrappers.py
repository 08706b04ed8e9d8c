"""Optimizers around others, for ``[[optimizer.wrap]]``: lookahead, sam, asam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainkit import Between, NonNegative, Positive, PositiveInt

if TYPE_CHECKING:
    from torch import nn

    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, low_open=True)]


def lookahead(optimizer: Optimizer, /, *, k: PositiveInt = 5, alpha: Share = 0.5) -> Optimizer:
    """Lookahead: after every k updates, slow weights go a share of the way to the trained ones, which start from there.

    The state of the optimizer inside is kept as it is. Evaluation takes the trained weights: after update k, 2k, ...
    they are the slow ones. A frozen parameter is left alone, and counts its own updates from when it is trained.

    Args:
        k: updates between two steps of the slow weights.
        alpha: share of the way that the slow weights go.

    Source: Zhang et al. 2019, "Lookahead Optimizer: k steps forward, 1 step back", algorithm 1; arXiv 1907.08610.
    """
    from trainkit_optimizers.slow_weights import Lookahead

    return Lookahead(optimizer, k, alpha)


def sam(optimizer: Optimizer, model: nn.Module, /, *, rho: Positive = 0.05) -> Optimizer:
    """Sharpness-aware minimisation: the gradient is taken where the loss is highest nearby, ``w + rho g / |g|``.

    Every update takes two passes over its batches, and with accumulation over all of them: the norm is that of the
    whole gradient, over all groups. Loss and training metrics are those of the first pass. The second pass meets the
    same dropout, and leaves buffers such as BatchNorm's running statistics as the first pass left them. Hooks that
    change gradients, such as clip_norm's, see the second pass alone, whose gradient makes the update.

    Args:
        rho: length of the way to where the gradient is taken.

    Source: Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", equation 2 and
    algorithm 1, with p = 2; arXiv 2010.01412.
    """
    from trainkit_optimizers.sharpness import SharpnessAware

    return SharpnessAware(optimizer, model, rho)


def asam(optimizer: Optimizer, model: nn.Module, /, *, rho: Positive = 0.5, eta: NonNegative = 0.01) -> Optimizer:
    """Adaptive SAM: the neighbourhood grows with each weight: ``w + rho T^2 g / |T g|`` with ``T = |w| + eta``.

    As in the authors' code, T is 1 for parameters without "weight" in their name, such as biases. Everything else is as
    with sam.

    Args:
        rho: length of the way to where the gradient is taken, in units of T.
        eta: added to the size of every weight.

    Source: Kwon et al. 2021, "ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural
    Networks", equation 8 and algorithm 1; arXiv 2102.11600.
    """
    from trainkit_optimizers.sharpness import SharpnessAware

    return SharpnessAware(optimizer, model, rho, eta)
