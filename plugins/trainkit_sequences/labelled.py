"""Sequences with one label each, of one or several channels and of uneven lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainkit import (
    DataError,
    Dataset,
    DataSpec,
    Split,
    TextTable,
    fingerprint,
    is_missing,
    read_text_table,
    split_by_fraction,
)
from trainkit_sequences.reading import (
    Missing,
    in_order,
    moments_of,
    need_change,
    need_columns,
    number_of,
    scaled,
    sequences_of,
    values_of,
)

Task = Literal["classification", "binary", "regression"]
_MOST_CLASSES = 20  # whole numbers with at most so many different values are taken for classes


@dataclasses.dataclass
class Labelled:
    """Sequences as they were read.

    Args:
        values: of each sequence ``(channels, steps)`` float64.
        labels: the cell that each is labelled with.
        groups: the cell that says what it belongs to, where there is such a column.
        where: file and line of each label, for messages.
    """

    values: list[Tensor]
    labels: list[str]
    groups: list[str]
    where: list[str]


def load_sequences(
    path: Path,
    *,
    target: str,
    key: str | None,
    time: str | None,
    group: str | None,
    ignore: Sequence[str],
    missing: Missing,
    task: Task | Literal["auto"],
    length: int | None,
    shares: Mapping[str, float],
    split_seed: int,
    scale: bool,
    scale_targets: bool,
    delimiter: str,
) -> Dataset:
    """Read a file and cut its sequences; see `trainkit_sequences.data.csv_sequences`."""
    if sum(shares.values()) >= 1:
        shown = " and ".join(f"{name} = {share:g}" for name, share in shares.items())
        raise DataError(f"{shown} leave nothing for training; make their sum less than 1")
    rows = read_text_table(path, delimiter)
    named = [name for name in (target, key, time, group) if name is not None]
    need_columns(rows, [*named, *ignore])
    if len(set(named)) < len(named):
        raise DataError(f"{path}: target, id, time and group are columns of their own, got {', '.join(named)}")
    if time is not None and key is None:
        raise DataError(f"time = '{time}' orders the rows of a sequence, and id names no column of them; write id too")
    channels = [name for name in rows.columns if name not in named and name not in ignore]
    if not channels:
        raise DataError(f"{path} has no column left for steps beside {', '.join(named)}")
    found = (
        _wide(rows, target, group, channels)
        if key is None
        else _long(rows, target, key, time, group, channels, missing)
    )
    if length is not None:
        found.values = [values[:, :length] for values in found.values]
    kind, targets, classes = _targets(found, target, task)
    groups = None
    if group is not None:
        numbers = {cell: number for number, cell in enumerate(dict.fromkeys(found.groups))}
        groups = torch.tensor([numbers[cell] for cell in found.groups])
    parts = split_by_fraction(targets, shares, split_seed, groups=groups)
    if scale and key is not None:
        steps = torch.cat([found.values[number] for number in parts["train"].tolist()], 1).T
        need_change(path, channels, steps, "put it into ignore")
    return sequence_data(
        found.values,
        targets,
        parts,
        task=kind,
        classes=classes,
        scale=scale,
        scale_targets=scale_targets,
        groups=groups,
    )


def sequence_data(
    values: Sequence[Tensor],
    targets: Tensor,
    parts: Mapping[str, Tensor],
    *,
    task: Task,
    classes: Sequence[str] = (),
    scale: bool = True,
    scale_targets: bool = True,
    groups: Tensor | None = None,
) -> Dataset:
    """Make a data set of sequences; whatever is fitted is fitted on the training part's steps alone.

    Args:
        values: of each sequence ``(channels, steps)``; shorter ones are filled with zeros, and all get a channel more,
            which is 1 where there is a step (`DataSpec.masked`).
        targets: ``(sequences,)`` int64 classes, also for binary, or float.
        parts: numbers of the sequences of each split.
        task: what is learned.
        classes: names of the classes.
        scale: whether to standardise each channel.
        scale_targets: whether to standardise the targets of a regression.
        groups: ``(sequences,)`` int64, numbers of what belongs together.
    """

    def again(numbers: Mapping[str, Tensor]) -> Dataset:
        together = torch.cat([parts[name] for name in ("train", "val") if name in parts])
        others = {name: part for name, part in parts.items() if name not in ("train", "val")}
        chosen = {name: together[number] for name, number in numbers.items()} | others
        return sequence_data(
            values,
            targets,
            chosen,
            task=task,
            classes=classes,
            scale=scale,
            scale_targets=scale_targets,
            groups=groups,
        )

    lengths = torch.tensor([one.shape[1] for one in values])
    channels, steps = values[0].shape[0], int(lengths.max())
    uneven = bool((lengths != steps).any())
    whole = torch.zeros(len(values), channels, steps, dtype=torch.float64)
    for place, one in enumerate(values):
        whole[place, :, : one.shape[1]] = one
    held = (torch.arange(steps) < lengths[:, None]).unsqueeze(1)
    known = fingerprint(
        {"inputs": whole, "lengths": lengths, "targets": targets}
        | {f"split {name}": part for name, part in parts.items()}
    )
    train = parts["train"]
    spec: dict[str, Any] = {}
    if scale and len(train):
        seen = torch.cat([values[number] for number in train.tolist()], 1).T
        steps_first, mean, std = scaled(whole.transpose(1, 2), seen)
        whole = steps_first.transpose(1, 2) * held
        mask = [0.0] * uneven, [1.0] * uneven
        spec |= {"input_mean": (*mean.tolist(), *mask[0]), "input_std": (*std.tolist(), *mask[1])}
    inputs = whole.float()
    if uneven:
        inputs = torch.cat((inputs, held.float()), 1)
    labels = targets
    if task == "regression":
        if scale_targets and len(train):
            labels, mean, std = scaled(targets, targets[train])
            spec |= {"target_mean": (float(mean),), "target_std": (float(std),)}
        labels = labels.float()
    else:
        spec["class_counts"] = tuple(torch.bincount(targets[train], minlength=len(classes)).tolist())
        labels = targets.float() if task == "binary" else targets
    return Dataset(
        DataSpec(
            input_shape=tuple(inputs.shape[1:]),
            task=task,
            outputs=len(classes) if task == "classification" else 1,
            classes=tuple(classes),
            sizes={name: len(part) for name, part in parts.items()},
            fingerprint=known,
            masked=uneven,
            **spec,
        ),
        {name: Split(inputs[part], labels[part]) for name, part in parts.items()},
        groups={} if groups is None else {name: groups[part] for name, part in parts.items()},
        recut=again,
    )


def _long(
    rows: TextTable,
    target: str,
    key: str,
    time: str | None,
    group: str | None,
    channels: Sequence[str],
    missing: Missing,
) -> Labelled:
    """One row for each step, one column for each channel."""
    sequences = in_order(rows, sequences_of(rows, key), time, [] if time is None else moments_of(rows, time))
    numbers = values_of(rows, sequences, channels, missing)
    found = Labelled([], [], [], [])
    for name, steps in sequences.items():
        found.values.append(numbers[steps].T)
        found.where.append(f"{rows.path}:{rows.lines[steps[0]]}")
        for column, kept in ((target, found.labels), (group, found.groups)):
            if column is None:
                continue
            cells = rows.column(column)
            for row in steps:
                if cells[row] != cells[steps[0]]:
                    raise DataError(
                        f"{rows.path}:{rows.lines[row]}: sequence '{name}' has {column} = {cells[row]} here and "
                        f"{cells[steps[0]]} in line {rows.lines[steps[0]]}; it has one for all its steps"
                    )
            kept.append(cells[steps[0]])
    return found


def _wide(rows: TextTable, target: str, group: str | None, steps: Sequence[str]) -> Labelled:
    """One row for each sequence, one column for each step; empty cells at the end make it shorter."""
    found = Labelled([], rows.column(target), [] if group is None else rows.column(group), [])
    places = [rows.columns.index(name) for name in steps]
    for cells, line in zip(rows.rows, rows.lines, strict=True):
        row = [cells[place] for place in places]
        while row and is_missing(row[-1]):
            row.pop()
        numbers = [number_of(cell) for cell in row]
        lacking = next((place for place, number in enumerate(numbers) if number is None), None)
        if lacking is not None:
            what = "has no value before the sequence's end" if is_missing(row[lacking]) else f"holds '{row[lacking]}'"
            raise DataError(f"{rows.path}:{line}: column '{steps[lacking]}' {what}; give a finite number")
        if not numbers:
            raise DataError(f"{rows.path}:{line}: the sequence has no step; leave the row out")
        found.values.append(torch.tensor([numbers], dtype=torch.float64))
        found.where.append(f"{rows.path}:{line}")
    return found


def _targets(found: Labelled, target: str, task: Task | Literal["auto"]) -> tuple[Task, Tensor, tuple[str, ...]]:
    for cell, where in zip(found.labels, found.where, strict=True):
        if is_missing(cell):
            raise DataError(f"{where}: the target '{target}' has no value; label the sequence, or leave it out")
    numbers = [number_of(cell) for cell in found.labels]
    known = [number for number in numbers if number is not None]
    worded = len(known) < len(numbers)
    if task == "auto":
        whole = not worded and all(number.is_integer() for number in known) and len(set(known)) <= _MOST_CLASSES
        task = "classification" if worded or whole else "regression"
    if task == "regression":
        if worded:
            place = next(place for place, number in enumerate(numbers) if number is None)
            raise DataError(
                f"{found.where[place]}: the target '{target}' holds '{found.labels[place]}'; a regression needs numbers"
            )
        return task, torch.tensor(known, dtype=torch.float64), ()
    # As numbers, 1 and 1.0 are one class: it has the name that comes first.
    keys: list[Any] = list(found.labels) if worded else known
    names = dict(zip(reversed(keys), reversed(found.labels), strict=True))
    order = sorted(names)
    if task == "binary" and len(order) != 2:
        raise DataError(f"{found.where[0]}: the target '{target}' has {len(order)} classes; binary needs two")
    places = {key: place for place, key in enumerate(order)}
    return task, torch.tensor([places[key] for key in keys]), tuple(names[key] for key in order)
