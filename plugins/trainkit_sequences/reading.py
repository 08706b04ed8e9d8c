"""Reading tables of text; each message names file, line and column."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from datetime import datetime
from datetime import time as clock
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainkit import DataError, TextTable, is_missing

Missing = Literal["error", "last"]


def need_columns(rows: TextTable, names: Sequence[str]) -> None:
    """Check that there are all these columns.

    Raises:
        DataError: naming the first that lacks, and those there are.
    """
    for name in names:
        if name not in rows.columns:
            shown = ", ".join(rows.columns[:20]) + ", ..." * (len(rows.columns) > 20)
            raise DataError(f"{rows.path}: there is no column '{name}'; it has: {shown}")


def number_of(cell: str) -> float | None:
    """The finite number that a cell holds."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def sequences_of(rows: TextTable, key: str | None) -> dict[str, list[int]]:
    """Row numbers of each sequence, in the file's order; one sequence of all where no column names them.

    Raises:
        DataError: naming a row that belongs to none.
    """
    if key is None:
        return {"": list(range(len(rows.rows)))}
    found: dict[str, list[int]] = {}
    for row, cell in enumerate(rows.column(key)):
        if is_missing(cell):
            raise DataError(f"{rows.path}:{rows.lines[row]}: column '{key}' has no value, and it names the sequence")
        found.setdefault(cell, []).append(row)
    return found


def moments_of(rows: TextTable, time: str) -> list[int]:
    """The number of each row's moment, counted from 0 in order of time; rows of one moment have one number.

    Raises:
        DataError: naming a row without a moment, or with one that cannot be put in order.
    """
    cells = rows.column(time)
    for row, cell in enumerate(cells):
        if is_missing(cell):
            raise DataError(f"{rows.path}:{rows.lines[row]}: column '{time}' has no value, and it says when")
    keys: list[Any] = []
    for moment in (_count, _date, clock.fromisoformat):
        try:
            keys = [moment(cell) for cell in cells]
            places = {key: place for place, key in enumerate(sorted(set(keys)))}
        except (ValueError, TypeError):  # no such moment; some with a time zone, and some without
            continue
        return [places[key] for key in keys]
    row = next((row for row, cell in enumerate(cells) if not _is_like(cell, cells[0])), 0)
    beside = f", and line {rows.lines[0]} '{cells[0]}'" if row else ""
    raise DataError(
        f"{rows.path}:{rows.lines[row]}: column '{time}' holds '{cells[row]}'{beside}, which cannot be put in order; "
        "give numbers everywhere, or dates such as 2024-01-31 or 2024-01-31 12:30"
    )


def _count(cell: str) -> int | float:
    """A finite number; whole ones exactly, since nanoseconds of an epoch are more than a float can tell apart."""
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return int(cell) if cell.lstrip("+-").isdecimal() else number


def _date(cell: str) -> datetime:
    return datetime.fromisoformat(f"{cell}-01" if re.fullmatch(r"\d{4}-\d\d", cell) else cell)


def _is_like(cell: str, first: str) -> bool:
    """Whether two cells are moments of one kind."""
    for moment in (_count, _date, clock.fromisoformat):
        try:
            return bool(sorted((moment(first), moment(cell))))
        except (ValueError, TypeError):
            continue
    return False


def in_order(
    rows: TextTable, sequences: dict[str, list[int]], time: str | None, moments: Sequence[int]
) -> dict[str, list[int]]:
    """Each sequence's rows in order of time, each moment once.

    Args:
        rows: the file's.
        sequences: row numbers of each.
        time: the column that says when; ``None`` leaves them in the file's order.
        moments: what `moments_of` says of that column.

    Raises:
        DataError: naming a row with the moment of another one.
    """
    if time is None:
        return sequences
    cells = rows.column(time)
    found = {}
    for name, places in sequences.items():
        order = sorted(places, key=moments.__getitem__)
        for before, after in itertools.pairwise(order):
            if moments[before] == moments[after]:
                of = f" of sequence '{name}'" if name else ""
                raise DataError(
                    f"{rows.path}:{rows.lines[after]}: a second row{of} with {time} = {cells[after]}, after line "
                    f"{rows.lines[before]}; leave one out"
                )
        found[name] = order
    return found


def values_of(rows: TextTable, sequences: dict[str, list[int]], columns: Sequence[str], missing: Missing) -> Tensor:
    """Numbers of some columns, ``(rows, columns)`` float64; a missing one is that of the step before, where wished.

    Raises:
        DataError: naming a cell that holds no number.
    """
    values = torch.empty(len(rows.rows), len(columns), dtype=torch.float64)
    for place, column in enumerate(columns):
        cells = rows.column(column)
        for steps in sequences.values():
            before: float | None = None
            for row in steps:
                number = number_of(cells[row])
                if number is None:
                    number = before if missing == "last" and is_missing(cells[row]) else None
                if number is None:
                    raise DataError(f"{rows.path}:{rows.lines[row]}: column '{column}' {_lack(cells[row], missing)}")
                values[row, place] = before = number
    return values


def _lack(cell: str, missing: Missing) -> str:
    if not is_missing(cell):
        return f"holds '{cell}', which is no finite number; ignore the column, or mend the cell"
    if missing == "error":
        return 'has no value; fill it in, or write missing = "last" for the value of the step before'
    return "has no value, and no step before has one; fill in the first one"


def need_change(path: Path, columns: Sequence[str], values: Tensor, cure: str) -> None:
    """Refuse columns of ``(steps, columns)`` that tell nothing.

    Raises:
        DataError: naming the first column that has one value throughout.
    """
    for place, column in enumerate(columns):
        if len(values) and bool((values[:, place] == values[0, place]).all()):
            raise DataError(
                f"{path}: column '{column}' is {values[0, place].item():g} at every step that trains, which tells "
                f"nothing; {cure}"
            )


def scaled(values: Tensor, train: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Standardise in float64: float32 holds 7 digits, and of a series that moves little far from 0 these are all alike.

    Args:
        values: ``(..., channels)``, or ``(samples,)`` of one channel.
        train: ``(steps, channels)`` or ``(steps,)`` that mean and deviation are taken of.

    Returns:
        The values, float64; the mean and the standard deviation of each channel, float64.
    """
    train = train.double()
    mean, std = train.mean(0), train.std(0, correction=0)
    std = torch.where(std <= 1e-12 * mean.abs(), 1.0, std)  # a constant channel is shifted and not divided
    return (values - mean) / std, mean, std
