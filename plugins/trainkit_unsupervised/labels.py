"""Data whose targets are its own inputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainkit import DataError, Dataset, Split, fingerprint

_CHUNK_BYTES = 32 << 20


def without_labels(of: Dataset) -> Dataset:
    """The same samples, each with its prepared inputs in one row as its target.

    Args:
        of: any data of numbers.

    Raises:
        DataError: if its inputs are numbers of tokens, or some of categories.
    """
    spec = of.spec
    if count := sum(map(bool, spec.categories)):
        raise DataError(
            f"data unlabelled needs samples of real numbers, and {count} inputs are numbers of categories\nset "
            'categorical = "onehot" in the data inside'
        )
    splits = {name: Split(split.inputs, _rows(of, split)) for name, split in of.splits.items()}
    marks = {"inputs": torch.tensor(list(spec.fingerprint.encode()), dtype=torch.uint8)}
    described = dataclasses.replace(
        spec,
        task="regression",
        outputs=math.prod(spec.input_shape),
        classes=(),
        class_counts=(),
        target_mean=(),
        target_std=(),
        targets=(),
        naive_error=(),
        fingerprint=fingerprint(marks) if spec.fingerprint else "",
    )
    recut = of.recut

    def again(numbers: Mapping[str, Tensor]) -> Dataset:
        assert recut is not None
        return without_labels(recut(numbers))

    return dataclasses.replace(of, spec=described, splits=splits, recut=again if recut is not None else None)


def _rows(of: Dataset, split: Split) -> Tensor:
    """Targets ``(samples, numbers)`` of a split: what the model is given of each sample."""
    whole = split.inputs
    if not len(whole):
        return torch.zeros(0, math.prod(of.spec.input_shape))
    if of.prepare is None and isinstance(whole, Tensor) and whole.is_floating_point():
        return whole.flatten(1)  # the same memory
    sample = whole[torch.zeros(1, dtype=torch.int64)]
    prepared = sample if of.prepare is None else of.prepare(sample)
    if not prepared.is_floating_point():
        raise DataError(
            f"data unlabelled needs samples of real numbers, and these are {prepared.dtype} (tokens)\n"
            "learn from tokens with data 'text', whose targets are the tokens that follow"
        )
    rows = max(1, _CHUNK_BYTES // max(1, prepared.nbytes))
    made = prepared.new_empty((len(whole), prepared.numel()))
    for first in range(0, len(whole), rows):
        part = whole[torch.arange(first, min(first + rows, len(whole)))]
        made[first : first + rows] = (part if of.prepare is None else of.prepare(part)).flatten(1)
    return made
