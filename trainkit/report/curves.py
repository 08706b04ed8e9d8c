"""The curves of a run's page: figures, schedules, gradients and weights, pace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trainkit.page import Block, Curves, Line, Section, Text
from trainkit.report.follow import Followed
from trainkit.report.summary import SPLITS, Summary
from trainkit.results import AXES, Result
from trainkit.thinned import Point, Thinned

USUAL_RATIO = 1e-3
Mark = tuple[str, float, str]
_NORMS = ("gradient_norm", "weight_norm", "update_ratio")
_HOW = (
    'Not recorded: [[callback]] use = "norms" records the norms of gradients and weights, use = "update_ratio" how '
    "large updates are beside the weights."
)


def figure_section(seen: Followed, summary: Summary) -> Section:
    """Loss and metrics, training beside validation, with the best evaluation and what the test gave."""
    blocks: list[Block] = []
    for row in summary.rows:
        lines = [
            line_of(split, seen.curves[name].points)
            for split in SPLITS[:2]
            if (name := f"{split}.{row.figure}") in seen.curves
        ]
        levels = [(row.last["test"], "test")] if "test" in row.last else []
        marks: list[Mark] = []
        if summary.best.get("metric") == f"val.{row.figure}" and isinstance(step := summary.best.get("step"), int):
            marks = marks_at(seen, step, "best")
        values = [value for line in lines for value in line.y]
        log = row.figure == "loss" and bool(values) and min(values) > 0 and max(values) > 20 * min(values)
        if lines:
            blocks.append(Curves(row.figure, lines, log=log, levels=levels, marks=marks))
    if not blocks:
        blocks.append(Text("Nothing has been measured yet.", "note"))
    return Section("Curves", blocks)


def schedule_section(result: Result, seen: Followed, events: Sequence[tuple[int, str]]) -> Section | None:
    """What was scheduled, as the updates were made with it, and what was decided on the way."""
    labels = _scheduled(result, seen)
    marks = [mark for at, kind in events[:20] for mark in marks_at(seen, at, kind.replace(":", " "))]
    blocks: list[Block] = []
    for kind, names in _by_kind(labels):
        lines = _different(seen, names)
        title = {"lr": "learning rate"}.get(kind, kind)
        blocks.append(Curves(f"{title}, in the last update before each line", lines, smooth=False, marks=marks))
    if events:
        told = "; ".join(f"update {at}: {kind.replace(':', ' ')}" for at, kind in events[:50])
        blocks.append(Text(f"Decided from figures: {told}", "note"))
    return Section("Schedules as run", blocks) if blocks else None


def norm_section(seen: Followed) -> Section:
    """Norms of gradients and weights, and how large updates are beside the weights, if callbacks recorded them."""
    blocks: list[Block] = []
    for prefix, title in (("gradient_norm", "gradient norm"), ("weight_norm", "weight norm")):
        names = [name for name in seen.curves if _plain(name).partition("/")[0].removesuffix("_used") == prefix]
        if names:
            blocks.append(
                Curves(title, [line_of(_plain(name), seen.curves[name].points) for name in sorted(names, key=_plain)])
            )
    ratios = sorted(name for name in seen.curves if _plain(name).partition("/")[0] == "update_ratio")
    if ratios:
        lines = [line_of(_plain(name), seen.curves[name].points) for name in ratios]
        blocks.append(
            Curves(
                *("size of an update beside the weights", lines),
                log=all(value > 0 for line in lines for value in line.y),
                levels=[(USUAL_RATIO, "1e-3: usual")],
            )
        )
        blocks.append(
            Text(
                "About 1e-3 is usual: far above it the learning rate may be too high, far below it too low, unless a "
                "schedule has brought it down."
            )
        )
    elif not blocks:
        blocks.append(Text(_HOW, "note"))
    return Section("Gradients and weights", blocks)


def other_section(result: Result, seen: Followed, summary: Summary) -> Section | None:
    """All that was logged and has no place elsewhere, such as what a plugin gives."""
    figures = {row.figure for row in summary.rows}
    shown = _scheduled(result, seen)
    names = [
        name
        for name in sorted(seen.curves)
        if name not in shown
        and name.partition(".")[2] not in figures
        and not _plain(name).startswith(_NORMS)
        and len(seen.curves[name].points) > 1
    ]
    blocks = [Curves(kind, _different(seen, own)) for kind, own in _by_kind(names)]
    return Section("Other figures", blocks[:40]) if blocks else None


def pace_block(seen: Followed, samples: int | None) -> Curves | None:
    """How fast updates were made."""
    points = seen.pace.points
    if len(points) < 2:
        return None
    unit = "updates a second"
    if samples is not None:
        points, unit = (
            [(*point[:-1], point[-1] * samples) for point in points],
            "samples a second, where batches are full",
        )
    return Curves("pace between two lines, evaluations left out", [line_of("pace", points)], unit=unit)


def marks_at(seen: Followed, step: int, text: str) -> list[Mark]:
    """Mark an update on every axis."""
    place = seen.place_of(step)
    return [(axis, at, text) for axis, at in zip(AXES, place, strict=True)] if place else [("step", float(step), text)]


def line_of(name: str, points: Sequence[Point]) -> Line:
    """A curve of a page from points ``(step, epoch, time, value)``."""
    columns = list(zip(*points, strict=True))
    axes = dict(zip(AXES, columns, strict=False))
    return Line(name, {axis: axes[axis] for axis in ("epoch", "step", "time")}, columns[-1])


def _plain(name: str) -> str:
    return name.removeprefix("train.")


def _scheduled(result: Result, seen: Followed) -> list[str]:
    """The names of curves that are scheduled values."""
    schedule = result.tables.get("schedule")
    also = schedule.get("also") if isinstance(schedule, Mapping) else None
    targets = [str(part.get("target")) for part in also if isinstance(part, Mapping)] if isinstance(also, list) else []
    kinds = {"lr", *targets}
    return [name for name in seen.curves if name.startswith("lr/") or _plain(name).partition("/")[0] in kinds]


def _by_kind(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Names of several groups by what they have in common."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(_plain(name).rpartition("/")[0] or _plain(name), []).append(name)
    yield from kinds.items()


def _different(seen: Followed, names: Sequence[str]) -> list[Line]:
    """The curves of these names; those that are the same are one."""
    drawn: dict[tuple[Point, ...], list[str]] = {}
    curves: Mapping[str, Thinned] = seen.curves
    for name in names:
        drawn.setdefault(tuple(curves[name].points), []).append(_plain(name))
    return [line_of(_joined(same), points) for points, same in drawn.items()]


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
