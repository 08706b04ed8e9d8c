"""Every scheduled value of a recipe before it is trained: at key times, as a picture's points, and what looks wrong."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainkit.build import prepare
from trainkit.clock import Clock, Span
from trainkit.component import Component
from trainkit.errors import UsageError
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe
from trainkit.run import Run, ScheduledValue
from trainkit.scheduled import values_at

KEY_TIMES = 10  # parts into which the run is cut for the table
PLOT_POINTS = 2000
JUMP = 0.01  # of the largest value: a larger change from one update to the next is told
_STEEPER = 4  # ... where it is so many times its neighbours' too: a short run changes a lot at every update


@dataclass
class Preview:
    """What a recipe's schedules will do.

    Args:
        run: the run as it would start.
        times: updates at which the values are wanted.
        values: for each label, the value at each of these times.
        lint: what looks wrong, in sentences.
    """

    run: Run
    times: list[int]
    values: dict[str, list[float]]
    lint: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        run = self.run
        return {
            "t": self.times,
            "values": self.values,
            "total_updates": run.total_updates,
            "updates_per_epoch": run.clock.updates_per_epoch,
            "events": [list(event) for event in run.events],
            "lint": self.lint,
        }


def _nothing(text: str) -> None:
    """What reactions decide is shown with the values."""


def preview(
    recipe: Recipe,
    plugins: Plugins,
    at: str | None = None,
    metrics: Path | None = None,
    progress: Progress = silent,
) -> Preview:
    """Build a recipe without training it and work out its scheduled values.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        at: times such as ``0,137,2ep,0.5dur``; unset chooses telling ones.
        metrics: figures to play through the reactions, as `play` reads them.
        progress: told about long work.

    Raises:
        UsageError: if ``at`` or ``metrics`` cannot be read.
        RecipeError: if the parts of the recipe do not fit each other.
    """
    run = prepare(recipe, plugins, Path(), progress, say=_nothing, begins=False)
    if metrics is not None:
        play(run, metrics)
    times = _times(run.clock, at) if at is not None else key_times(run)
    rows = [values_at(tuple(run.schedules), t, run.schedule_updates, run.events) for t in times]
    values = {value.label: [float(row[value.label]) for row in rows] for value in run.schedules}
    return Preview(run, times, values, list(lint(run, recipe.components)))


def key_times(run: Run) -> list[int]:
    """Telling updates of a run: evenly spread, the first and the last, the ends of warm-ups, and events."""
    total = run.total_updates
    even = {round(part * (total - 1) / KEY_TIMES) for part in range(KEY_TIMES + 1)}
    schedule = run.recipe["schedule"]
    edges = {run.clock.updates(table["warmup"]) for table in (schedule, *schedule["also"])}
    edges |= {total - run.clock.updates(table["cooldown"]) for table in (schedule, *schedule["also"])}
    edges |= {at for at, _ in run.events}
    return sorted(t for t in even | edges if 0 <= t < total)


def _times(clock: Clock, text: str) -> list[int]:
    times = []
    for word in text.split(","):
        word = word.strip()
        try:
            times.append(int(word) if word.isdecimal() else clock.updates(Span.parse(word)))
        except ValueError as error:
            message = f"--at {text}: '{word}' is no time: {error}; a bare number counts updates, as in --at 0,137,2ep"
            raise UsageError(message) from None
    return times


# ------------------------------------------------------------ recorded figures


def play(run: Run, file: Path) -> None:
    """Show recorded figures to the run's reactions, as if it had come to them; ``run.events`` holds what they decide.

    Args:
        run: a run that has not started.
        file: a run's ``metrics.jsonl``; or JSON: ``{"val.loss": [1.0, 0.8, ...]}``, or a list alone for the run's own
            monitor, one number for each evaluation.

    Raises:
        UsageError: if the file cannot be read, or no reaction looks at any of its figures.
    """
    monitors = sorted({watch.monitor for watch in run.reactions.watches})
    if not monitors:
        raise UsageError(f"--metrics {file}: the recipe has no [[schedule.react]] that would look at figures")
    seen = 0
    try:
        for step, figures in sorted(_recorded(run, file), key=lambda record: record[0]):
            seen += sum(name in figures for name in monitors)
            run.step = step
            run.reactions.observe(run, figures)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        cure = 'name a metrics.jsonl, or JSON such as {"val.loss": [1.0, 0.8]}'
        raise UsageError(f"--metrics {file}: cannot be read: {type(error).__name__}: {error}; {cure}") from error
    finally:
        run.step = 0
    if not seen:
        raise UsageError(f"--metrics {file}: holds none of the figures that reactions look at: {', '.join(monitors)}")


def _recorded(run: Run, file: Path) -> Iterator[tuple[int, dict[str, float]]]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        for line in text.splitlines():
            record = json.loads(line)
            figures = {
                f"{record['split']}.{name}": _number(value) for name, value in record.items() if _is_figure(value)
            }
            yield int(record["step"]), figures
        return
    recorded = json.loads(text)
    if isinstance(recorded, list):
        recorded = {run.recipe["run"]["monitor"]: recorded}
    every = run.clock.interval(run.recipe["run"]["evaluate_every"])
    for name, values in recorded.items():
        step = 0
        for value in values:
            step = every.after(step)
            yield step, {name: _number(value)}


def _is_figure(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


# ------------------------------------------------------------ lint


def lint(run: Run, components: Mapping[tuple[str | int, ...], Component]) -> Iterator[str]:
    """What looks wrong with the scheduled values of a run, in sentences; nothing here keeps it from running."""
    total = run.total_updates
    told: set[tuple[str, int]] = set()
    for value in run.schedules:
        kind = value.label.partition("/")[0]
        if (kind, id(value.schedule)) in told:  # groups that share a schedule have the same faults
            continue
        told.add((kind, id(value.schedule)))
        points = [float(value.at(t, run.schedule_updates, run.events)) for t in range(total)]
        if kind == "lr":
            yield from _of_the_rate(run, value, points, bool(components[("schedule",)].capabilities.get("absolute")))
        if not value.whole and not _jumps_by_design(components, _table_of(run, value)):
            yield from _jumps(value.label, points)
    every = run.clock.interval(run.recipe["run"]["evaluate_every"])
    for number, watch in enumerate(run.reactions.watches):
        first = every.after(max(0, watch.after - 1))
        if first >= total and components[("schedule", "react", number)].capabilities.get("needs_metric"):
            yield f"{watch.label} does nothing: its first figure is that of update {first}, and the run ends at {total}"


def _of_the_rate(run: Run, value: ScheduledValue, points: Sequence[float], absolute: bool) -> Iterator[str]:
    label, base = value.label, value.base
    shared = _table_of(run, value) == ("schedule",)  # one of a group's own may be meant to end its training
    if shared and (zeros := [t for t, point in enumerate(points) if point == 0]):
        yield f"{label} is 0 at {_updates(zeros)}: nothing is learned there"
    top = max(points)
    if not absolute and top < 0.99 * base:
        yield f"{label} never reaches its base value {base:g}: the highest is {top:.4g}, at update {points.index(top)}"
    if not absolute and points[-1] > base * (1 + 1e-9):
        yield f"{label} ends at {points[-1]:.4g}, above its base value {base:g}"
    warmup = run.clock.updates(run.recipe["schedule"]["warmup"])
    if warmup and warmup >= run.total_updates:
        yield f"the warm-up takes the whole run: {warmup} of {run.total_updates} updates"


def _jumps(label: str, points: Sequence[float]) -> Iterator[str]:
    steps = [abs(after - before) for before, after in pairwise(points)]
    limit = JUMP * max(map(abs, points))
    for t, step in enumerate(steps):
        beside = max([*steps[max(0, t - 1) : t], *steps[t + 1 : t + 2]], default=step)
        if step > limit and step > _STEEPER * beside:
            yield f"{label} jumps at update {t + 1}: from {points[t]:.4g} to {points[t + 1]:.4g}"


def _table_of(run: Run, value: ScheduledValue) -> tuple[str | int, ...]:
    """The path of the table that a value comes from."""
    target = value.label.rpartition("/")[0] or value.label
    for number, table in enumerate(run.recipe["schedule"]["also"]):
        if target == "lr" and value.group is not None:
            names = run.optimizer.param_groups[value.group]["names"]
            if table["target"] != "lr" or not fnmatch.fnmatchcase(names[0], table["match"]):
                continue
        if table["target"] in (target, value.label):
            return ("schedule", "also", number)
    return ("schedule",)


def _jumps_by_design(components: Mapping[tuple[str | int, ...], Component], path: tuple[str | int, ...]) -> bool:
    inside = [
        part
        for at, part in components.items()
        if at[: len(path)] == path and at[len(path) : len(path) + 1] != ("also",)
    ]
    return any(part.capabilities.get("jumps") or part.kind == "reaction" for part in inside)


def _updates(times: Sequence[int]) -> str:
    few = ", ".join(map(str, times[:3])) + (", ..." if len(times) > 3 else "")
    return f"{len(times)} update{'s' if len(times) > 1 else ''} ({few})"
