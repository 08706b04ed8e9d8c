"""Another cut between training and validation samples: one of several folds, none held out at all, a bootstrap draw."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from trainkit.dataset import Dataset, DataSpec, Gatherable, Split
from trainkit.errors import DataError, PluginDefect
from trainkit.feed.draws import deal, draw_bag, rolled
from trainkit.feed.pipeline import gather, guard

FoldBy = Literal["auto", "class", "group", "time", "none"]


def cut_anew(
    dataset: Dataset,
    *,
    folds: int | None,
    fold: int,
    fold_by: FoldBy,
    train_on: Literal["train", "train+val"],
    bag: int | None = None,
    seed: int,
    say: Callable[[str], None] = print,
) -> Dataset:
    """Cut the samples for training and validation as ``[data]`` says; the test samples stay out of it.

    For folds and for a run on all samples both splits are put together, training samples first. What a data component
    fits on its training samples is fitted on the new ones where it gives `Dataset.recut`; else it stays fitted on those
    that the component itself chose.

    Args:
        dataset: what the data component returned.
        folds: parts to cut; ``None`` leaves the component's own splits.
        fold: number of the part that validates; the others train.
        fold_by: see `deal` and `rolled`; auto is time where the data has moments, else group where it has groups, else
            class where it has classes.
        train_on: ``train+val`` trains on both and leaves no validation split.
        bag: number of a bootstrap draw, see `draw_bag`; ``None`` trains on every training sample once.
        seed: what folds and bootstrap draws follow from.
        say: told of classes that some folds lack.

    Raises:
        DataError: if the data cannot be cut so.
        PluginDefect: if groups do not belong to the samples.
    """
    parts = _cut(dataset, folds, fold, fold_by, train_on, seed, say)
    cut = dataset if parts is None else _recut(dataset, parts)
    return cut if bag is None or not _whole(dataset) else _bagged(cut, bag, seed)


def parts_of(
    dataset: Dataset,
    *,
    folds: int | None,
    fold: int,
    fold_by: FoldBy,
    train_on: Literal["train", "train+val"],
    bag: int | None = None,
    seed: int,
    say: Callable[[str], None] = print,
) -> dict[str, Tensor]:
    """The samples that train and those that validate, as `cut_anew` cuts them, of data that was checked.

    Returns:
        ``(samples,)`` int64 by split, numbers counted through the training split and on through the validation split:
        ``train``, where a bootstrap draw names some samples several times, and ``val`` where some validate.
    """
    parts = _cut(dataset, folds, fold, fold_by, train_on, seed, say)
    if parts is None:  # the component's own splits stay
        first, second = dataset.splits["train"], dataset.splits.get("val")
        parts = {"train": torch.arange(len(first))}
        if second is not None:
            parts["val"] = torch.arange(len(first), len(first) + len(second))
    if bag is None:
        return parts
    groups = _joined_groups(dataset)
    train = parts["train"]
    return parts | {"train": train[draw_bag(len(train), bag, seed, None if groups is None else groups[train])]}


def overlapped(dataset: Dataset, train: Tensor) -> Tensor:
    """Samples whose target begins before the last one of those that train has ended.

    Args:
        dataset: what the data component returned.
        train: numbers of the samples that train, as `parts_of` gives them.

    Returns:
        ``(samples,)`` bool, through the training split and on through validation; none where data has no moments.
    """
    if not dataset.moments:
        return torch.zeros(sum(len(dataset.splits[name]) for name in ("train", "val") if name in dataset.splits)).bool()
    begins, ends = _joined_moments(dataset).unbind(1)
    return begins <= ends[train].max()


def _whole(dataset: Dataset) -> bool:
    """Whether there are samples to cut; what lacks is a defect, which the checks of data name."""
    own = [dataset.splits[name] for name in ("train", "val") if name in dataset.splits]
    return "train" in dataset.splits and all(len(split.inputs) == len(split.targets) for split in own)


def _cut(
    dataset: Dataset,
    folds: int | None,
    fold: int,
    fold_by: FoldBy,
    train_on: Literal["train", "train+val"],
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Tensor] | None:
    """As `parts_of`, before samples are drawn; ``None`` where the component's own splits stay."""
    own = [dataset.splits[name] for name in ("train", "val") if name in dataset.splits]
    count = sum(map(len, own))
    if not _whole(dataset):
        return None
    if folds is not None and (fold_by == "time" or (fold_by == "auto" and dataset.moments)):
        return rolled(_joined_moments(dataset), folds, fold)
    if folds is not None:
        part = _deal(dataset, own, count, folds, fold_by, seed, say)
        return {"train": (part != fold).nonzero().squeeze(1), "val": (part == fold).nonzero().squeeze(1)}
    return {"train": torch.arange(count)} if train_on == "train+val" and "val" in dataset.splits else None


def _recut(dataset: Dataset, parts: Mapping[str, Tensor]) -> Dataset:
    if dataset.recut is not None:
        cut = guard("data", dataset.recut, dataset.recut, parts)
    else:
        own = [dataset.splits[name] for name in ("train", "val") if name in dataset.splits]
        splits = {name: _take(own, index) for name, index in parts.items()}
        cut = dataclasses.replace(dataset, splits=splits | _others(dataset.splits))
    return dataclasses.replace(
        cut, spec=_spec(dataset, cut, parts), groups=_groups_of(dataset, parts), moments={}, recut=None
    )


def _bagged(dataset: Dataset, bag: int, seed: int) -> Dataset:
    """A bootstrap draw of the training samples.

    What the data component has fitted on the training samples stays fitted on all of them: members that are draws of
    the same samples then see the same inputs, and a word that a draw lacks keeps its column.
    """
    groups = _joined_groups(dataset)
    mine = None if groups is None else dataset.groups["train"].cpu()
    index = draw_bag(len(dataset.splits["train"]), bag, seed, mine)
    splits = {**dataset.splits, "train": _take([dataset.splits["train"]], index)}
    cut = dataclasses.replace(dataset, splits=splits)
    together = dataset.groups if mine is None else {**dataset.groups, "train": mine[index]}
    return dataclasses.replace(cut, spec=_spec(dataset, cut, {"bag": index}), groups=together, moments={}, recut=None)


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
    if spec.task not in ("regression", "tokens"):
        classes = torch.cat([split.targets.detach().cpu().reshape(len(split)).long() for split in own])
    if fold_by == "group" and groups is None:
        cure = "tell the data what belongs together (csv has a setting group), or leave fold_by out"
        raise DataError(f'fold_by = "group", but the data has no groups\n{cure}')
    if fold_by == "class" and classes is None:
        what = "samples of tokens have many" if spec.task == "tokens" else "a regression has no"
        raise DataError(f'fold_by = "class", but {what} classes\nwrite fold_by = "none"')
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


def _joined_moments(dataset: Dataset) -> Tensor:
    if not dataset.moments:
        raise DataError('fold_by = "time", but the data has no moments\nwrite fold_by = "none", or leave it out')
    names = [name for name in ("train", "val") if name in dataset.splits]
    for name in names:
        moments = dataset.moments.get(name)
        if moments is None or moments.dtype != torch.int64 or moments.shape != (len(dataset.splits[name]), 2):
            shape = "none" if moments is None else f"{moments.dtype} {tuple(moments.shape)}"
            raise PluginDefect(
                f"the moments of split '{name}' must be int64 ({len(dataset.splits[name])}, 2), the first and the last"
                f" of each of its samples' targets; got {shape}"
            )
    return torch.cat([dataset.moments[name] for name in names]).cpu()


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
