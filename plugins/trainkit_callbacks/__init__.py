"""Callbacks: objects whose hooks act on a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit import Component, NonNegative, NonNegativeInt, Positive, hookimpl

if TYPE_CHECKING:
    from trainkit_callbacks.clip import ClipNorm
    from trainkit_callbacks.stopping import EarlyStop


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


def early_stop(*, monitor: str = "val.loss", patience: NonNegativeInt = 5, min_delta: NonNegative = 0.0) -> EarlyStop:
    """End the run when a figure has stopped getting better.

    Whether lower or higher is better follows from the figure. A figure that is not finite never counts as better.

    Args:
        monitor: the figure, such as "val.loss" or "val.accuracy".
        patience: evaluations without improvement that are borne; the next one ends the run.
        min_delta: how much better a figure must be to count.

    Source: Prechelt 1998, "Early Stopping - But When?".
    """
    from trainkit_callbacks.stopping import EarlyStop

    return EarlyStop(monitor, patience, min_delta)


@hookimpl
def trainkit_components() -> list[Component]:
    return [
        Component("callback", clip_norm, example={"max_norm": 1.0}, capabilities={"compiles": True}),
        Component("callback", early_stop, example={"monitor": "val.loss", "patience": 3}),
    ]
