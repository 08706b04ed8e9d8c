"""Whether a model that says how sure it is is right about that: shares of targets below its quantiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainkit.evidence import wilson
from trainkit.page.blocks import Block, Curves, Line, Text

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))


class LookingAtLevels:
    """Counts targets below quantiles, where a loss says which quantiles outputs stand for.

    Args:
        loss: the recipe's; one with ``quantiles(outputs, levels)``, and ``levels`` where these are all that it knows.
    """

    def __init__(self, loss: Any) -> None:
        self._loss = loss if callable(getattr(loss, "quantiles", None)) else None
        self._levels: tuple[float, ...] = tuple(getattr(loss, "levels", None) or GRID)
        self._below = torch.zeros(len(self._levels), dtype=torch.float64)
        self._count = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in outputs of a batch as the model gives them, and its targets."""
        if self._loss is None:
            return
        quantiles = self._loss.quantiles(outputs.detach().float().cpu(), self._levels)  # (batch, targets, levels)
        below = targets.detach().float().cpu().reshape(*quantiles.shape[:-1], 1) <= quantiles
        self._below += below.double().sum((0, 1))
        self._count += below[..., 0].numel()

    def taken(self) -> list[tuple[float, float, int]]:
        """For each level the share of targets below its quantile, and of how many."""
        shares = (self._below / max(1, self._count)).tolist()
        return [(level, share, self._count) for level, share in zip(self._levels, shares, strict=True) if self._count]


def level_blocks(seen: list[tuple[float, float, int]]) -> list[Block]:
    """A figure of what `LookingAtLevels` has counted."""
    if not seen:
        return []
    ends = [wilson(share, count) for _, share, count in seen]
    lines = [
        Line("as it should be", {"level": (0.0, 1.0)}, (0.0, 1.0), style="dashed"),
        Line(
            *("model", {"level": [level for level, *_ in seen]}, [share for _, share, _ in seen]),
            low=[low for low, _ in ends],
            high=[high for _, high in ends],
            style="dots",
        ),
    ]
    return [
        Curves("targets below the model's quantiles", lines, unit="share of targets below", smooth=False),
        Text(
            "A point for each quantile that the model gives, over all targets; the band is the 95 % interval of the "
            "share (Wilson). Flatter than the dashed line: the model is surer than it is right."
        ),
    ]
