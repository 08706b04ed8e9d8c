"""Attention by torch's kernels, also where several models are computed at once.

Under `torch.vmap` the kernel for CPUs has no rule of its own: torch (2.13) warns, and computes one model at a time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor, is_functorch_wrapped_tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool) -> Tensor:
    """What each position takes from the others, ``(batch, heads, positions, width of a head)``.

    Args:
        query: ``(batch, heads, positions, width of a head)``.
        key: of the positions that are looked at.
        value: of these too.
        mask: ``(positions, positions looked at)``, true where one may look; ``None`` where ``causal`` says it all.
        dropout: share of the weights set to zero.
        causal: whether each position looks at itself and those before it.
    """
    if not torch.compiler.is_dynamo_compiling() and is_functorch_wrapped_tensor(query) and not dropout:
        if is_batchedtensor(query) and mask is None:
            together: Tensor = _OfSeveralModels.apply(query, key, value, causal)  # type: ignore[no-untyped-call]
            return together
        return _written_out(query, key, value, mask, causal)
    return functional.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=causal)


def _written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The same in operations that every transform of `torch.func` knows."""
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-1, -2)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ value


class _OfSeveralModels(torch.autograd.Function):
    """Attention under `torch.vmap`: the models are so many more samples of one batch."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        """Compute one model's; never differentiated, as the rule below comes first."""
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
        """Compute all models' in one call, which autograd records as any other."""
        *parts, causal = given
        whole = [
            part.expand(info.batch_size, *part.shape) if place is None else part.movedim(place, 0)
            for part, place in zip(parts, in_dims, strict=False)
        ]
        query, key, value = [part.flatten(0, 1) for part in whole]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return mixed.reshape(info.batch_size, -1, *mixed.shape[1:]), 0
