"""Training batches of several feeds that hold the same samples: one gather for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainkit.dataset import Batch
from trainkit.feed.resident import CHUNK_BATCHES, CHUNK_BYTES, ResidentFeed


class Together:
    """Feeds whose samples are the same, bit for bit, each in an order of its own.

    Args:
        feeds: the feeds, which `together` has compared.
        inputs: the prepared inputs of all of them.
        targets: their targets.
    """

    def __init__(self, feeds: Sequence[ResidentFeed], inputs: Tensor, targets: Tensor) -> None:
        self._feeds = feeds
        self._inputs = inputs
        self._targets = targets
        self._held = [tensor for feed in feeds for tensor in feed.samples or ()]
        self._versions = [tensor._version for tensor in self._held]

    @property
    def changed(self) -> bool:
        """Whether somebody has written into the samples of any feed since they were compared."""
        return any(tensor._version != old for tensor, old in zip(self._held, self._versions, strict=True))

    def train(self, epochs: Sequence[int], start: int) -> Iterator[tuple[Batch, bool]]:
        """Yield the batches of an epoch of each feed, and whether all feeds share them.

        A batch is ``(feeds, batch, ...)``, or ``(batch, ...)`` where all feeds are at one epoch of one order.

        Args:
            epochs: the epoch of each feed.
            start: the batch to begin with.
        """
        made: dict[tuple[int, int] | None, Tensor] = {}
        rows = []
        for feed, epoch in zip(self._feeds, epochs, strict=True):
            key = (feed.plan.seed, epoch) if feed.plan.shuffle else None
            if key not in made:
                made[key] = feed.plan.order(epoch, feed.device)
            rows.append(made[key])
        shared, size = len(made) == 1, self._feeds[0].batch_size
        order = (rows[0] if shared else torch.stack(rows)).narrow(-1, start * size, len(rows[0]) - start * size)
        sample = self._inputs[0].nbytes * (1 if shared else len(rows))
        limit = CHUNK_BYTES["cpu" if order.device.type == "cpu" else "cuda"] // max(1, sample * size)
        full, batches = order.shape[-1] // size, max(1, min(CHUNK_BATCHES, limit))
        for begin in range(0, full, batches):
            count = min(batches, full - begin)
            index = order[..., begin * size : (begin + count) * size]
            index = index.reshape(*index.shape[:-1], count, size).movedim(-2, 0)
            for parts in zip(*(part.unbind(0) for part in self._gathered(index)), strict=True):
                yield Batch(*parts), shared
        if left := order.shape[-1] - full * size:
            yield Batch(*self._gathered(order.narrow(-1, full * size, left))), shared

    def _gathered(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = index.reshape(-1)
        inputs, targets = (part.index_select(0, flat) for part in (self._inputs, self._targets))
        return inputs.view(*index.shape, *inputs.shape[1:]), targets.view(*index.shape, *targets.shape[1:]), index


def together(feeds: Sequence[object]) -> Together | None:
    """What gives the batches of these feeds at once; ``None`` where each must make its own.

    Args:
        feeds: of runs that are at the same batch of their epochs.
    """
    first, held = feeds[0], []
    for feed in feeds:
        if type(feed) is not ResidentFeed or type(first) is not ResidentFeed or not _alike(feed, first):
            return None
        samples = feed.samples
        if samples is None or any(
            tensor.is_inference() for tensor in samples
        ):  # those cannot tell whether they changed
            return None
        held.append(samples)
    inputs, targets = held[0]
    for some, others in held[1:]:
        if not _same(some, inputs) or not _same(others, targets):
            return None
    return Together([feed for feed in feeds if isinstance(feed, ResidentFeed)], inputs, targets)


def _alike(feed: ResidentFeed, other: ResidentFeed) -> bool:
    plan, first = feed.plan, other.plan
    return (
        plan.cuts is None
        and (plan.shuffle, plan.drop_last, plan.batch_size) == (first.shuffle, first.drop_last, first.batch_size)
        and bool(plan.members) == bool(first.members)
        and feed.device == other.device
    )


def _same(some: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, bit for bit."""
    if some is other:
        return True
    if some.dtype != other.dtype or some.shape != other.shape:
        return False
    first, second = (part.contiguous().view(-1) for part in (some, other))
    return torch.equal(first.view(torch.uint8), second.view(torch.uint8))
