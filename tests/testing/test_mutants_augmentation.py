"""Each contract of augmentations catches an augmentation that breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.testing.mutants import Mutant, lacking
from trainkit import Augmentation, Batch, Component, DataError, DataSpec, Draw
from trainkit.testing import AugmentationContract


class Scaled:
    """Each row of a table is made up to twice as large."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        return Batch(batch.inputs * (1 + draw("factor")), batch.targets, batch.index)


class Wider(Scaled):
    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        batch = super().__call__(batch, draw)
        return Batch(torch.cat([batch.inputs, batch.inputs], 1), batch.targets, batch.index)


class Surer(Scaled):
    """Targets that make two."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        batch = super().__call__(batch, draw)
        if batch.targets.is_floating_point():
            return batch
        return Batch(batch.inputs, 2.0 * torch.nn.functional.one_hot(batch.targets, 5), batch.index)


class Noisy(Scaled):
    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        batch = super().__call__(batch, draw)
        return Batch(batch.inputs + torch.randn_like(batch.inputs), batch.targets, batch.index)


class Fading(Scaled):
    """Remembers how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        self.calls += 1
        batch = super().__call__(batch, draw)
        return Batch(batch.inputs / self.calls, batch.targets, batch.index)


class Beside:
    """Measures each sample against the largest of the batch."""

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        inputs = batch.inputs / batch.inputs.abs().max().clamp(min=1e-6)
        return Batch(inputs.to(batch.inputs.dtype), batch.targets, batch.index)


class ByPlace(Scaled):
    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        return super().__call__(Batch(batch.inputs.flip(0), batch.targets, batch.index), draw)


class InPlace(Scaled):
    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        batch.inputs.mul_(1 + draw("factor"))
        return batch


class Bound(Scaled):
    def __init__(self) -> None:
        self.factor = lambda draw: 1 + draw("factor")

    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        return Batch(batch.inputs * self.factor(draw), batch.targets, batch.index)


class OnCpu(Scaled):
    def __call__(self, batch: Batch, draw: Draw, /) -> Batch:
        batch = super().__call__(batch, draw)
        return Batch(batch.inputs * torch.ones(len(batch), 1), batch.targets, batch.index)


def augmentation(kind: type[Any]) -> Component:
    def factory(data_spec: DataSpec, /) -> Augmentation:
        """Change tables."""
        if len(data_spec.input_shape) != 1:
            raise DataError(f"needs tables, the data has {data_spec.input_shape}")
        found: Augmentation = kind()
        return found

    return Component("augmentation", factory, f"of_{kind.__name__.lower()}")


def brusque() -> Component:
    def factory(data_spec: DataSpec, /) -> Augmentation:
        """Know nothing but tables."""
        if len(data_spec.input_shape) != 1:
            raise KeyError(data_spec.input_shape)
        return Scaled()

    return Component("augmentation", factory, "brusque")


HEALTHY = augmentation(Scaled)
MUTANTS = [
    Mutant(AugmentationContract, name, defect, HEALTHY, because)
    for name, defect, because in (
        ("refuses_other_data_in_words", brusque(), "raises on grey images of 10 classes; raise DataError"),
        ("keeps_the_form_of_a_batch", augmentation(Wider), r"\(12, 6\) become \(12, 12\)"),
        ("keeps_the_form_of_a_batch", augmentation(Surer), "the targets of a sample make 2"),
        ("is_a_function_of_the_draw", augmentation(Noisy), "draws from a random generator of the process"),
        ("is_a_function_of_the_draw", augmentation(Fading), "keep nothing from one batch to the next"),
        ("the_order_in_a_batch_does_not_matter", augmentation(ByPlace), "not by position"),
        ("a_part_of_a_batch_becomes_the_same", augmentation(Beside), "where only 5 of 12 are there"),
        ("leaves_the_given_batch_alone", augmentation(InPlace), "changes the given batch in place"),
        ("can_be_sent_to_workers", augmentation(Bound), "cannot be pickled"),
        ("runs_on_any_device_without_waiting", augmentation(OnCpu), "values it cannot see"),
    )
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(AugmentationContract, MUTANTS)
