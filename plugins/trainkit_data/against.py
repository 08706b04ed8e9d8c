"""Some classes of a data set against all its others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from trainkit import DataError, Dataset, Split, fingerprint
from trainkit_data.tabular import count_classes


def against_rest(of: Dataset, positive: Sequence[str], task: Literal["binary", "classification"]) -> Dataset:
    """The data set that `trainkit_data.one_against_rest` describes.

    Raises:
        DataError: if the data has no classes, one is not there, or all or none are positive.
    """
    spec = of.spec
    if spec.task != "classification":
        raise DataError(f"one_against_rest chooses among classes, and the data is a {spec.task}\nleave it out")
    if unknown := [name for name in positive if name not in spec.classes]:
        shown = ", ".join(spec.classes[:20]) + (", ..." if len(spec.classes) > 20 else "")
        raise DataError(f"the data has no class '{unknown[0]}'\nits classes: {shown}")
    if not 0 < len(set(positive)) < len(spec.classes):
        named = "none" if not positive else "every one"
        raise DataError(f"of {len(spec.classes)} classes {named} is positive\nname at least one of them, and not all")
    numbers = torch.tensor([spec.classes.index(name) for name in positive])
    hits = {name: torch.isin(split.targets, numbers) for name, split in of.splits.items()}
    splits = {
        name: Split(of.splits[name].inputs, hit.float() if task == "binary" else hit.long())
        for name, hit in hits.items()
    }
    told = dataclasses.replace(
        spec,
        task=task,
        outputs=1 if task == "binary" else 2,
        classes=("rest", "+".join(name for name in spec.classes if name in positive)),
        class_counts=count_classes(hits["train"].long(), 2),
        fingerprint=fingerprint(
            {
                "of": torch.tensor(list(spec.fingerprint.encode()), dtype=torch.uint8),
                "positive": numbers.sort().values,
                "task": torch.tensor([task == "binary"]),
            }
        ),
    )
    again = None
    if (recut := of.recut) is not None:

        def again(parts: Mapping[str, torch.Tensor]) -> Dataset:
            return against_rest(recut(parts), positive, task)

    return dataclasses.replace(of, spec=told, splits=splits, recut=again)
