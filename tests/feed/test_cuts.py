"""Epochs cut into batches whose size changes: every sample once, sizes as planned, both ways of loading alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import Batch, Dataset, DataSpec, Split
from trainkit.feed import make_feed
from trainkit.feed.cuts import Cuts, walk
from trainkit.feed.resident import CHUNK_BYTES
from trainkit.protocols import Draw

SAMPLES = 203


def sizes_of(plan: list[int]):
    """A function of the position from a list that goes round."""
    return lambda position: plan[position % len(plan)]


def by_hand(samples: int, accumulate: int, drop_last: bool, plan: list[int], position: int) -> tuple[list[int], int]:
    """Sizes of the batches of the epoch that begins at a position, and the position at which it ends."""
    sizes: list[int] = []
    left = samples
    while left:
        size = min(plan[position % len(plan)], samples)
        taken = 0
        while taken < accumulate and left and (left >= size or not drop_last):
            sizes.append(min(size, left))
            left -= sizes[-1]
            taken += 1
        position += taken > 0
        if drop_last and taken < accumulate:
            break
    return sizes, position


@settings(deadline=None, max_examples=150)
@given(
    samples=st.integers(1, 60),
    accumulate=st.integers(1, 4),
    drop_last=st.booleans(),
    plan=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    updates=st.integers(1, 40),
)
def test_the_plan_is_what_one_gets_batch_by_batch(samples, accumulate, drop_last, plan, updates):
    size_at = sizes_of([min(size, samples) for size in plan])
    cuts = Cuts.plan(samples, accumulate, drop_last, size_at, updates)
    position = 0
    for epoch, count in enumerate(cuts.batches):
        assert cuts.starts[epoch] == position < updates
        sizes, position = by_hand(samples, accumulate, drop_last, plan, position)
        bounds = cuts.bounds(epoch)
        assert [after - before for before, after in pairwise(bounds)] == sizes
        assert len(sizes) == count == cuts.batches_in(epoch)
        assert bounds[-1] == samples or drop_last
    assert cuts.starts[-1] == position >= updates
    assert list(cuts.sizes) == [size_at(number) for number in range(position)]


@pytest.mark.parametrize("drop_last", [False, True])
def test_after_the_plan_the_last_size_goes_on(drop_last):
    cuts = Cuts.plan(10, 2, drop_last, lambda position: 2 if position < 3 else 4, 4)
    assert cuts.starts == ((0, 3, 4) if drop_last else (0, 3, 5))
    assert cuts.bounds(7) == ([0, 4, 8] if drop_last else [0, 4, 8, 10])
    assert cuts.batches_in(7) == len(cuts.bounds(7)) - 1


def test_a_doubling_by_hand():
    """203 samples; the size doubles after 13 updates, an epoch, and after 26, in the midst of one."""
    sizes = [list(part[0]) for part in islice(walk(SAMPLES, 1, False, lambda t: 16 * 2 ** min(2, t // 13)), 5)]
    assert sizes == [[16] * 13, [32] * 7, [32] * 6 + [64], [64] * 4, [64] * 4]


# ---------------------------------------------------------------- feeds that follow a plan


@dataclass(frozen=True)
class Scaled:
    """A prepare function that worker processes can be sent."""

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scale."""
        return inputs.float().div_(255.0)


@dataclass(frozen=True)
class Noisy:
    """An augmentation."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Add noise."""
        return Batch(batch.inputs + draw("noise", 3), batch.targets, batch.index)


def feed_of(*, growing: bool = True, accumulate: int = 1, drop_last: bool = False, **options):
    pixels = torch.randint(0, 256, (SAMPLES, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = DataSpec((3,), "classification", 5, tuple("abcde"))
    data = Dataset(spec, {"train": Split(pixels, torch.arange(SAMPLES) % 5)}, Scaled())
    feed = make_feed(data, batch_size=16, seed=3, device="cpu", drop_last=drop_last, **options)
    if growing:
        feed.follow(Cuts.plan(SAMPLES, accumulate, drop_last, lambda t: 5 + 3 * t, 30))
    return feed


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(tuple(left), tuple(right), strict=True))


@pytest.mark.parametrize("augmentations", [(), (Noisy(), Noisy())], ids=["plain", "augmented"])
@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_gives_what_resident_gives_bit_for_bit(augmentations, workers):
    resident = feed_of(augmentations=augmentations)
    streamed = feed_of(augmentations=augmentations, loading="streamed", workers=workers)
    for epoch, start in ((0, 0), (1, 2), (0, 3), (5, 1)):
        assert same(list(resident.train(epoch, start)), list(streamed.train(epoch, start)))
    streamed.close()


@pytest.mark.parametrize("chunk", [40, 1 << 20])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_order_and_values_are_those_of_batches_of_one_size(monkeypatch, chunk, accumulate, drop_last):
    monkeypatch.setitem(CHUNK_BYTES, "cpu", chunk)
    growing = feed_of(accumulate=accumulate, drop_last=drop_last, augmentations=(Noisy(),))
    plain = feed_of(growing=False, augmentations=(Noisy(),))
    for epoch in range(3):
        batches = list(growing.train(epoch))
        bounds = growing.plan.cuts.bounds(epoch)
        assert [len(batch) for batch in batches] == [after - before for before, after in pairwise(bounds)]
        assert growing.batches_in(epoch) == len(batches)
        whole = [torch.cat(parts) for parts in zip(*(tuple(batch) for batch in batches), strict=True)]
        other = [torch.cat(parts) for parts in zip(*(tuple(batch) for batch in plain.train(epoch)), strict=True)]
        assert all(torch.equal(one, two[: bounds[-1]]) for one, two in zip(whole, other, strict=True))
        for start in (1, 2, len(batches) - 1, len(batches)):
            assert same(list(growing.train(epoch, start)), batches[start:])
            assert growing.samples_before(epoch, start) == sum(map(len, batches[:start]))


def test_what_a_feed_says_of_its_sizes():
    assert feed_of(growing=False).batch_sizes == (16, 16)
    growing = feed_of()
    assert growing.batch_sizes == (5, max(growing.plan.cuts.sizes))
    assert growing.batches_per_epoch == math.ceil(SAMPLES / 16)
