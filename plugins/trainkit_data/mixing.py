"""Mixing samples of a batch with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainkit import Batch
from trainkit_data.crops import below, box

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Draw


def symmetric_beta(draws: Tensor, alpha: float) -> Tensor:
    """Turn pairs of uniform numbers into numbers of Beta(alpha, alpha), exactly and without rejection.

    ``t`` of a Student distribution with ``2 alpha`` degrees gives ``1/2 + t / (2 sqrt(2 alpha + t^2))``, and
    ``t = sqrt(2 alpha (u^(-1/alpha) - 1)) cos(2 pi v)``.

    Args:
        draws: ``(batch, 2)`` float32 in [0, 1).
        alpha: both parameters of the distribution; above 0.

    Returns:
        ``(batch,)`` float32 in [0, 1].

    Source: Devroye 1996, "Random variate generation in one line of code", WSC, section 3; Bailey 1994 for ``t``.
    """
    # u in (0, 1], and its power in [0, 1], so that neither overflows for a small alpha.
    power = (1 - draws[:, 0]).pow(1 / alpha)
    cosine = (draws[:, 1] * (2 * math.pi)).cos()
    spread = (1 - power) * cosine.square()
    share = spread / (power + spread).clamp(min=torch.finfo(torch.float32).tiny)
    return 0.5 + 0.5 * share.sqrt() * cosine.sign()


def weights(draw: Draw, alpha: float, probability: float) -> Tensor:
    """How much of each sample stays, ``(batch,)``; 1 for those not chosen."""
    kept = symmetric_beta(draw("weight", 2), alpha)
    if probability < 1:
        kept = torch.where(draw("chosen")[:, 0] < probability, kept, 1.0)
    return kept


def partners(draw: Draw) -> Tensor:
    """A sample of the same batch for each sample, ``(batch,)`` int64; every sample is partner once."""
    return draw("partner")[:, 0].argsort(stable=True)


def mix_targets(targets: Tensor, partner: Tensor, kept: Tensor, classes: int) -> Tensor:
    """Mix targets by weight; classes become ``(batch, classes)`` probabilities."""
    if not targets.is_floating_point():
        targets = torch.nn.functional.one_hot(targets, classes).float()
    share = kept.reshape(-1, *(1,) * (targets.dim() - 1))
    return targets * share + targets[partner] * (1 - share)


@dataclass(frozen=True)
class Mixup:
    """Mixes each sample with another one of the batch."""

    alpha: float
    probability: float
    classes: int

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Mix ``(batch, ...)`` of any type; gives floats of the same range."""
        kept = weights(draw, self.alpha, self.probability)
        partner = partners(draw)
        inputs = batch.inputs if batch.inputs.is_floating_point() else batch.inputs.float()
        share = kept.to(inputs.dtype).reshape(-1, *(1,) * (inputs.dim() - 1))
        mixed = torch.lerp(inputs.index_select(0, partner), inputs, share)
        return Batch(mixed, mix_targets(batch.targets, partner, kept, self.classes), batch.index)


@dataclass(frozen=True)
class CutMix:
    """Pastes a box of another image of the batch into each image."""

    alpha: float
    probability: float
    classes: int

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Mix ``(batch, channels, height, width)`` of any type, which stays."""
        height, width = batch.inputs.shape[-2:]
        kept = weights(draw, self.alpha, self.probability)
        partner = partners(draw)
        side = (1 - kept).sqrt()
        centre = draw("centre", 2)
        firsts, ends = [], []
        for axis, extent in enumerate((height, width)):
            length = (side * extent).long()
            first = below(centre[:, axis], extent) - length // 2
            firsts.append(first.clamp(min=0))
            ends.append((first + length).clamp(max=extent))
        first, end = torch.stack(firsts, 1), torch.stack(ends, 1)
        area = (end - first).clamp(min=0).prod(1)
        pasted = torch.where(box(first, end, height, width), batch.inputs.index_select(0, partner), batch.inputs)
        kept = 1 - area.float() / (height * width)
        return Batch(pasted, mix_targets(batch.targets, partner, kept, self.classes), batch.index)
