"""The updates of all lanes until something is due for one of them, without looking at each lane after every update."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.evaluate import loss_weight
from trainkit.feed.together import Together, together
from trainkit.lanes.member import Member, metrics_alike
from trainkit.run import StepResult
from trainkit.tally import Tally
from trainkit.uploading import sent


@dataclass
class Made:
    """Updates that were made and counted.

    Args:
        updates: how many of each lane.
        results: of each lane, all its updates as one; ``None`` where its tally has taken them in.
    """

    updates: int
    results: Sequence[StepResult | None]


class Stretches:
    """Makes the updates of lanes whose batches can be gathered together."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._runs: list[Any] = []
        self._feeds: Together | None = None
        self._batches: Iterator[tuple[Batch, bool]] | None = None
        self._next: list[tuple[int, int]] = []  # epoch and batch at which `_batches` goes on
        self._error: Exception | None = None
        self._alike = False  # whether the metrics of all lanes were made alike

    def make(self, stack: Any, members: Sequence[Member]) -> Made | None:
        """Make updates of all lanes until something is due; ``None`` where their batches are taken one by one.

        Args:
            stack: the stack.
            members: its members, by place.

        Raises:
            Exception: what the stack raised. What it had made before was given by the call before this one.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._ready(stack, members):
            return None
        runs, batches = self._runs, self._batches
        assert batches is not None
        savers = [member.recorder.saver for member in members]
        left = min(member.updates_left for member in members)
        losses: list[Tensor] = []
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        wanted, shared = bool(runs[0].metrics), False
        while len(losses) < left:
            try:
                batch, shared = next(batches)
            except Exception:  # each run by itself shows whose mistake it is
                self._feeds = self._batches = None
                break
            try:
                values, given = stack.update_stacked(batch, shared)
            except Exception as error:
                if not losses:
                    raise
                self._error = error
                break
            for run in runs:
                run.step += 1
                run.batch_in_epoch += 1
            if not losses:
                numbers = given[0].numel() if wanted else 0
                left = min(left, *[member.recorder.tally.room(numbers) for member in members])
            losses.append(values)
            targets.append(batch.targets)
            if wanted:
                outputs.append(given)
            if any(run.stop_reason is not None for run in runs) or any(saver.failed for saver in savers):
                break
        self._next = [(run.epoch, run.batch_in_epoch) for run in runs]
        return Made(len(losses), self._results(losses, outputs, targets, shared)) if losses else None

    def _ready(self, stack: Any, members: Sequence[Member]) -> bool:
        """Whether the next batches of all lanes come from one gather."""
        if (
            len(members) != len(self._members)
            or any(a is not b for a, b in zip(members, self._members, strict=True))
            or any(member.run is not run for member, run in zip(members, self._runs, strict=True))
        ):
            self._renew(stack, members)
        if self._feeds is None:
            return False
        if self._feeds.changed:
            self._renew(stack, members)
            if self._feeds is None:
                return False
        here = [(run.epoch, run.batch_in_epoch) for run in self._runs]
        if self._batches is None or here != self._next:
            self._batches = self._feeds.train([epoch for epoch, _ in here], here[0][1])
        return True

    def _renew(self, stack: Any, members: Sequence[Member]) -> None:
        self._members, self._runs = list(members), [member.run for member in members]
        self._batches, self._feeds = None, None
        if hasattr(stack, "update_stacked") and not any(member.looks_at_updates for member in members):
            self._alike = metrics_alike(self._runs)
            with contextlib.suppress(Exception):  # each run by itself shows whose mistake it is
                self._feeds = together([run.feed for run in self._runs])

    def _results(
        self, losses: list[Tensor], outputs: list[Tensor], targets: list[Tensor], shared: bool
    ) -> Sequence[StepResult | None]:
        """One result for each lane."""
        lanes, count = len(self._runs), len(losses)
        values = torch.stack(losses, 1).unbind(0)
        given: Sequence[Sequence[Tensor]] = [()] * lanes
        wanted: Sequence[Sequence[Tensor]] = [()] * lanes
        if outputs:
            together = torch.cat(outputs, 1)
            labels = torch.cat(targets).expand(lanes, *[-1] * targets[0].dim()) if shared else torch.cat(targets, 1)
            given, wanted = ([(part,) for part in some.unbind(0)] for some in (together, labels))
        weights = self._weights(targets, shared, lanes, count)
        results = [StepResult(*part) for part in zip(values, weights, given, wanted, strict=True)]
        if outputs and self._alike and all(member.recorder.logs for member in self._members):
            tallies = [member.recorder.tally for member in self._members]
            if Tally.add_together(tallies, results, together, labels):
                return [None] * lanes
        return results

    def _weights(self, targets: list[Tensor], shared: bool, lanes: int, count: int) -> list[Tensor]:
        """What each update's mean loss was divided by, for each lane."""
        loss, device = self._runs[0].loss, targets[0].device
        if shared or getattr(loss, "weight", None) is None:
            found = [loss_weight(loss, some if shared else some[0]) for some in targets]
            return [_joined(found, device)] * lanes
        rows = [some.unbind(0) for some in targets]
        return [_joined([loss_weight(loss, row[lane]) for row in rows], device) for lane in range(lanes)]


def _joined(weights: Sequence[Tensor | int], device: torch.device) -> Tensor:
    if any(isinstance(weight, Tensor) for weight in weights):
        return torch.stack([torch.as_tensor(weight, device=device).double() for weight in weights])
    return sent(torch.tensor(weights, dtype=torch.float64), device)
