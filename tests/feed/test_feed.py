"""Both ways of loading give the same batches, from any place on."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from trainkit import Batch, DataError, Dataset, DataSpec, RunError, Split
from trainkit.errors import PluginDefect
from trainkit.feed import make_feed
from trainkit.feed.resident import ResidentFeed
from trainkit.feed.streamed import StreamedFeed
from trainkit.protocols import Draw

CLASSES = tuple("abcde")


@dataclass(frozen=True)
class Scaled:
    """A prepare function that worker processes can be sent."""

    by: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """Scale."""
        return inputs.float().div_(self.by)


@dataclass(frozen=True)
class Noisy:
    """An augmentation with two kinds of draws."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Add noise."""
        noise = draw("a", 3)[:, :, None, None] + draw("b")[:, :, None, None]
        return Batch(batch.inputs + noise, batch.targets, batch.index)


@dataclass(frozen=True)
class Failing:
    """An augmentation that does something to the process it runs in."""

    what: str

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        """Fail."""
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "data":
            raise DataError("picture.png is damaged")
        if self.what == "hang":
            signal.pause()
        raise ValueError("no such colour")


def images(samples: int = 203, val: int = 50) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=generator)
        return Split(pixels, torch.arange(count) % 5)

    spec = DataSpec((3, 4, 4), "classification", 5, CLASSES)
    return Dataset(spec, {"train": split(samples), "val": split(val)}, Scaled(255.0))


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for left, right in pairs for a, b in zip(tuple(left), tuple(right), strict=True))


@pytest.fixture(params=[(), (Noisy(), Noisy())], ids=["plain", "augmented"])
def settings(request: pytest.FixtureRequest) -> dict[str, object]:
    return {"batch_size": 16, "seed": 3, "device": "cpu", "augmentations": request.param}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_gives_what_resident_gives_bit_for_bit(settings: dict[str, object], workers: int) -> None:
    resident = make_feed(images(), **settings)
    streamed = make_feed(images(), **settings, loading="streamed", workers=workers)
    assert isinstance(resident, ResidentFeed)
    assert isinstance(streamed, StreamedFeed)
    assert same(list(resident.train(1)), list(streamed.train(1)))
    assert same(list(resident.train(2, start=5)), list(streamed.train(2, start=5)))
    assert same(list(resident.evaluate("val")), list(streamed.evaluate("val")))
    streamed.close()


@pytest.mark.parametrize("count", [1, 7, 203, 500])
def test_samples_spread_over_a_split_are_prepared_and_not_augmented(settings: dict[str, object], count: int) -> None:
    data = images()
    taken = min(count, 203)
    index = torch.tensor([number * 203 // taken for number in range(taken)])
    expected = Batch(Scaled(255.0)(data.splits["train"].inputs[index]), data.splits["train"].targets[index], index)
    for loading in ("resident", "streamed"):
        feed = make_feed(data, **settings, loading=loading, workers=0)
        assert same([feed.spread("train", count)], [expected])
        assert len(feed.spread("val", count)) == min(count, 50)


@pytest.mark.parametrize("start", [0, 1, 7, 12, 13])
def test_starting_late_gives_the_tail_of_the_epoch(settings: dict[str, object], start: int) -> None:
    feed = make_feed(images(), **settings)
    assert same(list(feed.train(4))[start:], list(feed.train(4, start=start)))


def test_values_do_not_depend_on_how_batches_are_cut(settings: dict[str, object]) -> None:
    small = torch.cat([batch.inputs for batch in make_feed(images(), **settings).train(0)])
    large = torch.cat([batch.inputs for batch in make_feed(images(), **{**settings, "batch_size": 60}).train(0)])
    assert torch.equal(small, large)


def test_epochs_have_orders_of_their_own_and_each_sample_once() -> None:
    feed = make_feed(images(), batch_size=16, seed=3, device="cpu")
    orders = [torch.cat([batch.index for batch in feed.train(epoch)]) for epoch in (0, 1, 0)]
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])
    assert orders[0].sort().values.tolist() == list(range(203))
    other = make_feed(images(), batch_size=16, seed=4, device="cpu")
    assert not torch.equal(next(other.train(0)).index, next(feed.train(0)).index)


def test_index_belongs_to_inputs_and_targets() -> None:
    data = images()
    train = data.splits["train"]
    for batch in make_feed(data, batch_size=16, seed=0, device="cpu").train(0):
        assert torch.equal(batch.targets, train.targets[batch.index])
        assert torch.equal(batch.inputs, Scaled(255.0)(train.inputs[batch.index]))


@pytest.mark.parametrize(("drop_last", "count", "last"), [(False, 13, 11), (True, 12, 16)])
def test_incomplete_last_batch(drop_last: bool, count: int, last: int) -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu", drop_last=drop_last)
    batches = list(feed.train(0))
    assert feed.batches_per_epoch == len(batches) == count
    assert len(batches[-1].targets) == last


def test_without_shuffling_samples_come_as_stored() -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu", shuffle=False)
    assert torch.cat([batch.index for batch in feed.train(3)]).tolist() == list(range(203))


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_evaluation_neither_shuffles_nor_augments(loading: str) -> None:
    data = images()
    feed = make_feed(data, batch_size=16, seed=0, device="cpu", augmentations=[Noisy()], loading=loading)
    seen = torch.cat([batch.inputs for batch in feed.evaluate("val")])
    assert torch.equal(seen, Scaled(255.0)(data.splits["val"].inputs[torch.arange(50)]))


def test_evaluation_between_two_training_batches_changes_nothing() -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu", loading="streamed", workers=1)

    def interrupted() -> Iterator[Batch]:
        for number, batch in enumerate(feed.train(0)):
            if number == 3:
                assert sum(len(seen.targets) for seen in feed.evaluate("val")) == 50
            yield batch

    undisturbed = make_feed(images(), batch_size=16, seed=0, device="cpu")
    assert same(list(interrupted()), list(undisturbed.train(0)))
    feed.close()


def test_leaving_an_epoch_early_does_not_disturb_the_next() -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu", loading="streamed", workers=2)
    next(iter(feed.train(0)))
    assert same(list(feed.train(1)), list(make_feed(images(), batch_size=16, seed=0, device="cpu").train(1)))
    feed.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_is_left_alone(workers: int) -> None:
    before = torch.get_rng_state()
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu", loading="streamed", workers=workers)
    list(feed.train(0))
    list(feed.evaluate("val"))
    list(make_feed(images(), batch_size=16, seed=0, device="cpu", augmentations=[Noisy()]).train(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_changing_a_batch_in_place_does_not_change_the_data() -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu")
    for batches in (lambda: feed.train(0), lambda: feed.evaluate("val")):
        first = [batch.inputs.clone() for batch in batches()]
        for batch in batches():
            batch.inputs.zero_()
            batch.targets.zero_()
        assert all(torch.equal(a, batch.inputs) for a, batch in zip(first, batches(), strict=True))


@dataclass(frozen=True)
class FromFile:
    """Samples that are no tensor, as of a format of one's own."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Tensor) -> Tensor:
        """Make samples of their numbers."""
        return index[:, None].float() * torch.ones(3)


@pytest.mark.parametrize("loading", ["resident", "streamed"])
def test_inputs_need_not_be_tensors(loading: str) -> None:
    data = Dataset(
        DataSpec((3,), "classification", 2, ("a", "b")), {"train": Split(FromFile(20), torch.arange(20) % 2)}
    )
    feed = make_feed(data, batch_size=8, seed=0, device="cpu", loading=loading)
    for batch in feed.train(0):
        assert torch.equal(batch.inputs[:, 0], batch.index.float())


@pytest.mark.parametrize("what", ["die", "hang"])
def test_a_dead_or_hanging_worker_fails_the_run(what: str) -> None:
    feed = make_feed(
        images(), batch_size=16, seed=0, device="cpu", loading="streamed", workers=1, augmentations=[Failing(what)]
    )
    assert isinstance(feed, StreamedFeed)
    feed.timeout = 3
    with pytest.raises(RunError, match="a data worker ended or hung"):
        list(feed.train(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_workers_keep_their_kind(workers: int) -> None:
    def feed(what: str) -> StreamedFeed | ResidentFeed:
        loading = {"loading": "streamed", "workers": workers}
        return make_feed(images(), batch_size=16, seed=0, device="cpu", augmentations=[Failing(what)], **loading)

    with pytest.raises(DataError, match=r"picture\.png is damaged"):
        list(feed("data").train(0))
    with pytest.raises(PluginDefect, match=r"Failing raised ValueError: no such colour .*test_feed\.py:\d+"):
        list(feed("defect").train(0))


def test_unknown_split_is_named() -> None:
    feed = make_feed(images(), batch_size=16, seed=0, device="cpu")
    with pytest.raises(DataError, match="no split 'test'; it has: train, val"):
        list(feed.evaluate("test"))
