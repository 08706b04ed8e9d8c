"""From the outcomes of a trial's runs to the event that brings it to rest: means, spread, the value that counts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit.search.failures import is_failure
from trainkit.search.log import Event, finite
from trainkit.trial import Objective
from trainkit.work import Outcome

Seen = Sequence[tuple[float, tuple[float, ...]]]


class NeverMeasured(ValueError):
    """A run came to rest without a figure that the search is after; the text names it and those that there are."""


def part_event(trial: int, part: int, outcome: Outcome, figures: Sequence[float]) -> Event:
    """How one of a trial's runs came to rest."""
    event: Event = {
        "event": "part",
        "trial": trial,
        "part": part,
        "status": outcome.status,
        "figures": [value if math.isfinite(value) else None for value in figures],
        "metrics": finite(outcome.metrics),
        "trained": outcome.trained,
        "seconds": round(outcome.seconds, 3),
        "epochs": outcome.epochs,
    }
    if outcome.message:
        event["message"] = outcome.message
    if outcome.origin:
        event["origin"] = outcome.origin
    return event


def figures_of(outcome: Outcome, objectives: Sequence[Objective], seen: Seen, take: str) -> tuple[float, ...]:
    """The value of each objective that a run comes to; nothing where it failed before the first evaluation.

    Args:
        outcome: how it came to rest.
        objectives: what is made good.
        seen: what its evaluations gave.
        take: ``best`` takes all objectives from the evaluation at which the first one was best.

    Raises:
        NeverMeasured: if a run that was trained has no such figure.
    """
    if is_failure(outcome.status):
        return ()
    last = tuple(outcome.metrics.get(objective.figure, math.nan) for objective in objectives)
    for objective in objectives:
        if objective.figure not in outcome.metrics:
            if outcome.status == "pruned":
                return seen[-1][1] if seen else ()
            there = ", ".join(sorted(name for name in outcome.metrics if not name.startswith("test.")))
            raise NeverMeasured(f"no run measures {objective.figure}; there are: {there or 'no figures'}")
    if take == "best":
        sign = -1 if objectives[0].mode == "max" else 1
        good = [figures for _, figures in [*seen, (outcome.trained, last)] if math.isfinite(figures[0])]
        # What evaluations do not measure, such as seconds, counts as it is at the end.
        best = min(good, key=lambda figures: sign * figures[0], default=last)
        return tuple(end if math.isnan(value) else value for value, end in zip(best, last, strict=True))
    return last


def rest_event(trial: int, parts: Mapping[int, Event], wanted: int, stop: str = "") -> Event:
    """How a trial comes to rest when its runs have.

    Args:
        trial: its number.
        parts: the results of its runs; fewer than wanted where one failed or it is pruned.
        wanted: how many runs it has.
        stop: why it is pruned, if it is.
    """
    runs = [parts[number] for number in sorted(parts)]
    event: Event = {"event": "done", "trial": trial}
    if failed := next((run for run in runs if is_failure(run["status"])), None):
        event.update(event="fail", status=failed["status"], message=failed.get("message", ""))
        if failed.get("origin"):
            event["origin"] = failed["origin"]
    elif stop or any(run["status"] == "pruned" for run in runs):
        event.update(event="prune", message=stop or next(run.get("message", "") for run in runs))
    elif any(run["status"] == "paused" for run in runs):
        event["event"] = "pause"
    if event["event"] != "fail" and runs:
        measured = [run["figures"] for run in runs if run["figures"]]
        if any(value is None for figures in measured for value in figures):
            event.update(event="fail", status="nan", message="the value to make good is not a finite number")
        elif measured:
            event.update(_means(measured, wanted))
    event["metrics"] = _mean_metrics([run["metrics"] for run in runs])
    event["trained"] = min((run["trained"] for run in runs), default=0.0)
    event["seconds"] = round(sum(run["seconds"] for run in runs), 3)
    event["epochs"] = round(sum(run["epochs"] for run in runs), 6)
    if wanted > 1:
        event["parts"] = [run["metrics"] for run in runs]
    return event


def _means(measured: Sequence[Sequence[float]], wanted: int) -> dict[str, Any]:
    columns = list(zip(*measured, strict=True))
    figures = [math.fsum(column) / len(column) for column in columns]
    made: dict[str, Any] = {"value": figures[0]}
    if len(figures) > 1:
        made["figures"] = figures
    if wanted > 1:
        made["spread"] = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return made


def _mean_metrics(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the figures that all runs have; those of the test are no part of a search."""
    if not runs:
        return {}
    names = [name for name in runs[0] if not name.startswith("test.") and all(name in run for run in runs)]
    return {name: math.fsum(run[name] for run in runs) / len(runs) for name in names}
