"""Making one batch: gather, augment, prepare. What both ways of loading share, so that their values agree."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from trainkit.dataset import Batch, Dataset, Gatherable, Split
from trainkit.distributed.share import WHOLE, Share
from trainkit.errors import DataError, PluginDefect, TrainkitError
from trainkit.feed.cuts import Cuts
from trainkit.feed.order import Chance, permutation
from trainkit.feed.sampling import balanced_order
from trainkit.protocols import Augmentation

Result = TypeVar("Result")


@dataclass(frozen=True)
class Plan:
    """How a data set is cut into batches.

    Args:
        dataset: the data.
        batch_size: samples in a training batch.
        eval_batch_size: samples in a batch of evaluation.
        shuffle: whether each epoch has an order of its own; else samples come as they are stored.
        drop_last: whether an incomplete last training batch is left out.
        augmentations: applied to training batches, in this order.
        seed: the recipe's seed.
        cuts: where epochs are cut into batches, if the size of a batch changes.
        share: which rows of each batch are this process's, where several train together.
        mixes: whether an augmentation looks at other samples of the batch, and so needs all of them.
        members: numbers of the training samples of each class, where classes are drawn equally often.
    """

    dataset: Dataset
    batch_size: int
    eval_batch_size: int
    shuffle: bool
    drop_last: bool
    augmentations: Sequence[Augmentation]
    seed: int
    cuts: Cuts | None = None
    share: Share = WHOLE
    mixes: bool = False
    members: Sequence[Tensor] = ()

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of ``batch_size`` in one epoch."""
        samples = len(self.dataset.splits["train"])
        return samples // self.batch_size if self.drop_last else math.ceil(samples / self.batch_size)

    def batches_in(self, epoch: int) -> int:
        """Training batches in that epoch."""
        return self.batches_per_epoch if self.cuts is None else self.cuts.batches_in(epoch)

    def samples_before(self, epoch: int, batch: int) -> int:
        """How many samples of that epoch's order come before a batch."""
        if self.cuts is not None:
            return self.cuts.bounds(epoch)[batch]
        return min(batch * self.batch_size, len(self.dataset.splits["train"]))

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """The smallest and the largest size of a planned batch, short last ones aside."""
        if self.cuts is None:
            return self.batch_size, self.batch_size
        return min(self.cuts.sizes), max(self.cuts.sizes)

    def eval_batches(self, split: str) -> int:
        """Batches of one evaluation."""
        return math.ceil(len(self.split(split)) / self.eval_batch_size)

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DataError: if the data has no such split.
        """
        if name not in self.dataset.splits:
            raise DataError(f"the data has no split '{name}'; it has: {', '.join(self.dataset.splits)}")
        return self.dataset.splits[name]

    def order(self, epoch: int, device: torch.device) -> Tensor:
        """Sample numbers of a whole epoch, ``(samples,)``, an incomplete last batch left out where asked."""
        return self.named(self.draws(epoch, device))

    def named(self, drawn: Tensor) -> Tensor:
        """The sample numbers of draws."""
        return drawn % len(self.dataset.splits["train"]) if self.members else drawn

    def chance(self, epoch: int, drawn: Tensor) -> Chance:
        """The random numbers of draws of an epoch, or of a part of them."""
        return Chance(self.seed, epoch, drawn, len(self.dataset.splits["train"]) if self.members else 0)

    def draws(self, epoch: int, device: torch.device) -> Tensor:
        """As `order`, with the number of samples added each time that one comes again in the epoch."""
        samples = len(self.dataset.splits["train"])
        if self.members:
            order = balanced_order(self.members, self.seed, epoch).to(device)
        elif self.shuffle:
            order = permutation(samples, "order", self.seed, epoch, device=device)
        else:
            order = torch.arange(samples, device=device)
        return order[: self.samples_before(epoch, self.batches_in(epoch))]

    def bounds(self, epoch: int) -> list[int]:
        """Where the batches of an epoch begin in its order, and where the last one ends."""
        if self.cuts is not None:
            return self.cuts.bounds(epoch)
        return [self.samples_before(epoch, number) for number in range(self.batches_per_epoch + 1)]

    def finish(self, batch: Batch, chance: Chance | None, first: int) -> Batch:
        """Augment and prepare one gathered training batch, whose first sample is row ``first`` of its chunk."""
        return self._augmented(batch, chance, first, self.augmentations)

    @property
    def always(self) -> bool:
        """Whether an augmentation changes batches of evaluation too."""
        return any(getattr(augmentation, "always", False) for augmentation in self.augmentations)

    def shown(self, batch: Batch) -> Batch:
        """Prepare one gathered batch of evaluation; what is drawn for it is the same at each evaluation."""
        if not self.always:
            return self.prepare(batch)
        chosen = [part if getattr(part, "always", False) else None for part in self.augmentations]
        return self._augmented(batch, Chance(self.seed, -1, batch.index), 0, chosen)

    def _augmented(
        self, batch: Batch, chance: Chance | None, first: int, augmentations: Sequence[Augmentation | None]
    ) -> Batch:
        dimensions = batch.inputs.dim()
        for scope, augmentation in enumerate(augmentations if chance is not None else ()):
            if augmentation is not None and chance is not None:
                draw = chance.draw(scope, first, first + len(batch.targets))
                batch = guard("augmentation", augmentation, augmentation, batch, draw)
        return self.prepare(batch, several=batch.inputs.dim() > dimensions)

    def prepare(self, batch: Batch, several: bool = False) -> Batch:
        """Make model inputs of stored ones, ``(batch, ...)``, or ``(batch, views, ...)`` where there are several."""
        prepare = self.dataset.prepare
        if prepare is None:
            return batch
        given = batch.inputs.flatten(0, 1) if several else batch.inputs
        inputs, targets = guard("data", prepare, prepare, given), batch.targets
        if several:
            inputs = inputs.reshape(*batch.inputs.shape[:2], *inputs.shape[1:])
        if inputs.dtype is torch.float64 and targets.is_floating_point():  # mixed ones are made in single precision
            targets = targets.double()
        return Batch(inputs, targets, batch.index)


class Planned:
    """What every feed answers from its plan."""

    plan: Plan

    @property
    def batch_sizes(self) -> tuple[int, int]:
        """The smallest and the largest size of a planned batch, short last ones aside."""
        return self.plan.batch_sizes

    def batches_in(self, epoch: int) -> int:
        """Training batches in that epoch."""
        return self.plan.batches_in(epoch)

    def samples_before(self, epoch: int, batch: int) -> int:
        """How many samples of that epoch come before a batch."""
        return self.plan.samples_before(epoch, batch)

    def _marked(self, batches: Iterator[Batch], epoch: int, start: int) -> Iterator[Batch]:
        """Say of each batch that is one process's share how large the whole is."""
        if self.plan.share.size == 1:
            yield from batches
            return
        bounds = self.plan.bounds(epoch)
        for number, batch in enumerate(batches, start):
            yield marked(batch, bounds[number + 1] - bounds[number], self.plan.share)

    def spread(self, split: str, count: int) -> Batch:
        """Up to ``count`` samples at equal distances over a split, in the processor's memory, without augmentation."""
        held = self.plan.split(split)
        taken = min(count, len(held))
        index = torch.arange(taken) * len(held) // max(1, taken)
        return self.plan.prepare(Batch(gather(held.inputs, index), held.targets.index_select(0, index), index))

    def close(self) -> None:
        """Give back what batches are made with, such as processes; it comes again when it is needed."""


def marked(batch: Batch, whole: int, share: Share) -> Batch:
    """A process's share of a batch, which knows how many samples the whole one has."""
    batch.whole = whole
    first, end = share.bounds(whole)
    batch.padding = first == end
    return batch


def part_of(batch: Batch, share: Share) -> Batch:
    """A process's share of a batch that is there as a whole."""
    if share.size == 1:
        return batch
    first, end = share.taken(len(batch))
    return marked(Batch(*(part[first:end] for part in batch)), len(batch), share)


def gather(inputs: Gatherable, index: Tensor) -> Tensor:
    """Copy the samples that ``index`` names."""
    return inputs.index_select(0, index) if isinstance(inputs, Tensor) else inputs[index]


def cut(values: Tensor, size: int | list[int]) -> Sequence[Tensor]:
    """Views of ``size`` rows each, the last one shorter, or of as many rows as a list says; of nothing, none."""
    if not len(values):
        return ()
    # The plain operator: `Tensor.split` is a Python function that costs as much again at every batch.
    return torch.unsafe_split(values, size) if isinstance(size, int) else torch.unsafe_split_with_sizes(values, size)


def guard(kind: str, culprit: object, function: Callable[..., Result], *given: object) -> Result:
    """Call a plugin's function; whatever it raises names the plugin's object, file and line."""
    try:
        return function(*given)
    except (TrainkitError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        owner = culprit if hasattr(culprit, "__qualname__") else type(culprit)
        name = f"{owner.__module__}.{getattr(owner, '__qualname__', owner)}"
        raise PluginDefect(
            f"{kind} {name} raised {type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
        ) from error
