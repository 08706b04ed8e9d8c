"""Some classes of another data set, and so many training samples of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainkit import DataError, Dataset, DataSpec, Split, fingerprint
from trainkit_data.tabular import View, count_classes


def take_subset(
    of: Dataset, classes: Sequence[str], without: Sequence[str], per_class: int | None, draw_seed: int
) -> Dataset:
    """The data set that `trainkit_data.subset` describes.

    Raises:
        DataError: if the data has no classes, a class is not there, or has too few samples.
    """
    if of.spec.task != "classification":
        raise DataError(f"subset chooses among classes, and the data is a {of.spec.task}\nleave the subset out")
    kept = _kept(of.spec.classes, classes, without)
    first = {name: _of_classes(split.targets, kept) for name, split in of.splits.items()}
    if per_class is not None:
        first["train"] = _drawn(of, first["train"], kept, per_class, draw_seed)
    return _taken(of, first, kept)


def _kept(known: Sequence[str], classes: Sequence[str], without: Sequence[str]) -> list[int]:
    """Numbers of the classes that stay, in the data's own order."""
    if unknown := [name for name in (*classes, *without) if name not in known]:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        raise DataError(f"the data has no class '{unknown[0]}'\nits classes: {shown}")
    kept = [n for n, name in enumerate(known) if (not classes or name in classes) and name not in without]
    if len(kept) < 2:
        raise DataError(f"{len(kept)} of {len(known)} classes are left; to tell classes apart there must be two")
    return kept


def _of_classes(targets: Tensor, kept: Sequence[int]) -> Tensor:
    return torch.isin(targets, torch.tensor(kept)).nonzero().squeeze(1)


def _drawn(of: Dataset, part: Tensor, kept: Sequence[int], count: int, seed: int) -> Tensor:
    """So many samples of each class, in the data's own order."""
    targets, found = of.splits["train"].targets[part], []
    for number in kept:
        mine = part[targets == number]
        if len(mine) < count:
            name = of.spec.classes[number]
            raise DataError(f"per_class = {count}, and class '{name}' has {len(mine)} training samples\nlower it")
        # A generator of its own for each class: what is drawn of one does not depend on which others stay.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        found.append(mine[torch.randperm(len(mine), generator=generator)[:count]])
    return torch.cat(found).sort().values


def _taken(of: Dataset, parts: Mapping[str, Tensor], kept: Sequence[int]) -> Dataset:
    """The data set of these samples of each split, their classes numbered anew."""
    new = torch.full((len(of.spec.classes),), -1, dtype=torch.int64)
    new[list(kept)] = torch.arange(len(kept))
    parts = {name: part for name, part in parts.items() if len(part) or name == "train"}
    splits = {name: _split(of.splits[name], part, new) for name, part in parts.items()}
    spec: DataSpec = dataclasses.replace(
        of.spec,
        outputs=len(kept),
        classes=tuple(of.spec.classes[number] for number in kept),
        class_counts=count_classes(splits["train"].targets, len(kept)),
        sizes={name: len(part) for name, part in parts.items()},
        fingerprint=fingerprint(
            {
                "of": torch.tensor(list(of.spec.fingerprint.encode()), dtype=torch.uint8),
                "classes": torch.tensor(kept),
                **{f"split {name}": part for name, part in parts.items()},
            }
        ),
    )
    groups = {name: of.groups[name][part] for name, part in parts.items() if name in of.groups}
    again = None
    if (recut := of.recut) is not None:
        before = len(of.splits["train"])
        mine = [parts["train"], *([parts["val"] + before] if "val" in parts else [])]
        numbers = torch.cat(mine)
        count = before + (len(of.splits["val"]) if "val" in of.splits else 0)

        def again(cut: Mapping[str, Tensor]) -> Dataset:
            # What is fitted is fitted on all samples of the data that do not validate, as it is without folds.
            wanted = {name: numbers[part] for name, part in cut.items()}
            fits = torch.ones(count, dtype=torch.bool)
            fits[wanted.get("val", numbers[:0])] = False
            others = fits.nonzero().squeeze(1)
            held = {"val": wanted["val"]} if "val" in wanted else {}
            made = recut({"train": others, **held})
            found = {"train": torch.searchsorted(others, wanted["train"])}
            found |= {name: torch.arange(len(part)) for name, part in held.items()}
            rest = {name: part for name, part in parts.items() if name not in ("train", "val")}
            return _taken(made, found | rest, kept)

    return dataclasses.replace(of, spec=spec, splits=splits, groups=groups, recut=again)


def _split(split: Split, part: Tensor, new: Tensor) -> Split:
    inputs = split.inputs[part] if isinstance(split.inputs, Tensor) else View(split.inputs, part)
    return Split(inputs, new[split.targets[part]])
