"""Batches that travel in shared memory come out as they went in, whatever their size."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainkit import Batch, DataError, Dataset, DataSpec, Split
from trainkit.feed import make_feed, streamed
from trainkit.feed.slots import Slots, room_for

if sys.platform != "linux":
    pytest.skip("workers that are forked", allow_module_level=True)

DTYPES = (torch.uint8, torch.float16, torch.float32, torch.int64, torch.bool)


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride() for a, b in zip(one, other, strict=True)
    )


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=3, max_size=3
    ),
    st.integers(1, 3),
)
def test_batches_come_out_as_they_went_in(kinds: list[tuple[torch.dtype, list[int]]], count: int) -> None:
    batches = [Batch(*(torch.randint(0, 2, shape).to(dtype) for dtype, shape in kinds)) for _ in range(count)]
    slots = Slots(2, count * room_for(*((part.numel(), part.itemsize) for part in batches[0])))
    layouts = [slots.put(slot, batches) for slot in range(2)]
    for slot, layout in enumerate(layouts):
        assert layout is not None
        taken = slots.take(slot, layout)
        assert all(same(one, other) for one, other in zip(batches, taken, strict=True))


def test_images_keep_their_layout_and_gaps_are_closed() -> None:
    images = torch.rand(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, torch.arange(8)[::2], torch.arange(4))
    slots = Slots(1, 4096)
    taken = slots.take(0, slots.put(0, [batch]) or [])[0]
    assert taken.inputs.stride() == images.stride()
    assert taken.targets.stride() == (1,)
    assert all(torch.equal(one, other) for one, other in zip(batch, taken, strict=True))


def test_what_was_taken_does_not_change_with_its_slot() -> None:
    slots = Slots(1, 4096)
    first, second = (Batch(torch.full((4, 2), value), torch.arange(4), torch.arange(4)) for value in (1.0, 2.0))
    taken = slots.take(0, slots.put(0, [first]) or [])[0]
    slots.put(0, [second])
    assert same(taken, first)


def test_a_change_in_place_of_one_tensor_is_none_of_the_others() -> None:
    """Autograd would refuse to go back through a batch after the next one was changed."""
    batch = Batch(torch.ones(4, 2), torch.ones(4), torch.arange(4))
    slots = Slots(1, 4096)
    first, second = slots.take(0, slots.put(0, [batch, batch]) or [])
    weight = torch.ones(2, requires_grad=True)
    result = (first.inputs * weight).sum()
    second.inputs.mul_(2)
    first.targets.mul_(2)
    assert torch.equal(*torch.autograd.grad(result, weight), torch.full((2,), 4.0))


def test_empty_batches_come_out_as_they_went_in() -> None:
    batch = Batch(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    slots = Slots(1, 4096)
    assert all(same(batch, taken) for taken in slots.take(0, slots.put(0, [batch, batch]) or []))


def test_what_does_not_fit_is_refused() -> None:
    batch = Batch(torch.zeros(100, 4), torch.arange(100), torch.arange(100))
    assert Slots(1, 1000).put(0, [batch]) is None


class Rows:
    """Samples, one of which a worker cannot read."""

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
        self.parent = os.getpid()

    def __len__(self) -> int:
        return 203

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        if os.getpid() != self.parent and self.bad in index.tolist():
            raise DataError("a bad row")
        return index[:, None].float()


def batches(workers: int = 2, bad: int = -1) -> Iterator[Batch]:
    spec = DataSpec((1,), "regression", 1, sizes={"train": 203})
    data = Dataset(spec, {"train": Split(Rows(bad), torch.zeros(203))})
    feed = make_feed(data, batch_size=8, device="cpu", seed=0, loading="streamed", workers=workers, shuffle=False)
    try:
        for _ in range(2):  # the second pass begins where the first was left, with requests under way
            yield from (batch for batch, _ in zip(feed.train(0), range(5), strict=False))
        yield from feed.train(1)
    finally:
        feed.close()


@pytest.mark.parametrize("most", [1, 3, 8])
@pytest.mark.parametrize("room", [64, 1 << 16])
def test_passes_are_the_same_however_batches_travel(monkeypatch: pytest.MonkeyPatch, most: int, room: int) -> None:
    monkeypatch.setattr(streamed, "_MOST_TOGETHER", most)
    monkeypatch.setattr(streamed, "_LEAST_PORTIONS", 1)
    monkeypatch.setattr(streamed.StreamedFeed, "_batch_bytes", lambda self, evaluation: room)
    got = list(batches())
    assert all(same(one, other) for one, other in zip(got, batches(workers=0), strict=True))


def test_where_the_system_grants_no_such_memory_torch_sends_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("trainkit.feed.slots.mmap.mmap", full)
    assert all(same(one, other) for one, other in zip(batches(), batches(workers=0), strict=True))


def test_batches_before_a_bad_one_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_LEAST_PORTIONS", 1)
    got: list[int] = []
    given = batches(bad=30)
    with pytest.raises(DataError, match="a bad row"):
        got.extend(number for batch in given for number in batch.index.tolist())
    assert got == list(range(24))
