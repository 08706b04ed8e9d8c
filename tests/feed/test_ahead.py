"""Batches that are copied ahead, with stand-ins for CUDA's streams that write down what is asked of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainkit import Batch, RunError
from trainkit.feed import ahead
from trainkit.feed.ahead import copied_ahead

CUDA = torch.device("cuda:0")


class Streams:
    """``torch.cuda`` as far as `copied_ahead` uses it: two streams, and what happens on each."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.on = "main"
        self.made = 0

    def make(self, device: torch.device) -> Any:
        self.made += 1

        def record_event() -> str:
            self.done.append(f"event on {self.on}")
            return "event"

        return SimpleNamespace(name="copies", record_event=record_event)

    def current(self, device: torch.device) -> Any:
        return SimpleNamespace(name="main", wait_event=lambda event: self.done.append(f"main waits for {event}"))

    @contextlib.contextmanager
    def use(self, stream: Any) -> Iterator[None]:
        self.on = stream.name
        yield
        self.on = "main"

    def sent(self, values: torch.Tensor, device: torch.device) -> torch.Tensor:
        self.done.append(f"{self.on} copies {int(values.flatten()[0])}")
        return values


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    made = Streams()
    monkeypatch.setattr(torch.cuda, "Stream", made.make)
    monkeypatch.setattr(torch.cuda, "current_stream", made.current)
    monkeypatch.setattr(torch.cuda, "stream", made.use)
    monkeypatch.setattr(ahead, "sent", made.sent)

    def kept(values: torch.Tensor, stream: Any) -> None:
        made.done.append(f"{int(values.flatten()[0])} is kept for {stream.name}")

    monkeypatch.setattr(torch.Tensor, "record_stream", kept)
    ahead._stream.cache_clear()
    yield made
    ahead._stream.cache_clear()


def batches(count: int, fails: bool = False) -> Iterator[Batch]:
    for number in range(count):
        yield Batch(
            torch.full((2, 3), 10 * number), torch.full((2,), 10 * number + 1), torch.full((2,), 10 * number + 2)
        )
    if fails:
        raise RunError("a data worker failed")


def test_the_next_batch_is_under_way_before_this_one_is_worked_on(streams: Streams) -> None:
    for batch in copied_ahead(batches(2), CUDA):
        streams.done.append(f"work on {int(batch.inputs[0, 0])}")
    copied = [[f"copies copies {10 * n + part}" for part in range(3)] + ["event on copies"] for n in range(2)]
    kept = [["main waits for event"] + [f"{10 * n + part} is kept for main" for part in range(3)] for n in range(2)]
    assert streams.done == [*copied[0], *copied[1], *kept[0], "work on 0", *kept[1], "work on 10"]


def test_all_passes_copy_on_one_stream(streams: Streams) -> None:
    """Each would keep memory of its own for its batches, which no other takes again."""
    for _ in range(3):
        assert len(list(copied_ahead(batches(2), CUDA))) == 2
    assert streams.made == 1


def test_what_fails_is_told_when_its_batch_is_asked_for(streams: Streams) -> None:
    """The updates before it are made, as without copying ahead."""
    given = copied_ahead(batches(2, fails=True), CUDA)
    assert [int(next(given).inputs[0, 0]), int(next(given).inputs[0, 0])] == [0, 10]
    with pytest.raises(RunError, match="a data worker failed"):
        next(given)
    assert list(copied_ahead(batches(0), CUDA)) == []


def test_what_a_batch_says_of_itself_travels_with_it(streams: Streams) -> None:
    whole = Batch(torch.zeros(2, 3), torch.zeros(2), torch.zeros(2), whole=7, padding=True)
    (copied,) = copied_ahead(iter([whole]), CUDA)
    assert (copied.whole, copied.padding) == (7, True)
