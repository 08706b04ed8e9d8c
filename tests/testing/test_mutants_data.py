"""Each contract of data catches data that breaks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Dataset, DataSpec, Split, fingerprint
from trainkit.testing import DataContract

SAMPLES = 60


@dataclasses.dataclass(frozen=True)
class Shift:
    """Makes floats of bytes."""

    mean: float

    def __call__(self, inputs: Tensor) -> Tensor:
        return inputs.float() - self.mean


def made(inputs: Tensor, targets: Tensor, parts: Mapping[str, Tensor], prepare: Any = None) -> Dataset:
    """The data of these samples, with what is fitted on those of training."""
    splits = {name: Split(inputs[part], targets[part]) for name, part in parts.items()}
    mean = float(inputs[parts["train"]].float().mean())

    def recut(other: Mapping[str, Tensor]) -> Dataset:
        whole = torch.cat([parts["train"], parts["val"]])
        return made(inputs, targets, {name: whole[part] for name, part in other.items()} | {"test": parts["test"]})

    spec = DataSpec(
        (4,),
        "classification",
        3,
        ("a", "b", "c"),
        tuple(torch.bincount(splits["train"].targets, minlength=3).tolist()),
        {name: len(part) for name, part in parts.items()},
        fingerprint(
            {f"{name} {kind}": getattr(split, kind) for name, split in splits.items() for kind in ("inputs", "targets")}
        ),
    )
    groups = {name: part // 2 for name, part in parts.items()}
    return Dataset(spec, splits, prepare or Shift(mean), groups, recut)


def sound(seed: int) -> Dataset:
    """Bytes of three classes, drawn from the seed; neighbours belong together."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randint(256, (SAMPLES, 4), generator=draw, dtype=torch.uint8)
    order = torch.arange(SAMPLES)
    parts = {"train": order[:40], "val": order[40:50], "test": order[50:]}
    return made(inputs, torch.arange(SAMPLES) % 3, parts)


def untrue(seed: int) -> Dataset:
    found = sound(seed)
    return dataclasses.replace(found, spec=dataclasses.replace(found.spec, class_counts=(20, 20, 20)))


def other_each_time(seed: int) -> Dataset:
    return sound(int(torch.seed() % 1000))


def one_fingerprint(seed: int) -> Dataset:
    found = sound(seed)
    return dataclasses.replace(found, spec=dataclasses.replace(found.spec, fingerprint="0" * 64))


def overlapping(seed: int) -> Dataset:
    found = sound(seed)
    splits = {**found.splits, "test": Split(found.splits["train"].inputs[:10], found.splits["train"].targets[:10])}  # type: ignore[index]
    return dataclasses.replace(found, splits=splits)


def parted_groups(seed: int) -> Dataset:
    found = sound(seed)
    return dataclasses.replace(found, groups={name: group * 0 for name, group in found.groups.items()})


class Kept:
    """Reads samples into one piece of memory that it keeps."""

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        first, last = int(index.min()), int(index.max())
        return self.held[first : last + 1] if len(index) == last - first + 1 else self.held[index.sort().values]


def unordered(seed: int) -> Dataset:
    found = sound(seed)
    splits = {name: Split(Kept(split.inputs), split.targets) for name, split in found.splits.items()}  # type: ignore[arg-type]
    return dataclasses.replace(found, splits=splits, recut=None)


class OfBatch:
    def __call__(self, inputs: Tensor) -> Tensor:
        return inputs.float() - inputs.float().mean(0)


def by_batch(seed: int) -> Dataset:
    return dataclasses.replace(sound(seed), prepare=OfBatch())


def bound(seed: int) -> Dataset:
    return dataclasses.replace(sound(seed), prepare=lambda inputs: inputs.float())


class Aging:
    """Prepares each batch in another way than the one before."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs.float() + self.calls


def aging(seed: int) -> Dataset:
    return dataclasses.replace(sound(seed), prepare=Aging())


class Reader:
    """Gives later samples otherwise than the first: it counts what it has read."""

    def __init__(self, held: Tensor) -> None:
        self.held = held
        self.read = 0

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        self.read += len(index)
        found: Tensor = self.held[index] + (self.read > 20)
        return found


def counting(seed: int) -> Dataset:
    found = sound(seed)
    splits = {name: Split(Reader(split.inputs), split.targets) for name, split in found.splits.items()}  # type: ignore[arg-type]
    return dataclasses.replace(found, splits=splits, recut=None)


def cut_once(seed: int) -> Dataset:
    found = sound(seed)
    return dataclasses.replace(found, recut=lambda parts: found)


def data(make: Callable[[int], Dataset]) -> Component:
    def factory(seed: int, /) -> Dataset:
        """Make samples up."""
        return make(seed)

    return Component("data", factory, make.__name__)


HEALTHY = data(sound)
MUTANTS = [
    Mutant(DataContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("its_description_is_true", data(untrue), r"spec.class_counts is \[20, 20, 20\]; the training split has"),
        ("same_seed_same_data", data(other_each_time), "other samples when it is made again"),
        ("fingerprint_tells_data_apart", data(one_fingerprint), "another value of the recipe's seed"),
        ("splits_share_no_sample", data(overlapping), "10 of 10 samples are in 'train' and in 'test' too"),
        ("splits_share_no_sample", data(parted_groups), "1 groups are in 'train' and in 'val'"),
        ("samples_are_read_by_number", data(unordered), "together give other samples than one by one"),
        ("prepare_looks_at_each_sample_alone", data(by_batch), "gives another result in another batch"),
        ("batches_do_not_depend_on_workers", data(bound), "cannot be sent to worker processes"),
        ("batches_do_not_depend_on_workers", data(aging), "batch 0 of epoch 1 is another one"),
        ("goes_on_within_an_epoch", data(counting), "of a continued run is another one"),
        ("recut_gives_the_samples_asked_for", data(cut_once), r"recut gives \{'train': 40, 'val': 10\}"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(DataContract, MUTANTS)
