"""How far weights have drifted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainkit import Run, hookimpl


class Drift:
    """See `trainkit_robust.drift`."""

    def __init__(self) -> None:
        self.began: dict[str, Tensor] = {}

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.began = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}

    @hookimpl
    def trainkit_figures(self, run: Run) -> dict[str, float]:
        now = dict(run.model.named_parameters())
        way = _length([now[name].detach() - began for name, began in self.began.items()])
        length = _length(list(self.began.values()))
        return {"drift": way / length if length else float("inf")}

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"began": self.began}

    @hookimpl
    def trainkit_restore(self, run: Run, state: Mapping[str, Any]) -> None:
        self.began = {name: weight.to(run.device) for name, weight in state["began"].items()}


def _length(tensors: list[Tensor]) -> float:
    """The common L2 norm."""
    return float(torch.stack([torch.linalg.vector_norm(tensor.double()) for tensor in tensors]).norm())
