"""Making batches away from the training process: what is asked of a worker, and what it gives back."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainkit.dataset import Batch
from trainkit.distributed.share import WHOLE, Share
from trainkit.errors import TrainkitError
from trainkit.feed.order import Chance
from trainkit.feed.pipeline import Plan, gather, part_of
from trainkit.feed.slots import Layout, Slots


class Request(NamedTuple):
    """Batches to make: of a split (``""`` for training) and an epoch, by number; the slot that they travel in, and the
    share of each that is wanted.
    """

    split: str
    epoch: int
    first: int
    end: int
    slot: int = 0
    share: Share = WHOLE


@dataclass
class Failure:
    """What went wrong in a worker, as it travels back: an exception of ours, or a traceback as text."""

    error: TrainkitError | None
    text: str


class Made(NamedTuple):
    """What became of a request: batches, or how they lie in its slot, and what went wrong with the next one."""

    request: Request
    batches: list[tuple[Tensor, ...]]
    layouts: list[list[Layout]]
    failure: Failure | None


class Maker(Dataset[Any]):
    """Makes the batches that a request names; the part that lives in the workers.

    Args:
        plan: the data and how it is cut.
        slots: memory that is shared with the training process, if there is any.
    """

    def __init__(self, plan: Plan, slots: Slots | None = None) -> None:
        self.plan = plan
        self.slots = slots
        self._epoch = -1
        self._order, self._bounds = torch.empty(0), list[int]()
        self._chance = Chance(plan.seed, self._epoch, self._order)

    def make(self, split: str, epoch: int, number: int, share: Share = WHOLE) -> Batch:
        """Make one batch on the CPU, or a process's share of it."""
        plan, mixes = self.plan, not split and self.plan.mixes
        if split:
            held, size = plan.split(split), plan.eval_batch_size
            first = number * size
            begin, after = share.taken(min(first + size, len(held)) - first)
            index = torch.arange(first + begin, first + after)
        else:
            held, size = plan.split("train"), plan.batch_size
            if self._epoch != epoch:
                drawn = plan.draws(epoch, torch.device("cpu"))
                self._order = plan.named(drawn)
                self._bounds = [] if plan.cuts is None else plan.cuts.bounds(epoch)
                self._chance = plan.chance(epoch, drawn)
                self._epoch = epoch
            first, end = self._bounds[number : number + 2] or (number * size, (number + 1) * size)
            if not mixes:
                begin, after = share.taken(min(end, len(self._order)) - first)
                first, end = first + begin, first + after
            index = self._order[first:end].clone()
        batch = Batch(gather(held.inputs, index), held.targets.index_select(0, index), index)
        if split:
            return plan.shown(batch)
        if not plan.augmentations:
            return plan.prepare(batch)
        batch = plan.finish(batch, self._chance, first)
        return part_of(batch, share) if mixes else batch

    def __getitem__(self, request: Request) -> Made:
        """Make batches, or say why not: an exception would lose its kind on the way to the training process."""
        batches: list[Batch] = []
        failure = None
        try:
            for number in range(request.first, request.end):
                batches.append(self.make(request.split, request.epoch, number, request.share))
        except TrainkitError as error:
            failure = Failure(error, str(error))
        except Exception:  # any defect of a plugin must reach the training process
            failure = Failure(None, traceback.format_exc())
        layouts = self.slots.put(request.slot, batches) if self.slots is not None else None
        if layouts is not None:
            return Made(request, [], layouts, failure)
        return Made(request, [tuple(batch) for batch in batches], [], failure)

    def open(self, made: Made) -> list[Batch]:
        """In the training process: the batches, as tensors of its own."""
        if self.slots is not None and made.layouts:
            return self.slots.take(made.request.slot, made.layouts)
        return [Batch(*batch) for batch in made.batches]
