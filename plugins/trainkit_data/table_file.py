"""Reading tables of text: columns become numbers, each message names the row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from trainkit import DataError, TextTable, is_missing

if TYPE_CHECKING:
    from torch import Tensor

Missing = Literal["error", "mean", "drop"]
# More different words than this in a column that nobody called categorical are names or remarks.
_MOST_WORDS = 100
# Whole numbers with at most so many different values are taken for classes.
_MOST_CLASSES = 20


def choose_columns(
    table: TextTable, target: Sequence[str], ignore: Sequence[str], categorical: Sequence[str]
) -> list[str]:
    """The columns that are inputs: all but the targets and those to ignore.

    Raises:
        DataError: if a named column is not there or is a target, or none is left.
    """
    need_columns(table, (*target, *ignore, *categorical))
    for setting, names in (("ignore", ignore), ("categorical", categorical)):
        if both := next((name for name in names if name in target), None):
            raise DataError(f"'{both}' is a target, and {setting} is of inputs; take it out of {setting}")
    chosen = [name for name in table.columns if name not in target and name not in ignore]
    if not chosen:
        named = " and ".join(f"'{name}'" for name in target)
        raise DataError(f"{table.path} has no column left for inputs beside the target {named}")
    return chosen


def check_constants(table: TextTable, columns: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse columns that hold the same value in every row: nothing can be learned from them, nor of them.

    Raises:
        DataError: naming all of them.
    """
    if len(table.rows) < 2:
        return
    held = {name: _values(table.column(name)) for name in (*columns, *targets)}
    same = {name: next(iter(values)) for name, values in held.items() if len(values) == 1}
    for name, value in same.items():
        if name in targets:
            raise DataError(f"{table.path}: the target '{name}' is {value} in every row; there is nothing to predict")
    if same:
        shown = ", ".join(f"'{name}' ({value or 'nothing'})" for name, value in same.items())
        what = "column holds" if len(same) == 1 else "columns hold"
        cure = ", ".join(f'"{name}"' for name in same)
        raise DataError(f"{table.path}: {what} the same value in every row: {shown}; set ignore = [{cure}]")


def _values(cells: Sequence[str]) -> set[str]:
    """The different values of a column, one cell of each; missing ones, which are filled with the others, are none."""
    found = {cell for cell in cells if not is_missing(cell)} or {""}
    try:
        return set({float(cell): cell for cell in sorted(found)}.values())
    except ValueError:
        return found


def need_columns(table: TextTable, names: Sequence[str]) -> None:
    """Check that a table has all these columns.

    Raises:
        DataError: naming the first one that it lacks.
    """
    for name in names:
        if name not in table.columns:
            shown = ", ".join(f"'{column}'" for column in table.columns)
            raise DataError(f"{table.path}:1: no column named '{name}'; it has: {shown}")


def settle_missing(table: TextTable, inputs: Sequence[str], targets: Sequence[str], missing: Missing) -> TextTable:
    """Refuse or drop rows with missing values, as asked; those to be filled stay.

    Raises:
        DataError: naming the first row and column, if a missing value may not stay.
    """
    watched = [(table.columns.index(name), name) for name in (*inputs, *targets)]
    kept = TextTable(table.path, table.columns, [], [])
    for row, line in zip(table.rows, table.lines, strict=True):
        holes = [name for place, name in watched if is_missing(row[place])]
        if holes and missing == "drop":
            continue
        if holes and (missing == "error" or holes[-1] in targets):
            cure = 'missing = "drop"' if missing == "mean" or holes[-1] in targets else 'missing = "mean" or "drop"'
            raise DataError(f"{table.path}:{line}: column '{holes[-1]}' has no value; set {cure}, or fill it in")
        kept.rows.append(row)
        kept.lines.append(line)
    if not kept.rows:
        raise DataError(f"{table.path}: every row has a missing value, so dropping them leaves nothing")
    return kept


def numbers(table: TextTable, name: str) -> list[float] | None:
    """A column as numbers, NaN where a value is missing; ``None`` if it holds words.

    Raises:
        DataError: naming the row, if a number is infinite.
    """
    values = []
    for cell, line in zip(table.column(name), table.lines, strict=True):
        if is_missing(cell):
            values.append(math.nan)
            continue
        try:
            values.append(float(cell))
        except ValueError:
            return None
        if math.isinf(values[-1]):
            raise DataError(f"{table.path}:{line}: column '{name}' holds {cell}; use a finite number")
    return values


def first_word(table: TextTable, name: str) -> tuple[str, int] | None:
    """The first cell of a column that is neither a number nor missing, and its row's line; ``None`` without any."""
    for cell, line in zip(table.column(name), table.lines, strict=True):
        try:
            float("nan" if is_missing(cell) else cell)
        except ValueError:
            return cell, line
    return None


def is_class_column(values: Sequence[float] | None) -> bool:
    """Whether a target column names classes: words, or few different whole numbers."""
    if values is None:
        return True
    return all(value == int(value) for value in values) and len(set(values)) <= _MOST_CLASSES


def encode_inputs(
    tables: Mapping[str, TextTable],
    columns: Sequence[str],
    categorical: Sequence[str],
    train: Sequence[int],
    embed: bool = False,
) -> tuple[Tensor, int, tuple[int, ...]]:
    """Make inputs of tables: numbers first, then one column for each word of each categorical column.

    Means, most frequent words and the words themselves are taken from the training rows; a word that is not among
    them becomes zeros.

    Args:
        tables: one table for each file; ``train`` first.
        columns: the input columns.
        categorical: those to take as words even where they are numbers.
        train: rows that are trained on, counted through all tables.
        embed: whether a categorical column stays one, of the words' numbers from 1 on; 0 is a word that is not known.

    Returns:
        Inputs ``(rows of all tables, features)`` float64; how many features are numbers; and with ``embed``, where
        there are columns of words, how many categories each feature has, as in `trainkit.DataSpec`.

    Raises:
        DataError: if a column cannot be used; the message names it.
    """
    numeric: list[Tensor] = []
    worded: list[Tensor] = []
    categories: list[int] = []
    for column in columns:
        read = [None if column in categorical else numbers(table, column) for table in tables.values()]
        if all(values is not None for values in read):
            whole = torch.tensor([value for values in read for value in values or ()], dtype=torch.float64)
            mean = whole[list(train)].nanmean()
            if mean.isnan():
                raise DataError(
                    f"{tables['train'].path}: column '{column}' has no value in any training row; ignore it"
                )
            numeric.append(torch.where(whole.isnan(), mean, whole)[:, None])
            continue
        cells = [cell for table in tables.values() for cell in table.column(column)]
        words = _words(tables, cells, column, column in categorical, train)
        places = [words.get(words_of(cell, words), len(words)) for cell in cells]
        if embed:
            known = torch.tensor(places, dtype=torch.float64)[:, None] + 1
            worded.append(torch.where(known > len(words), 0.0, known))
            categories.append(len(words) + 1)
        else:
            worded.append(torch.eye(len(words) + 1, len(words), dtype=torch.float64)[places])
    return torch.cat(numeric + worded, 1), len(numeric), (0,) * len(numeric) + tuple(categories) if categories else ()


def words_of(cell: str, words: Mapping[str, int]) -> str:
    """The word a cell stands for: the most frequent one, which comes first in ``words``, where it is missing."""
    return next(iter(words)) if is_missing(cell) and words else cell


def _words(
    tables: Mapping[str, TextTable], cells: Sequence[str], column: str, declared: bool, train: Sequence[int]
) -> dict[str, int]:
    path = tables["train"].path
    seen = Counter(cells[row] for row in train if not is_missing(cells[row]))
    if not seen:
        raise DataError(f"{path}: column '{column}' has no value in any training row; ignore it")
    if len(seen) > _MOST_WORDS and not declared:
        table = next(table for table in tables.values() if first_word(table, column) is not None)
        word, line = first_word(table, column) or ("", 0)
        raise DataError(
            f"{table.path}:{line}: column '{column}' holds '{word}', no number, and {len(seen)} different words in "
            "all; put it into ignore, or into categorical if each word is to be an input"
        )
    places = {word: place for place, word in enumerate(sorted(seen))}
    most = max(sorted(seen), key=lambda word: seen[word])
    return {most: places[most], **places}
