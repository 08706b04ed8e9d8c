"""What a run has come to, in figures: for the terminal and for the head of its page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainkit.report.follow import Followed
from trainkit.report.state import status_of
from trainkit.results import Result

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Row:
    """One figure of a run.

    Args:
        figure: its name, such as ``accuracy``.
        last: by split its newest value.
        best: its best value on validation samples; ``None`` where which way is good is not known.
        best_step: the update of that.
        gap: how much worse the newest value is on validation samples than on training samples.
    """

    figure: str
    last: Mapping[str, float]
    best: float | None = None
    best_step: int | None = None
    gap: float | None = None


@dataclass(frozen=True)
class Summary:
    """A run in figures.

    Args:
        status: ``finished``, ``stopped``, ``interrupted``, ``failed`` or ``running``.
        reason: why, in words.
        updates: updates made.
        epochs: epochs trained.
        seconds: wall time.
        rows: its figures, loss first.
        best: ``step``, ``metric`` and ``value`` of the best evaluation of ``run.monitor``, if there was one.
        best_seconds: how long the run took to come to it.
        pace: updates a second while updates were made.
        samples: samples a second, where every update has as many.
        times: seconds by what they were spent on.
    """

    status: str
    reason: str
    updates: int
    epochs: float
    seconds: float
    rows: list[Row]
    best: Mapping[str, Any]
    best_seconds: float | None
    pace: float | None
    samples: float | None
    times: Mapping[str, float]


def summarise(result: Result, seen: Followed, higher: Mapping[str, bool]) -> Summary:
    """What a run has come to so far.

    Args:
        result: the run.
        seen: its lines.
        higher: by the name of a metric whether a higher figure is a better one.
    """
    report = result.report
    status, reason = status_of(result.folder, report)
    step, epoch, seconds = seen.place
    updates = int(_number(report.get("steps"), step))
    seconds = _number(report.get("seconds"), seconds)
    best = report.get("best")
    best = best if isinstance(best, dict) and isinstance(best.get("metric"), str) else {}
    at = best.get("step")
    place = seen.place_of(at) if isinstance(at, int) else ()
    pace = step / seen.updating if seen.updating > 0 and step > 0 and not seen.mixed else None
    size = samples_per_update(result)
    return Summary(
        *(status, reason, updates, _number(report.get("epochs"), epoch), seconds),
        [_row(name, seen, higher) for name in _figures(result, seen)],
        *(best, place[2] if place else None),
        *(pace, pace * size if pace and size else None),
        _times(seen, seconds),
    )


def samples_per_update(result: Result) -> int | None:
    """Samples in every update; ``None`` where a schedule sets it, or the recipe is none that a run wrote."""
    data, run = result.tables.get("data"), result.tables.get("run")
    schedule = result.tables.get("schedule")
    also = schedule.get("also") if isinstance(schedule, Mapping) else None
    targets = [part.get("target") for part in also if isinstance(part, Mapping)] if isinstance(also, list) else []
    if not isinstance(data, Mapping) or not isinstance(run, Mapping) or "data.batch_size" in targets:
        return None
    size, accumulate = data.get("batch_size"), run.get("accumulate", 1)
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (size, accumulate))
    return size * accumulate if whole and size and accumulate else None


def _figures(result: Result, seen: Followed) -> list[str]:
    """The names of what was measured on samples: loss and metrics."""
    names = [name.partition(".") for name in seen.curves if "/" not in name]
    metrics = metric_names(result)
    measured = {figure for split, _, figure in names if split in ("val", "test")}
    trained = {
        figure for split, _, figure in names if split == "train" and (figure == "loss" or _is_of(figure, metrics))
    }
    known = ["loss", *metrics]
    return sorted(
        measured | trained,
        key=lambda name: (next((i for i, one in enumerate(known) if name.startswith(one)), len(known)), name),
    )


def metric_names(result: Result) -> list[str]:
    """The metrics that the recipe names."""
    tables = result.tables.get("metric")
    tables = tables if isinstance(tables, list) else []
    return [str(table["use"]).rpartition(":")[2] for table in tables if isinstance(table, Mapping) and "use" in table]


def _is_of(figure: str, metrics: list[str]) -> bool:
    """Whether a figure is a metric's: of several settings, or of several numbers, names go on after the metric's."""
    return any(figure == name or figure.startswith((f"{name}.", f"{name}_")) for name in metrics)


def is_better_higher(figure: str, higher: Mapping[str, bool]) -> bool | None:
    """Whether a higher value of a figure is better; ``None`` where it is not known."""
    if figure == "loss":
        return False
    if figure.endswith("_std"):  # the spread of a figure is no better for being like it
        return None
    return next((way for name, way in higher.items() if _is_of(figure, [name])), None)


def _row(figure: str, seen: Followed, higher: Mapping[str, bool]) -> Row:
    last = {split: seen.last[name][0] for split in SPLITS if (name := f"{split}.{figure}") in seen.last}
    way = is_better_higher(figure, higher)
    best: tuple[float | None, int | None] = (None, None)
    if way is not None and f"val.{figure}" in seen.last:
        best = (seen.highest if way else seen.lowest)[f"val.{figure}"]
    gap = None
    if way is not None and "train" in last and "val" in last:
        gap = last["train"] - last["val"] if way else last["val"] - last["train"]
    return Row(figure, last, *best, gap)


def _times(seen: Followed, seconds: float) -> dict[str, float]:
    """Where the time went, as the lines tell: each is written when what it tells of is over."""
    times = {"updates": seen.updating}
    times |= {f"evaluation of {split}": spent for split, spent in sorted(seen.measuring.items())}
    if seen.mixed:
        times["updates and evaluations"] = seen.mixed
    if (rest := seconds - sum(times.values())) > 0.001 * seconds:
        times["after the last line"] = rest
    return {name: spent for name, spent in times.items() if spent > 0}


def _number(value: Any, instead: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float(instead)


def short_name(result: Result) -> str:
    """The name of a run's folder; of a trial's, with that of its study."""
    path = os.path.abspath(result.folder)
    study, _, trial = path.rpartition(f"{os.sep}trials{os.sep}")
    return f"{os.path.basename(study)}, trial {trial}" if study else os.path.basename(path)
