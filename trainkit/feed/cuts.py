"""Where the epochs of a run are cut into batches, when the size of a batch changes from update to update."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


def walk(
    samples: int, accumulate: int, drop_last: bool, size_at: Callable[[int], int]
) -> Iterator[tuple[list[int], int]]:
    """Go through epoch after epoch, without end.

    Every batch of one update has the same size, but for the last one of an epoch, which takes what is left.

    Args:
        samples: training samples, each of which comes once in an epoch.
        accumulate: batches in an update; the last update of an epoch may have fewer.
        drop_last: whether an epoch ends before a batch that would be short.
        size_at: samples in a batch of the update at a position of the run, counted from 0.

    Yields:
        The size of a batch for each update of the epoch, and the number of its batches.
    """
    position = 0
    while True:
        left, sizes, batches = samples, list[int](), 0
        while left:
            size = min(size_at(position), samples)
            taken = min(left, size * accumulate)
            short = taken % size
            if drop_last and short:
                taken, left = taken - short, taken  # nothing after it
            if not taken:
                break
            sizes.append(size)
            batches += -(-taken // size)
            left -= taken
            position += 1
            if drop_last and short:
                break
        yield sizes, batches


@dataclass(frozen=True)
class Cuts:
    """The batches of a run's epochs, worked out before it.

    Args:
        samples: training samples.
        accumulate: batches in an update.
        drop_last: whether an epoch ends before a batch that would be short.
        sizes: samples in a batch of the update at each position; the last one holds for all that come later.
        starts: position at which each planned epoch begins, and the one at which the last of them ends.
        batches: batches in each planned epoch.
    """

    samples: int
    accumulate: int
    drop_last: bool
    sizes: Sequence[int]
    starts: Sequence[int]
    batches: Sequence[int]

    @classmethod
    def plan(cls, samples: int, accumulate: int, drop_last: bool, size_at: Callable[[int], int], updates: int) -> Cuts:
        """Cut as many epochs as ``updates`` updates reach into."""
        sizes, starts, batches = array("q"), [0], []
        for epoch, count in walk(samples, accumulate, drop_last, size_at):
            sizes.extend(epoch)
            starts.append(len(sizes))
            batches.append(count)
            if len(sizes) >= updates:
                break
        return cls(samples, accumulate, drop_last, sizes, tuple(starts), tuple(batches))

    def batches_in(self, epoch: int) -> int:
        """Batches in an epoch."""
        return self.batches[epoch] if epoch < len(self.batches) else len(self.bounds(epoch)) - 1

    def bounds(self, epoch: int) -> list[int]:
        """Where the batches of an epoch begin in its order, and where the last one ends."""
        if epoch < len(self.batches):
            bounds = [0]
            for size in self.sizes[self.starts[epoch] : self.starts[epoch + 1]]:
                whole = min(self.accumulate, (self.samples - bounds[-1]) // size)
                bounds += [bounds[-1] + size * (number + 1) for number in range(whole)]
        else:
            bounds = list(range(0, self.samples + 1, self.sizes[-1]))
        if bounds[-1] < self.samples and not self.drop_last:
            bounds.append(self.samples)
        return bounds
