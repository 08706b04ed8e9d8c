"""Batches from tensors that live on the device: a gather, and nothing else where nothing else is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from trainkit.dataset import Batch, DataSpec, Gatherable, Split
from trainkit.distributed.share import WHOLE, Share
from trainkit.errors import MachineError
from trainkit.feed.cuts import Cuts
from trainkit.feed.pipeline import Plan, Planned, cut, gather, guard, marked, part_of

# Prepared inputs are kept where they are small; large ones stay as stored, often a quarter of the size.
PREPARED_LIMIT = 256 << 20
# One gather serves up to this many batches: it saves the calls, most of the cost of a small batch.
CHUNK_BATCHES = 50
# Past these sizes a chunk leaves the caches (CPU) or only takes room (CUDA).
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 64 << 20}
_UPLOAD_BYTES = 64 << 20


class ResidentFeed(Planned):
    """Batches of a data set held in memory on ``device``.

    Args:
        plan: the data and how it is cut.
        device: where the data and the batches live.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self.spec: DataSpec = plan.dataset.spec
        self.batch_size = plan.batch_size
        self.batches_per_epoch = plan.batches_per_epoch
        self._stored: dict[str, tuple[Gatherable, Tensor]] = {}
        self._prepared: dict[str, tuple[Gatherable, Tensor]] = {}
        if device.type != "cpu":
            try:
                for name, split in plan.dataset.splits.items():
                    self._stored[name] = upload(split, device)
            except torch.OutOfMemoryError as error:
                raise MachineError(
                    f'the data does not fit into the memory of {device}; set loading = "streamed"'
                ) from error

    def follow(self, cuts: Cuts) -> None:
        """Cut the epochs in another way."""
        self.plan = dataclasses.replace(self.plan, cuts=cuts)

    @property
    def samples(self) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets that training batches are only gathered from; ``None`` where more is done to them."""
        if self.plan.augmentations:
            return None
        (inputs, targets), ready = self._ready("train")
        return (inputs, targets) if ready and isinstance(inputs, Tensor) else None

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the training batches of an epoch, from the batch numbered ``start`` on."""
        if self.plan.share.size > 1:
            return self._marked(self._shares(epoch, start), epoch, start)
        return self._whole(epoch, start)

    def _shares(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's rows of each batch."""
        plan = self.plan
        if plan.mixes:
            for batch in self._whole(epoch, start):
                yield part_of(batch, plan.share)
            return
        augmented = bool(plan.augmentations)
        (inputs, targets), ready = self._held("train") if augmented else self._ready("train")
        order, limit = plan.draws(epoch, self.device), self._chunk_samples(inputs)
        rows = [
            order[begin + first : begin + end]
            for begin, after in pairwise(plan.bounds(epoch)[start:])
            for first, end in [plan.share.taken(after - begin)]
        ]
        place = 0
        while place < len(rows):
            held = [rows[place]]
            together = len(held[0])
            while place + len(held) < len(rows) and len(held) < CHUNK_BATCHES and together < limit:
                held.append(rows[place + len(held)])
                together += len(held[-1])
            place += len(held)
            drawn = torch.cat(held)
            index = plan.named(drawn)
            gathered = gather(inputs, index), targets.index_select(0, index), index
            chance = plan.chance(epoch, drawn) if augmented else None
            first = 0
            for piece in zip(*(cut(part, [len(part) for part in held]) for part in gathered), strict=True):
                batch = Batch(*piece)
                yield batch if ready and not augmented else plan.finish(batch, chance, first)
                first += len(piece[1])

    def _whole(self, epoch: int, start: int) -> Iterator[Batch]:
        plan = self.plan
        augmented = bool(plan.augmentations)
        (inputs, targets), ready = self._held("train") if augmented else self._ready("train")
        drawn, first = plan.draws(epoch, self.device), plan.samples_before(epoch, start)
        order = plan.named(drawn)
        chance = plan.chance(epoch, drawn) if augmented else None
        for index, size in self._chunks(epoch, start, order, inputs):
            gathered = gather(inputs, index), targets.index_select(0, index), index
            pieces = zip(*(cut(part, size) for part in gathered), strict=True)
            if ready and not augmented:
                for piece in pieces:
                    yield Batch(*piece)
            else:
                for piece in pieces:
                    yield plan.finish(Batch(*piece), chance, first)
                    first += len(piece[1])

    def evaluate(self, split: str, share: Share = WHOLE) -> Iterator[Batch]:
        """Yield the batches of a split in stored order, without augmentation; of each a process's share."""
        self.plan.split(split)
        (inputs, targets), ready = self._held(split) if self.plan.always else self._ready(split)
        ready = ready and not self.plan.always
        index = torch.arange(len(targets), device=self.device)
        for number in cut(index, self.plan.eval_batch_size):
            first, end = share.taken(len(number))
            own = number[first:end]
            # A copy, not a view: a model that changes its inputs in place must not change the data.
            batch = Batch(gather(inputs, own), targets.index_select(0, own), own)
            batch = batch if ready else self.plan.shown(batch)
            yield marked(batch, len(number), share) if share.size > 1 else batch

    def _held(self, name: str) -> tuple[tuple[Gatherable, Tensor], bool]:
        if name not in self._stored:
            split = self.plan.split(name)
            self._stored[name] = split.inputs, split.targets
        return self._stored[name], self.plan.dataset.prepare is None

    def _ready(self, name: str) -> tuple[tuple[Gatherable, Tensor], bool]:
        """Inputs and targets of a split, prepared once for all where the result is small; and whether they are."""
        if name in self._prepared:
            return self._prepared[name], True
        (inputs, targets), ready = self._held(name)
        prepare = self.plan.dataset.prepare
        if ready or prepare is None or not len(targets):
            return (inputs, targets), ready
        sample = guard(
            "data",
            prepare,
            prepare,
            gather(inputs, torch.zeros(1, dtype=torch.int64, device=self.device)),
        )
        samples = sum(len(split) for split in self.plan.dataset.splits.values())
        if samples * sample.nbytes > PREPARED_LIMIT:
            return (inputs, targets), False
        whole = sample.new_empty((len(targets), *sample.shape[1:]))
        rows = max(1, CHUNK_BYTES["cpu"] // max(1, sample.nbytes))
        index = torch.arange(len(targets), device=self.device)
        for into, number in zip(cut(whole, rows), cut(index, rows), strict=True):
            into[:] = guard("data", prepare, prepare, gather(inputs, number))
        self._prepared[name] = whole, targets
        return self._prepared[name], True

    def _chunks(
        self, epoch: int, start: int, order: Tensor, inputs: Gatherable
    ) -> Iterator[tuple[Tensor, int | list[int]]]:
        """The samples to gather at once, several batches of them, and the size of each batch."""
        plan, size = self.plan, self.batch_size
        limit = self._chunk_samples(inputs)
        if plan.cuts is None:
            batches = max(1, min(CHUNK_BATCHES, limit // size))
            for index in cut(order[start * size :], batches * size):
                yield index, size
            return
        sizes: list[int] = []
        first = end = plan.samples_before(epoch, start)
        for before, after in pairwise(plan.cuts.bounds(epoch)[start:]):
            if sizes and (after - first > limit or len(sizes) == CHUNK_BATCHES):
                yield order[first:end], sizes
                sizes, first = [], end
            sizes.append(after - before)
            end = after
        if sizes:
            yield order[first:end], sizes

    def _chunk_samples(self, inputs: Gatherable) -> int:
        """How many samples to gather at once at the most."""
        if not len(inputs):
            return 1
        sample = gather(inputs, torch.zeros(1, dtype=torch.int64, device=self.device)).nbytes
        return CHUNK_BYTES["cpu" if self.device.type == "cpu" else "cuda"] // max(1, sample)


def upload(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Copy a split to the device, piece by piece, so that a mapped file is never whole in memory."""
    targets = split.targets.to(device)
    if isinstance(split.inputs, Tensor):
        return split.inputs.to(device), targets
    if not len(split):
        return torch.empty(0, device=device), targets
    sample = split.inputs[torch.zeros(1, dtype=torch.int64)]
    whole = torch.empty((len(split), *sample.shape[1:]), dtype=sample.dtype, device=device)
    for index in cut(torch.arange(len(split)), max(1, _UPLOAD_BYTES // max(1, sample.nbytes))):
        first = int(index[0])
        whole[first : first + len(index)] = split.inputs[index].to(device)
    return whole, targets
