"""Samples in double precision, for runs whose numbers are compared to the last digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from trainkit.dataset import Dataset, Split


@dataclass(frozen=True)
class Double:
    """Prepares inputs as the data does, in double precision; picklable where that is.

    Args:
        prepare: the data's own.
    """

    prepare: Callable[[Tensor], Tensor] | None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Prepare ``(batch, ...)``; whole numbers, such as tokens, stay what they are."""
        prepared = inputs if self.prepare is None else self.prepare(inputs)
        return prepared.double() if prepared.is_floating_point() else prepared


def in_double(dataset: Dataset) -> Dataset:
    """The same samples, with inputs and targets that are floats in double precision."""
    splits = {name: Split(split.inputs, _double(split.targets)) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits, prepare=Double(dataset.prepare))


def _double(targets: Tensor) -> Tensor:
    return targets.double() if targets.is_floating_point() else targets
