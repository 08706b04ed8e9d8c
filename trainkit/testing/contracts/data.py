"""What every data set keeps."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from trainkit.component import Component
from trainkit.dataset import Batch, Dataset, Split
from trainkit.errors import TrainkitError
from trainkit.feed.checks import check_dataset
from trainkit.feed.maker import Maker
from trainkit.feed.pipeline import Plan, gather
from trainkit.feed.resident import ResidentFeed
from trainkit.seeding import seed_everything
from trainkit.testing.build import made, surroundings
from trainkit.testing.contract import Contract
from trainkit.testing.kept import once_for_each

CPU = torch.device("cpu")
LOOKED_AT = 200  # samples of a split that are compared with those of the same data made again
LOOKED_FOR = 4000  # samples of a split that are looked for in the others
ROUNDING = 1e-5  # of values up to 1: a product of matrices is rounded otherwise in a batch of another size
ALIKE = 0.05  # of a split's samples, the share that may be in another one: real data repeat themselves
BYTES = {torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool}


class DataContract(Contract):
    """A data set is a function of settings and seed; its samples are read by number, each by itself."""

    kind = "data"

    @pytest.fixture
    def data(self, component: Component) -> Dataset:
        """The data of the component's example; shared, so not to be changed."""
        return _held(component)

    def test_its_description_is_true(self, component: Component, data: Dataset) -> None:
        """Sizes, shape, classes and their counts are as `DataSpec` says, and all values are finite."""
        what, spec = f"data '{component.name}'", data.spec
        try:
            check_dataset(data, 1)
        except TrainkitError as error:
            raise AssertionError(f"{what}: {error}") from error
        sizes = {name: len(split) for name, split in data.splits.items()}
        assert dict(spec.sizes) == sizes, f"{what}: spec.sizes is {dict(spec.sizes)}, the splits have {sizes}"
        targets = data.splits["train"].targets
        if spec.task == "classification":
            assert targets.dtype is torch.int64, f"{what}: classes are {targets.dtype}; they must be int64"
            assert len(spec.classes) == spec.outputs, (
                f"{what}: spec.classes names {len(spec.classes)} classes for {spec.outputs} outputs; name each"
            )
        elif spec.task == "tokens":
            fits = targets.dtype is torch.int64 and targets.shape[1:] == spec.input_shape[:1]
            assert fits, (
                f"{what}: targets are {targets.dtype} {tuple(targets.shape)}; classes of tokens must be int64, one for "
                f"each of {spec.input_shape[0]} positions"
            )
            known = len(spec.classes) if spec.vocabulary is None else len(spec.vocabulary.sizes)
            assert known == spec.outputs, f"{what}: {known} classes are named for {spec.outputs} outputs; name each"
            if not spec.class_counts:
                return
        else:
            assert targets.is_floating_point(), f"{what}: targets are {targets.dtype}; {spec.task} needs floats"
        if spec.task == "regression":
            assert targets.shape[1:].numel() == spec.outputs, (
                f"{what}: targets are {tuple(targets.shape)}, spec.outputs is {spec.outputs}"
            )
            return
        counts = torch.bincount(targets.long().reshape(-1), minlength=len(spec.class_counts)).tolist()
        assert list(spec.class_counts) == counts, (
            f"{what}: spec.class_counts is {list(spec.class_counts)}; the training split has {counts}"
        )

    def test_same_seed_same_data(self, component: Component, data: Dataset) -> None:
        """Made twice with one seed, it has the same samples in the same order, bit for bit, and one fingerprint."""
        again = _made(component, 5)
        same = _content(again) == _content(data)
        assert same, (
            f"data '{component.name}': other samples when it is made again; draw from the seed that the core gives, or "
            "from one of its settings"
        )
        assert again.spec.fingerprint == data.spec.fingerprint, (
            f"data '{component.name}': another fingerprint of the same samples; make it with trainkit.fingerprint"
        )

    def test_fingerprint_tells_data_apart(self, component: Component, data: Dataset) -> None:
        """It is given, and other samples, of another seed for one, have another."""
        found = data.spec.fingerprint
        what = f"data '{component.name}'"
        assert len(found) == 64, f"{what}: spec.fingerprint is '{found}'; make it with trainkit.fingerprint"
        content = _content(data)
        others = [("the recipe's seed", _made(component, 6))]
        for setting in component.settings:
            if setting.name.endswith("seed") and type(value := _value(component, setting)) is int:
                others.append((f"'{setting.name}'", _made(component, 5, **{setting.name: value + 1})))
        for changed, other in others:
            told_apart = other.spec.fingerprint != found or _content(other) == content
            assert told_apart, (
                f"{what}: with another value of {changed} it has other samples and the same fingerprint; make it of "
                "the arrays as they are split, with trainkit.fingerprint"
            )

    def test_splits_share_no_sample(self, component: Component, data: Dataset) -> None:
        """What a model is measured on it has not been trained on; no group is in two splits."""
        rows = {name: _rows(split, LOOKED_FOR) for name, split in data.splits.items()}
        names = list(rows)
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                small, large = sorted((rows[name], rows[other]), key=len)
                held = Counter(large)
                shared = sum(row in held for row in small)
                # Of few values that samples can have, each comes often, also within a split.
                repeated = sum(times for times in held.values() if times > 1) / max(1, len(large))
                assert shared <= (ALIKE + repeated) * len(small), (
                    f"data '{component.name}': {shared} of {len(small)} samples are in '{name}' and in '{other}' too; "
                    "split with trainkit.split_by_fraction"
                )
        if "train" in data.groups and "val" in data.groups:
            both = set(data.groups["train"].tolist()) & set(data.groups["val"].tolist())
            assert not both, f"data '{component.name}': {len(both)} groups are in 'train' and in 'val'"

    def test_samples_are_read_by_number(self, component: Component, data: Dataset) -> None:
        """Any numbers in any order, also several times, give their samples; reading changes nothing."""
        for name, split in data.splits.items():
            if not len(split):
                continue
            last = len(split) - 1
            index = torch.tensor([last, 0, last // 2, 0])
            found = gather(split.inputs, index)
            alone = torch.cat([gather(split.inputs, index[i : i + 1]) for i in range(len(index))])
            what = f"data '{component.name}', split '{name}'"
            assert len(found) == len(index), f"{what}: {len(found)} samples for {len(index)} numbers"
            assert torch.equal(found, alone), f"{what}: numbers asked for together give other samples than one by one"
            found.zero_()
            again = gather(split.inputs, index)
            assert torch.equal(again, alone), f"{what}: gives its own memory; inputs[numbers] must be a copy"

    def test_prepare_looks_at_each_sample_alone(self, component: Component, data: Dataset) -> None:
        """``prepare`` gives the same for a sample in any batch, as floats, and leaves what is stored alone."""
        if data.prepare is None:
            dtype = gather(data.splits["train"].inputs, torch.zeros(1, dtype=torch.int64)).dtype
            assert dtype.is_floating_point or dtype is torch.int64, (
                f"data '{component.name}': inputs are {dtype}, and no prepare makes floats of them"
            )
            return
        stored = gather(data.splits["train"].inputs, torch.arange(min(16, len(data.splits["train"]))))
        before = stored.clone()
        whole = data.prepare(stored)
        sizes = [size for size in (1, len(before) // 2, len(before) - 1 - len(before) // 2) if size]
        parts = torch.cat([data.prepare(part) for part in torch.split(before.flip(0), sizes)]).flip(0)
        what = f"data '{component.name}': prepare"
        assert torch.equal(stored, before), f"{what} changes what it is given; work on a copy"
        assert whole.dtype not in BYTES - {torch.int64}, f"{what} gives {whole.dtype}; give floats"
        near = ROUNDING * max(1.0, float(whole.abs().max())) if whole.is_floating_point() else 0.0
        same = whole.shape == parts.shape and torch.allclose(whole, parts, rtol=0, atol=near)
        assert same, (
            f"{what} gives another result in another batch; what it needs of all samples it takes from the training "
            "split, once, as trainkit.standardise does"
        )

    def test_batches_do_not_depend_on_workers(self, component: Component, data: Dataset) -> None:
        """Worker processes, which get a pickled copy and take turns, make the batches that are made without them."""
        plan = _plan(data)
        try:
            text = pickle.dumps(Maker(plan))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise AssertionError(
                f"data '{component.name}': cannot be sent to worker processes: {error}; prepare, and what reads the "
                "samples, are objects of classes at the top of their modules"
            ) from error
        workers: list[Maker] = [pickle.loads(text) for _ in range(2)]
        feed = ResidentFeed(plan, CPU)
        for epoch in (1, 0):
            for number, batch in enumerate(_first(feed.train(epoch))):
                _alike(
                    component, batch, workers[number % 2].make("", epoch, number), f"batch {number} of epoch {epoch}"
                )
        for split in set(data.splits) - {"train"}:
            for number, batch in enumerate(_first(feed.evaluate(split))):
                _alike(component, batch, workers[number % 2].make(split, 0, number), f"batch {number} of '{split}'")

    def test_goes_on_within_an_epoch(self, component: Component, data: Dataset) -> None:
        """A run that is continued within an epoch, in another process, gets the batches that were still to come."""
        plan = _plan(data)
        straight, continued = Maker(plan), Maker(_plan(_made(component, 5)))
        start = min(2, plan.batches_per_epoch - 1)
        for number in range(min(start + 3, plan.batches_per_epoch)):
            expected = straight.make("", 1, number)
            if number >= start:
                found = continued.make("", 1, number)
                _alike(component, expected, found, f"batch {number} of epoch 1 of a continued run")

    def test_recut_gives_the_samples_asked_for(self, component: Component, data: Dataset) -> None:
        """Where it has ``recut``: its own cut gives the same data, another one its samples; the test stays."""
        if data.recut is None:
            return
        what = f"data '{component.name}': recut"
        train = len(data.splits["train"])
        val = len(data.splits["val"]) if "val" in data.splits else 0
        own = {"train": torch.arange(train)} | ({"val": torch.arange(train, train + val)} if val else {})
        same = _content(data.recut(own)) == _content(data)
        assert same, f"{what} to the splits that it has gives other data"
        # The last samples validate now, and what validated trains.
        count = train + val
        other = {"train": torch.arange(count // 4, count), "val": torch.arange(count // 4)}
        cut = data.recut(other)
        sizes = {name: len(cut.splits[name]) for name in other}
        assert sizes == {name: len(part) for name, part in other.items()}, f"{what} gives {sizes}, asked for {other}"
        if data.spec.task != "regression":  # their targets may be standardised anew
            whole = torch.cat([data.splits[name].targets for name in own])
            for name, part in other.items():
                assert torch.equal(cut.splits[name].targets, whole[part]), f"{what} gives other samples than asked for"
        others = set(data.splits) - {"train", "val"}
        for name in others:
            kept = name in cut.splits and len(cut.splits[name]) == len(data.splits[name])
            assert kept, f"{what} changes split '{name}'; only training and validation samples are cut anew"


# ------------------------------------------------------------ what they share


@once_for_each
def _held(component: Component) -> Dataset:
    return _made(component, 5)


def _made(component: Component, seed: int, **changes: Any) -> Dataset:
    surroundings(component)  # which are found by making it, and remembered
    seed_everything(seed, "data")  # as the core does before it makes data
    dataset: Dataset = made(component, {**component.example, **changes} if changes else None, seed=seed)
    return dataset


def _value(component: Component, setting: Any) -> Any:
    """What a setting is in the example, or by default."""
    return component.example.get(setting.name, setting.default)


def _plan(data: Dataset) -> Plan:
    data = dataclasses.replace(data, recut=None)  # as the core does: it stays behind
    size = max(1, min(16, len(data.splits["train"]) // 3))
    return Plan(data, size, 2 * size, shuffle=True, drop_last=False, augmentations=(), seed=5)


def _first(batches: Iterator[Batch], count: int = 4) -> list[Batch]:
    return [batch for _, batch in zip(range(count), batches, strict=False)]


def _alike(component: Component, expected: Batch, found: Batch, which: str) -> None:
    same = all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert same, (
        f"data '{component.name}': {which} is another one; what is read and prepared must follow from the samples' "
        "numbers alone"
    )


def _content(data: Dataset) -> Mapping[str, Any]:
    """Samples and targets of each split, as they can be compared."""
    return {name: (_rows(split), split.targets[:LOOKED_AT].tolist()) for name, split in data.splits.items()}


def _rows(split: Split, count: int = LOOKED_AT) -> list[bytes]:
    """The first samples of a split, as bytes."""
    index = torch.arange(min(count, len(split)))
    rows = (gather(split.inputs, index[i : i + 1]).contiguous() for i in range(len(index)))
    return [row.view(torch.uint8).numpy().tobytes() for row in rows]  # NumPy has no bfloat16
