"""Another cut between training and validation samples: one of several folds, or none held out at all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainkit.dataset import Dataset, DataSpec, Gatherable, Split
from trainkit.errors import DataError, PluginDefect
from trainkit.feed.order import permutation
from trainkit.feed.pipeline import gather, guard

FoldBy = Literal["auto", "class", "group", "none"]


def cut_anew(
    dataset: Dataset,
    *,
    folds: int | None,
    fold: int,
    fold_by: FoldBy,
    train_on: Literal["train", "train+val"],
    seed: int,
    say: Callable[[str], None] = print,
) -> Dataset:
    """Cut the samples for training and validation as ``[data]`` says; the test samples stay out of it.

    Both splits are put together, training samples first. What a data component fits on its training samples is fitted
    on the new ones where it gives `Dataset.recut`; else it stays fitted on those that the component itself chose.

    Args:
        dataset: what the data component returned.
        folds: parts to cut; ``None`` leaves the component's own splits.
        fold: number of the part that validates; the others train.
        fold_by: see `deal`; auto is group where the data has groups, else class where it has classes.
        train_on: ``train+val`` trains on both and leaves no validation split.
        seed: what folds are drawn from.
        say: told of classes that some folds lack.

    Raises:
        DataError: if the data cannot be cut so.
        PluginDefect: if groups do not belong to the samples.
    """
    first, second = dataset.splits.get("train"), dataset.splits.get("val")
    own = [split for split in (first, second) if split is not None]
    if first is None or any(len(split.inputs) != len(split.targets) for split in own):
        return dataset  # a defect, which the checks of data name
    count = sum(map(len, own))
    if folds is not None:
        part = _deal(dataset, own, count, folds, fold_by, seed, say)
        parts = {"train": (part != fold).nonzero().squeeze(1), "val": (part == fold).nonzero().squeeze(1)}
    elif train_on == "train+val" and second is not None:
        parts = {"train": torch.arange(count)}
    else:
        return dataset
    if dataset.recut is not None:
        cut = guard("data", dataset.recut, dataset.recut, parts)
    else:
        splits = {name: _take(own, index) for name, index in parts.items()}
        cut = dataclasses.replace(dataset, splits=splits | _others(dataset.splits))
    return dataclasses.replace(cut, spec=_spec(dataset, cut, parts), groups=_groups_of(dataset, parts), recut=None)


def deal(count: int, folds: int, seed: int, classes: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
    """Deal samples into folds, as a function of the seed.

    Without groups each class is dealt out like cards, one class after the other: the folds' shares of a class differ
    by one sample at most, and so do their sizes. Groups stay whole. The largest is dealt first, each to the fold that
    has least of what it brings, so that sizes and, with classes, the shares of classes come out near each other.

    Args:
        count: samples.
        folds: parts.
        seed: decides which samples, and which of equal groups.
        classes: ``(samples,)`` int64, to have every class in equal shares.
        groups: ``(samples,)`` int64, numbers of what stays together.

    Returns:
        ``(samples,)`` int64, the fold of each sample. Every fold has a sample where there are as many samples, or
        groups, as folds.
    """
    order = permutation(count, "folds", seed)
    if groups is not None:
        return _deal_groups(groups.numpy(), folds, order.numpy(), None if classes is None else classes.numpy())
    if classes is not None:
        order = order[classes[order].argsort(stable=True)]
    part = torch.empty(count, dtype=torch.int64)
    part[order] = torch.arange(count) % folds
    return part


def _deal_groups(
    groups: NDArray[numpy.int64],
    folds: int,
    order: NDArray[numpy.int64],
    classes: NDArray[numpy.int64] | None,
) -> Tensor:
    names, first, number = numpy.unique(groups[order], return_index=True, return_inverse=True)
    drawn = numpy.empty_like(number)
    drawn[order] = number  # the place in `names` of each sample's group
    labels = numpy.zeros_like(drawn) if classes is None else numpy.unique(classes, return_inverse=True)[1]
    held = numpy.zeros((len(names), int(labels.max(initial=0)) + 2))
    numpy.add.at(held, (drawn, labels), 1)
    held[:, -1] = held[:, :-1].sum(1)  # all of its samples count as one class more
    weighted = held / held.sum(0) ** 2
    filled = numpy.zeros((folds, held.shape[1]))
    part = numpy.empty(len(names), dtype=numpy.int64)
    for place in numpy.lexsort((first, -held[:, -1])):  # groups of one size come as drawn
        # What it adds to the sum of squares of the folds' shares.
        chosen = int((filled @ weighted[place]).argmin())
        filled[chosen] += held[place]
        part[place] = chosen
    return torch.from_numpy(part[drawn])


def _deal(
    dataset: Dataset,
    own: Sequence[Split],
    count: int,
    folds: int,
    fold_by: FoldBy,
    seed: int,
    say: Callable[[str], None],
) -> Tensor:
    """The fold of each sample, by what the data has."""
    groups = _joined_groups(dataset)
    spec = dataset.spec
    classes = None
    if spec.task != "regression":
        classes = torch.cat([split.targets.detach().cpu().reshape(len(split)).long() for split in own])
    if fold_by == "group" and groups is None:
        cure = "tell the data what belongs together (csv has a setting group), or leave fold_by out"
        raise DataError(f'fold_by = "group", but the data has no groups\n{cure}')
    if fold_by == "class" and classes is None:
        raise DataError('fold_by = "class", but a regression has no classes\nwrite fold_by = "none"')
    if fold_by in ("class", "none"):
        groups = None
    if fold_by == "none":
        classes = None
    most, what = (count, "samples") if groups is None else (len(torch.unique(groups)), "groups")
    if folds > most:
        raise DataError(f"folds = {folds}, but there are {most} {what} to train and validate on\nwrite at most {most}")
    if classes is not None and groups is None:
        held = torch.bincount(classes.clamp(min=0))
        scarce = [label for label, number in enumerate(held.tolist()) if 0 < number < folds]
        if scarce:
            name = spec.classes[scarce[0]] if scarce[0] < len(spec.classes) else str(scarce[0])
            more = f" (and {len(scarce) - 1} more classes)" if len(scarce) > 1 else ""
            has = f"class '{name}'{more} has {int(held[scarce[0]])} samples"
            say(f"{has} for {folds} folds, so that some folds validate without it")
    return deal(count, folds, seed, classes, groups)


def _joined_groups(dataset: Dataset) -> Tensor | None:
    names = [name for name in ("train", "val") if name in dataset.splits]
    if not dataset.groups:
        return None
    for name in names:
        groups = dataset.groups.get(name)
        if groups is None or groups.dtype != torch.int64 or groups.shape != (len(dataset.splits[name]),):
            shape = "none" if groups is None else f"{groups.dtype} {tuple(groups.shape)}"
            raise PluginDefect(
                f"the groups of split '{name}' must be int64 ({len(dataset.splits[name])},), one number for each of its"
                f" samples; got {shape}"
            )
    return torch.cat([dataset.groups[name] for name in names]).cpu()


def _groups_of(dataset: Dataset, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    groups = _joined_groups(dataset)
    if groups is None:
        return {}
    return {name: groups[part] for name, part in parts.items()} | _others(dataset.groups)


def _others(held: Mapping[str, Split] | Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name not in ("train", "val")}


def _spec(before: Dataset, cut: Dataset, parts: Mapping[str, Tensor]) -> DataSpec:
    """What is known of the data, for its new splits."""
    counts = cut.spec.class_counts
    if before.spec.task != "regression" and counts:
        labels = cut.splits["train"].targets.detach().cpu().reshape(-1).long()
        counts = tuple(torch.bincount(labels.clamp(min=0), minlength=len(counts)).tolist())
    digest = hashlib.sha256(before.spec.fingerprint.encode())
    for name, part in parts.items():
        digest.update(f"\0{name}\0".encode() + part.numpy().tobytes())
    sizes = {name: len(split) for name, split in cut.splits.items()}
    return dataclasses.replace(cut.spec, class_counts=counts, sizes=sizes, fingerprint=digest.hexdigest())


def _take(own: Sequence[Split], index: Tensor) -> Split:
    """Samples by number, counted through several splits: tensors are copied, files stay files."""
    targets = torch.cat([split.targets for split in own])[index]
    held = [split.inputs for split in own]
    if all(isinstance(inputs, Tensor) for inputs in held):
        return Split(torch.cat([inputs for inputs in held if isinstance(inputs, Tensor)])[index], targets)
    return Split(Picked(held, index), targets)


class Picked:
    """Some samples of several gatherables, counted through them; nothing is copied until samples are asked for.

    Args:
        held: one after the other.
        index: ``(samples,)`` int64, numbers in all of them together.
    """

    def __init__(self, held: Sequence[Gatherable], index: Tensor) -> None:
        self.held = list(held)
        self.index = index
        self._ends = torch.tensor([len(inputs) for inputs in held]).cumsum(0)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Copy the samples of these numbers."""
        numbers = self.index.index_select(0, index)
        home = torch.bucketize(numbers, self._ends, right=True)
        whole: Tensor | None = None
        for place, inputs in enumerate(self.held):
            rows = (home == place).nonzero().squeeze(1)
            if not len(rows):
                continue
            begin = int(self._ends[place - 1]) if place else 0
            found = gather(inputs, numbers[rows] - begin)
            if len(rows) == len(numbers):
                return found
            if whole is None:
                whole = found.new_empty((len(numbers), *found.shape[1:]))
            whole[rows] = found
        return gather(self.held[0], numbers) if whole is None else whole
