"""Optimizers for matrices: muon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainkit import Between, NonNegative, Positive

if TYPE_CHECKING:
    from trainkit import Optimizer

Share = Annotated[float, Between(0, 1, high_open=True)]


def muon(
    params: list[dict[str, Any]],
    /,
    *,
    lr: Positive = 1e-3,
    weight_decay: NonNegative = 0.1,
    momentum: Share = 0.95,
    nesterov: bool = True,
    ns_steps: Annotated[int, Between(1, 99)] = 5,
    eps: Positive = 1e-7,
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original",
    normalise: bool = False,
) -> Optimizer:
    """Muon: the momentum of a matrix, made orthogonal, is the step; for the weights of hidden layers.

    Biases, norms, embeddings and the head need another optimizer: with ``[optimizer.rest]`` they go there by
    themselves. The kernel of a convolution is taken as the matrix of its outputs against all else, as the author does.
    Agrees with `torch.optim.Muon`, which takes matrices alone, and has its defaults; the author's own are lr 0.02 and
    no decay. The decay is decoupled.

    Args:
        lr: learning rate.
        weight_decay: share of the weights, times the learning rate, that each update takes off.
        momentum: share of the last update's direction that is kept.
        nesterov: look ahead along the momentum. The same for all groups, as are ns_steps, adjust_lr_fn and normalise.
        ns_steps: iterations of the polynomial that makes a matrix orthogonal.
        eps: smallest norm that a matrix is divided by.
        adjust_lr_fn: a matrix's rate is multiplied by sqrt(max(1, rows / columns)), or by 0.2 sqrt(max(rows, columns)),
            with which AdamW's rates fit.
        normalise: bring each matrix to the norm sqrt(rows) before each step, so that the rate alone says how far it
            turns. For layers in front of a norm, which take no notice of their weights' size; weight_decay is then 0.

    Raises:
        ValueError: for a parameter that is no matrix, naming it.

    Source: Jordan et al. 2024, "Muon"; normalise as in Jordan 2024, "airbench94_muon"; Liu et al. 2025, "Muon is
    Scalable for LLM Training"; arXiv 2502.16982.
    """
    from trainkit import ElementwiseOptimizer
    from trainkit_optimizers.matrix_rules import Muon

    for group in params:
        # Whoever builds groups by hand may leave the names out.
        for name, parameter in zip(group.get("names", [""] * len(group["params"])), group["params"], strict=True):
            if parameter.dim() < 2:
                what = f"'{name}'" if name else "a parameter"
                raise ValueError(
                    f"muon takes matrices and kernels alone, {what} has the shape {tuple(parameter.shape)}"
                )
    rule = Muon(nesterov, ns_steps, adjust_lr_fn, normalise)
    return ElementwiseOptimizer(params, rule, lr=lr, weight_decay=weight_decay, momentum=momentum, eps=eps)
