"""Lookahead: slow weights that follow the trained ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainkit import Optimizer, OptimizerWrapper


class Lookahead(OptimizerWrapper):
    """After every ``k`` updates: ``slow += alpha (w - slow)``, ``w = slow``.

    Args:
        optimizer: makes the updates.
        k: updates between two steps of the slow weights.
        alpha: share of the way that the slow weights go.
    """

    slots = ("slow", "slow_step")

    def __init__(self, optimizer: Optimizer, k: int, alpha: float) -> None:
        super().__init__(optimizer)
        self.k = k
        self.alpha = alpha

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Let the inner optimizer make its update; take the slow weights along where it is time."""
        trained = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        for parameter in trained:
            own = self.state.setdefault(parameter, {})
            if "slow" not in own:
                own["slow"] = parameter.detach().clone()
                own["slow_step"] = 0
        loss = self.inner_step(closure)
        with torch.no_grad():
            for parameter in trained:
                own = self.state[parameter]
                own["slow_step"] += 1
                if own["slow_step"] % self.k == 0:
                    parameter.copy_(own["slow"].lerp_(parameter, self.alpha))
        return loss
