"""Time series as windows: what a model sees, and the steps after it that it is to forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainkit import DataError, Dataset, DataSpec, Gatherable, Split, fingerprint, read_text_table
from trainkit_sequences.reading import (
    Missing,
    in_order,
    moments_of,
    need_change,
    need_columns,
    scaled,
    sequences_of,
    values_of,
)

# Windows of more numbers than this are made as batches ask for them.
_HELD = 1 << 26


@dataclass(frozen=True)
class Shape:
    """How windows are cut.

    Args:
        context: steps that a model sees.
        horizon: steps after them that it forecasts.
        stride: steps from one window to the next.
        season: steps after which a series repeats itself, for what is said without a model.
    """

    context: int
    horizon: int
    stride: int
    season: int


@dataclass(frozen=True)
class Course:
    """Series one after the other.

    Args:
        values: ``(steps of all, channels)`` float64, targets first.
        targets: how many of the channels are to be forecast.
        clock: ``(steps of all,)`` int64, the moment of each step; moments are counted from 0.
        lengths: steps of each series.
        names: of the channels.
        where: what messages call it.
    """

    values: Tensor
    targets: int
    clock: Tensor
    lengths: tuple[int, ...]
    names: tuple[str, ...]
    where: Path | str


class Windows:
    """Windows of a course that are cut as they are asked for.

    Args:
        values: ``(steps, channels)`` float32.
        begins: ``(windows,)`` int64, each one's first step.
        length: steps of a window.
    """

    def __init__(self, values: Tensor, begins: Tensor, length: int) -> None:
        self.values = values
        self.begins = begins
        self.length = length

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Windows of these numbers, ``(batch, channels, length)``."""
        steps = self.begins.index_select(0, index)[:, None] + torch.arange(self.length)
        return self.values[steps].transpose(1, 2).contiguous()


def read_course(
    path: Path,
    *,
    targets: Sequence[str],
    inputs: Sequence[str],
    key: str | None,
    time: str | None,
    missing: Missing,
    delimiter: str,
) -> Course:
    """Read series of a file.

    Raises:
        DataError: naming file, line and column of what cannot be used.
    """
    rows = read_text_table(path, delimiter)
    names = (*targets, *inputs)
    also = [name for name in (key, time) if name is not None]
    need_columns(rows, [*names, *also])
    if not targets:
        raise DataError(f"{path}: targets names no column to forecast; it has: {', '.join(rows.columns)}")
    if len({*names, *also}) < len(names) + len(also):
        raise DataError(
            f"{path}: targets, inputs, id and time are columns of their own, got {', '.join((*names, *also))}"
        )
    moments = [] if time is None else moments_of(rows, time)
    sequences = in_order(rows, sequences_of(rows, key), time, moments)
    values = values_of(rows, sequences, names, missing)
    order = [row for steps in sequences.values() for row in steps]
    if time is None:
        clock = torch.cat([torch.arange(len(steps)) for steps in sequences.values()])
    else:
        clock = torch.tensor([moments[row] for row in order])
    return Course(values[order], len(targets), clock, tuple(map(len, sequences.values())), names, path)


def series_data(course: Course, shape: Shape, *, val: float, test: float, scale: bool) -> Dataset:
    """Windows of a course: the last ones are the test, those before them validate; no target is in two splits.

    Raises:
        DataError: if there are too few steps.
    """
    if val + test >= 1:
        raise DataError(f"val = {val:g} and test = {test:g} leave nothing for training; make their sum less than 1")
    begins = _begins(course, shape)
    span = shape.context + shape.horizon
    moments = torch.stack((course.clock[begins + shape.context], course.clock[begins + span - 1]), 1)
    total = int(course.clock.max()) + 1
    tested = total - round(test * total)
    validated = tested - round(val * total)
    first, last = moments.unbind(1)
    parts = {"train": last < validated, "val": (first >= validated) & (last < tested), "test": first >= tested}
    chosen = {name: part.nonzero().squeeze(1) for name, part in parts.items()}
    if not len(chosen["train"]):
        raise DataError(
            f"{course.where}: {total} steps leave {validated} for training, which hold no window of context = "
            f"{shape.context} and horizon = {shape.horizon}; give shorter ones, or more steps"
        )
    for name, share in (("val", val), ("test", test)):
        if not share:
            del chosen[name]
        elif not len(chosen[name]):
            steps = round(share * total)
            raise DataError(
                f"{course.where}: {name} = {share:g} is {steps} of {total} steps, which hold no window of horizon = "
                f"{shape.horizon}; set {name} = 0, or to {min(1.0, (shape.horizon + 0.5) / total):.2g} at least"
            )
    if scale:
        cure = "leave it out, or cut the series where it begins to move"
        need_change(
            Path(course.where), course.names, course.values[_covered(course, begins[chosen["train"]], span)], cure
        )
    return _cut(course, shape, begins, moments, chosen, scale)


def naive_errors(course: Course, steps: Tensor, season: int) -> tuple[float, ...]:
    """Mean absolute error of a value one season before, of each target, over the steps that ``steps`` marks.

    Raises:
        DataError: if no step has one a season before it.

    Source: Hyndman & Koehler 2006, "Another look at measures of forecast accuracy", section 3.
    """
    pairs = torch.zeros(len(course.values), dtype=torch.bool)
    begin = 0
    for length in course.lengths:
        inside = steps[begin : begin + length]
        pairs[begin + season : begin + length] = inside[season:] & inside[: max(0, length - season)]
        begin += length
    found = pairs.nonzero().squeeze(1)
    if not len(found):
        raise DataError(
            f"{course.where}: season = {season}, but training has {int(steps.sum())} steps, none of which has one a "
            "season before it; write a shorter season"
        )
    apart = course.values[found] - course.values[found - season]
    return tuple(apart[:, : course.targets].abs().mean(0).tolist())


def _begins(course: Course, shape: Shape) -> Tensor:
    """The first step of each window; none reaches from one series into the next."""
    span, begin, found = shape.context + shape.horizon, 0, []
    for length in course.lengths:
        # The last window ends with the series; the first is where counting back from there ends.
        over = (length - span) % shape.stride if length >= span else 0
        found.append(begin + torch.arange(over, max(over, length - span + 1), shape.stride))
        begin += length
    begins = torch.cat(found)
    if not len(begins):
        raise DataError(
            f"{course.where}: the longest series has {max(course.lengths)} steps, fewer than context = {shape.context} "
            f"and horizon = {shape.horizon} together; give shorter ones, or more steps"
        )
    return begins


def _covered(course: Course, begins: Tensor, span: int) -> Tensor:
    """Which steps some windows hold, ``(steps of all,)`` bool."""
    edges = np.zeros(len(course.values) + 1, dtype=np.int64)
    np.add.at(edges, begins.numpy(), 1)
    np.add.at(edges, begins.numpy() + span, -1)
    return torch.from_numpy(edges.cumsum()[:-1] > 0)


def _cut(
    course: Course, shape: Shape, begins: Tensor, moments: Tensor, parts: Mapping[str, Tensor], scale: bool
) -> Dataset:
    def again(numbers: Mapping[str, Tensor]) -> Dataset:
        together = torch.cat([parts[name] for name in ("train", "val") if name in parts])
        others = {name: part for name, part in parts.items() if name not in ("train", "val")}
        chosen = {name: together[number] for name, number in numbers.items()} | others
        return _cut(course, shape, begins, moments, chosen, scale)

    span = shape.context + shape.horizon
    covered = _covered(course, begins[parts["train"]], span)
    values, spec = course.values, dict[str, Any]()
    if scale:
        values, mean, std = scaled(values, values[covered])
        spec = {"input_mean": tuple(mean.tolist()), "input_std": tuple(std.tolist())}
        for name, numbers in (("target_mean", spec["input_mean"]), ("target_std", spec["input_std"])):
            spec[name] = tuple(number for number in numbers[: course.targets] for _ in range(shape.horizon))
    values = values.float()
    naive = naive_errors(course, covered, shape.season)
    ahead = values[:, : course.targets]
    arrays = {"values": course.values, "clock": course.clock, "lengths": torch.tensor(course.lengths)}
    known = fingerprint(arrays | {f"split {name}": begins[part] for name, part in parts.items()})
    splits = {}
    for name, part in parts.items():
        seen = Windows(values, begins[part], shape.context)
        inputs: Gatherable = seen
        if len(part) * shape.context * values.shape[1] <= _HELD:
            inputs = seen[torch.arange(len(part))]
        targets = Windows(ahead, begins[part] + shape.context, shape.horizon)[torch.arange(len(part))].flatten(1)
        splits[name] = Split(inputs, targets.squeeze(1) if targets.shape[1] == 1 else targets)
    return Dataset(
        DataSpec(
            input_shape=(values.shape[1], shape.context),
            task="regression",
            outputs=course.targets * shape.horizon,
            sizes={name: len(part) for name, part in parts.items()},
            fingerprint=known,
            naive_error=tuple(error for error in naive for _ in range(shape.horizon)),
            **spec,
        ),
        splits,
        moments={name: moments[part] for name, part in parts.items()},
        recut=again,
    )
