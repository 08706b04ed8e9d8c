"""From tables of text to a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from trainkit import DataError, Dataset, TextTable, is_missing, read_text_table, split_by_fraction
from trainkit_data.table_file import (
    Missing,
    check_constants,
    choose_columns,
    encode_inputs,
    first_word,
    is_class_column,
    need_columns,
    numbers,
    settle_missing,
)
from trainkit_data.tabular import fractions, recut, scaled, tabular

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["classification", "binary", "regression"]


def load_table(
    paths: Mapping[str, Path],
    *,
    target: Sequence[str],
    task: Task | Literal["auto"],
    categorical: Sequence[str],
    embed: bool = False,
    ignore: Sequence[str],
    missing: Missing,
    shares: Mapping[str, float],
    split_seed: int,
    standardise: bool,
    standardise_targets: bool,
    delimiter: str,
    group: str | None = None,
) -> Dataset:
    """Read one file for each split given, take the other splits out of the first; see `trainkit_data.files.csv`."""
    read = {name: read_text_table(path, delimiter) for name, path in paths.items()}
    if len(set(target)) < len(target):
        raise DataError(f"a target is named twice: {', '.join(target)}")
    if group is not None and group in (*target, *categorical):
        raise DataError(f"'{group}' is the column of groups, which cannot be the target or an input too")
    columns = choose_columns(read["train"], target, (*ignore, *([group] if group is not None else [])), categorical)
    for table in read.values():
        need_columns(table, (*columns, *target, *([group] if group is not None else [])))
    tables = {name: settle_missing(table, columns, target, missing) for name, table in read.items()}
    task, targets, classes = encode_targets(tables, target, task)
    check_constants(tables["train"], columns, target if task == "regression" else ())
    wanted = fractions(**{name: 0.0 if name in paths else share for name, share in shares.items()})
    groups = None if group is None else encode_groups(tables, group)
    own = None if groups is None else groups[: len(targets["train"])]
    parts = split_by_fraction(targets["train"], wanted, split_seed, groups=own)
    first = len(targets["train"])
    for name, table in tables.items():
        if name != "train":
            parts[name] = torch.arange(first, first + len(table.rows))
            first += len(table.rows)

    def make(parts: Mapping[str, Tensor]) -> Dataset:
        everything, plain, categories = encode_inputs(tables, columns, categorical, parts["train"].tolist(), embed)
        mean: tuple[float, ...] = ()
        std: tuple[float, ...] = ()
        if standardise and plain:
            # Zeros and ones of words, and words' numbers, stay what they are.
            everything[:, :plain], mean, std = scaled(everything[:, :plain], parts["train"])
            words = everything.shape[1] - plain
            mean, std = (*mean, *[0.0] * words), (*std, *[1.0] * words)
        made = tabular(
            everything,
            torch.cat(list(targets.values())),
            task=task,
            parts=parts,
            classes=classes,
            scale_inputs=False,
            scale_targets=standardise_targets,
            groups=groups,
        )
        names = tuple(target) if task == "regression" else ()
        spec = dataclasses.replace(made.spec, input_mean=mean, input_std=std, targets=names, categories=categories)
        return dataclasses.replace(made, spec=spec, recut=lambda numbers: make(recut(parts, numbers)))

    return make(parts)


def encode_groups(tables: Mapping[str, TextTable], group: str) -> Tensor:
    """A number for each value of the column of groups, the same in all tables: ``(rows of all tables,)`` int64.

    Raises:
        DataError: naming a row that belongs to no group.
    """
    known: dict[str, int] = {}
    numbers: list[int] = []
    for table in tables.values():
        for cell, line in zip(table.column(group), table.lines, strict=True):
            if is_missing(cell):
                raise DataError(f"{table.path}:{line}: column '{group}' has no value, and it says what keeps together")
            numbers.append(known.setdefault(cell, len(known)))
    return torch.tensor(numbers)


def encode_targets(
    tables: Mapping[str, TextTable], named: Sequence[str], task: Task | Literal["auto"]
) -> tuple[Task, dict[str, Tensor], tuple[str, ...]]:
    """Targets of each table, and the classes' names; ``(rows, targets)`` of a regression of several.

    Raises:
        DataError: if they do not suit the task; the message names the row.
    """
    target, *more = named
    if more:
        if task not in ("auto", "regression"):
            raise DataError(f"several targets ({', '.join(named)}) are those of a regression, and the task is {task}")
        each = [encode_targets(tables, [name], "regression")[1] for name in named]
        return "regression", {name: torch.stack([one[name] for one in each], 1) for name in tables}, ()
    read = {name: numbers(table, target) for name, table in tables.items()}
    if task == "auto":
        task = "classification" if is_class_column(read["train"]) else "regression"
    if task == "regression":
        found = {}
        for name, values in read.items():
            if values is None:
                word, line = first_word(tables[name], target) or ("", 0)
                raise DataError(
                    f"{tables[name].path}:{line}: the target '{target}' holds '{word}'; a regression needs numbers"
                )
            found[name] = torch.tensor(values, dtype=torch.float64)
        return task, found, ()
    cells = {name: table.column(target) for name, table in tables.items()}
    known = set(cells["train"])
    if task == "classification" and len(known) == len(cells["train"]) > 2:
        cure = 'set task = "regression"' if read["train"] is not None else "name the column of the classes"
        raise DataError(f"{tables['train'].path}: the target '{target}' has another value in every row; {cure}")
    order = float if read["train"] is not None else str
    classes = tuple(sorted(known, key=order))
    if task == "binary" and len(classes) != 2:
        raise DataError(f"{tables['train'].path}: the target '{target}' has {len(classes)} classes; binary needs two")
    places = {word: place for place, word in enumerate(classes)}
    for name, words in cells.items():
        for word, line in zip(words, tables[name].lines, strict=True):
            if word not in places:
                raise DataError(f"{tables[name].path}:{line}: class '{word}' is not among the training rows")
    return task, {name: torch.tensor([places[word] for word in words]) for name, words in cells.items()}, classes
