"""Lanes without vectorisation: each run makes its updates as alone, so that whatever differs is not the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.lanes.lane import Lane, as_if_alone
from trainkit.run import StepResult
from trainkit.steps import eager_step


class OneByOne:
    """Has the methods of a stack."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes: list[Lane | None] = list(lanes)
        self.most = 0
        self.steps: dict[int, Any] = {}

    def put(self, place: int, lane: Lane) -> None:
        while place >= len(self.lanes):
            self.lanes.append(None)
        assert self.lanes[place] is None
        self.lanes[place] = lane

    def take(self, place: int) -> Lane:
        lane, self.lanes[place] = self.lanes[place], None
        assert lane is not None
        return lane

    def update(self, batches: Sequence[Batch]) -> list[StepResult]:
        lanes = [lane for lane in self.lanes if lane is not None]
        self.most = max(self.most, len(lanes))
        assert len({len(batch) for batch in batches}) == 1
        results = []
        for lane, batch in zip(lanes, batches, strict=True):
            step = self.steps.setdefault(id(lane), eager_step(lane.run, bool(lane.run.metrics)))
            with as_if_alone(lane):
                results.append(step([[batch]]))
        return results

    def outputs(self, inputs: Tensor) -> Tensor:
        found = []
        for lane in self.lanes:
            if lane is not None:
                lane.run.model.eval()
                try:
                    with torch.no_grad():
                        found.append(lane.run.model(inputs))
                finally:
                    lane.run.model.train()
        return torch.stack(found)


class Together(OneByOne):
    """Has the method of a stack that takes the batches of all lanes as one."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        super().__init__(lanes)
        self.updates = 0
        self.shared: set[bool] = set()

    def update_stacked(self, batch: Batch, shared: bool) -> tuple[Tensor, Tensor]:
        self.updates += 1
        self.shared.add(shared)
        lanes = sum(lane is not None for lane in self.lanes)
        parts = (batch.inputs, batch.targets, batch.index)
        batches = [Batch(*(part if shared else part[row] for part in parts)) for row in range(lanes)]
        results = self.update(batches)
        losses = torch.stack([result.losses for result in results])
        if not results[0].outputs:
            return losses, losses
        return losses, torch.stack([result.outputs[0] for result in results])
