"""Making one batch: gather, augment, prepare. What both ways of loading share, so that their values agree."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from trainkit.dataset import Batch, Dataset, Gatherable, Split
from trainkit.errors import DataError, PluginDefect, TrainkitError
from trainkit.feed.cuts import Cuts
from trainkit.feed.order import Chance, permutation
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
    """

    dataset: Dataset
    batch_size: int
    eval_batch_size: int
    shuffle: bool
    drop_last: bool
    augmentations: Sequence[Augmentation]
    seed: int
    cuts: Cuts | None = None

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
        samples = len(self.dataset.splits["train"])
        if self.shuffle:
            order = permutation(samples, "order", self.seed, epoch, device=device)
        else:
            order = torch.arange(samples, device=device)
        return order[: self.samples_before(epoch, self.batches_in(epoch))]

    def finish(self, batch: Batch, chance: Chance | None, first: int) -> Batch:
        """Augment and prepare one gathered training batch, whose first sample is row ``first`` of its chunk."""
        if chance is not None:
            for scope, augmentation in enumerate(self.augmentations):
                draw = chance.draw(scope, first, first + len(batch.targets))
                batch = guard("augmentation", augmentation, augmentation, batch, draw)
        return self.prepare(batch)

    def prepare(self, batch: Batch) -> Batch:
        """Make model inputs of stored ones."""
        prepare = self.dataset.prepare
        if prepare is None:
            return batch
        return Batch(guard("data", prepare, prepare, batch.inputs), batch.targets, batch.index)


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

    def close(self) -> None:
        """Give back what batches are made with, such as processes; it comes again when it is needed."""


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
