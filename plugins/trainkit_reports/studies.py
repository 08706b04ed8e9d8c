"""Pictures of a search: its history, what each setting does, how settings go together, and the front of two goals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import (
    Dimension,
    Record,
    Study,
    choice_text,
    has_setting,
    main_settings,
    number_text,
    visible_limits,
)
from trainkit_reports.paper import page as new_page
from trainkit_reports.paper import plain, save
from trainkit_reports.surfaces import draw_contour, draw_importance
from trainkit_reports.timeline import draw_timeline

MOST_SETTINGS = 12  # more panels or axes than this could not be read
STATUS_COLOURS = {"done": "tab:blue", "pruned": "tab:gray", "paused": "tab:gray"}
UNDER_WAY = ("waiting", "running", "paused", "pruned")


def draw_study(study: Study) -> list[Path]:
    """Draw what there is to see of a search into its folder.

    Returns:
        The pictures: ``history.png``, ``slices.png``, ``parallel.png``, ``importance.png`` and ``contour.png``, or
        ``front.png`` for several objectives; ``timeline.png``; fewer where there is nothing to draw.
    """
    import matplotlib

    shown = [record for record in study.records if record.figures and all(map(math.isfinite, record.figures))]
    if not study.records:
        return []
    made: list[Path | None] = []
    with matplotlib.rc_context():  # a matplotlibrc of the folder one stands in has no say
        matplotlib.rcdefaults()
        if len(study.objectives) > 1 and shown:
            made.append(_front(study, shown))
        elif shown or len(study.objectives) == 1:
            made.append(_history(study, shown))
        if shown and len(study.objectives) == 1:
            made.append(_slices(study, shown))
            made.append(_parallel(study, shown))
            made.append(draw_importance(study))
            made.append(draw_contour(study))
        made.append(draw_timeline(study))
    return [picture for picture in made if picture is not None]


def _history(study: Study, shown: Sequence[Record]) -> Path:
    objective = study.objectives[0]
    page = new_page(8, 4.5, f"{study.folder.name}: {len(study.records)} trials, {study.searcher}")
    axes = page.add_subplot()
    low, high = visible_limits([record.figures[0] for record in shown], objective.mode == "min")
    for status in dict.fromkeys(record.trial.status for record in shown):
        part = [record for record in shown if record.trial.status == status]
        axes.scatter(
            [record.trial.number for record in part],
            [min(max(record.figures[0], low), high) for record in part],
            s=18,
            color=STATUS_COLOURS.get(status, "tab:red"),
            label=f"{status} ({len(part)})",
        )
    best, line = None, []
    for record in shown:
        if record.trial.status == "done" and record.trial.final and record.trial.values:
            best = record if best is None or record.trial.values[0] < best.trial.values[0] else best
            line.append((record.trial.number, best.figures[0]))
    if line:
        axes.plot(*zip(*line, strict=True), color="tab:orange", drawstyle="steps-post", label="best so far")
    failed = [r.trial.number for r in study.records if not r.figures and r.trial.status not in UNDER_WAY]
    if failed:
        axes.plot(
            failed, [0.02] * len(failed), "x", color="tab:red", transform=axes.get_xaxis_transform(), label="failed"
        )
    axes.set_ylim(low, high)
    axes.set_xlabel("trial")
    axes.set_ylabel(plain(objective.figure))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save(page, study, "history.png")


def _slices(study: Study, shown: Sequence[Record]) -> Path:
    dimensions, objective = main_settings(study, MOST_SETTINGS), study.objectives[0]
    columns = min(3, len(dimensions))
    rows = math.ceil(len(dimensions) / columns)
    page = new_page(4.4 * columns, 3.4 * rows, f"{study.folder.name}: {objective.figure} against each setting")
    low, high = visible_limits([record.figures[0] for record in shown], objective.mode == "min")
    importances: Mapping[str, Any] = study.findings.get("importances", {})
    for place, dimension in enumerate(dimensions):
        axes = page.add_subplot(rows, columns, place + 1)
        own = [record for record in shown if has_setting(dimension, record)]
        drawn = axes.scatter(
            [dimension.number(record.trial.point[dimension.name]) for record in own],
            [min(max(record.figures[0], low), high) for record in own],
            c=[record.trial.number for record in own],
            cmap="viridis",
            vmin=0,  # one scale of colours for all settings
            vmax=max(1, len(study.records) - 1),
            s=16,
        )
        _axis(axes.xaxis, axes.set_xscale, dimension)
        axes.set_ylim(low, high)
        title = dimension.name
        if dimension.name in importances:
            held = importances[dimension.name]
            title += f"\nimportance {held['value']:.2f} ({held['low']:.2f} to {held['high']:.2f})"
        axes.set_title(plain(title), fontsize=9)
        axes.grid(alpha=0.3)
        if place % columns == 0:
            axes.set_ylabel(plain(objective.figure))
    page.colorbar(drawn, ax=page.axes, label="trial")
    return save(page, study, "slices.png")


def _axis(axis: Any, set_scale: Any, dimension: Dimension) -> None:
    if dimension.kind == "choice":
        axis.set_ticks(range(len(dimension.choices)), [label(choice) for choice in dimension.choices], fontsize=7)
    elif dimension.scale in ("log", "logit"):
        set_scale(dimension.scale)
        # Those that come by themselves overlap where a range spans little more than one power of ten.
        values = [dimension.at(share) for share in (0.0, 1 / 3, 2 / 3, 1.0)]
        axis.set_ticks([dimension.number(value) for value in values], [number_text(value) for value in values])
        axis.set_ticks([], minor=True)


def label(choice: Any) -> str:
    """A choice as an axis names it."""
    return plain(choice_text(choice))


def _parallel(study: Study, shown: Sequence[Record]) -> Path | None:
    dimensions, objective = main_settings(study, MOST_SETTINGS), study.objectives[0]
    if len(dimensions) < 2:
        return None
    from matplotlib import colormaps

    page = new_page(
        1.8 * (len(dimensions) + 1) + 1, 4.8, f"{study.folder.name}: parallel coordinates, best trials on top"
    )
    axes = page.add_subplot()
    ranked = sorted(shown, key=lambda record: record.trial.values[0] if record.trial.values else math.inf, reverse=True)
    low, high = visible_limits([record.figures[0] for record in shown], objective.mode == "min")
    colours = colormaps["viridis"]
    for place, record in enumerate(ranked):
        good = (place + 1) / len(ranked)
        points = [
            (column, dimension.share(record.trial.point[dimension.name]))
            if has_setting(dimension, record)
            else (column, math.nan)  # a gap where the setting does not count, which a dotted line bridges
            for column, dimension in enumerate(dimensions)
        ]
        value = min(max((record.figures[0] - low) / (high - low), 0.0), 1.0)
        points.append((len(dimensions), value))
        colour, alpha = colours(good), 0.25 + 0.65 * good**2
        axes.plot(*zip(*points, strict=True), color=colour, alpha=alpha, marker=".", markersize=4)
        there = [point for point in points if not math.isnan(point[1])]
        if len(there) < len(points):
            axes.plot(*zip(*there, strict=True), color=colour, alpha=alpha, linestyle=":", linewidth=1, zorder=1)
    for column, dimension in enumerate(dimensions):
        axes.axvline(column, color="0.7", linewidth=0.8, zorder=0)
        if dimension.kind == "choice":
            for choice in dimension.choices:
                _note(axes, column, dimension.share(choice), label(choice))
        else:
            for share in (0.0, 0.5, 1.0):
                _note(axes, column, share, number_text(dimension.at(share)))
    axes.axvline(len(dimensions), color="0.7", linewidth=0.8, zorder=0)
    for share in (0.0, 0.5, 1.0):
        _note(axes, len(dimensions), share, f"{low + share * (high - low):.3g}")
    names = [*(dimension.name for dimension in dimensions), objective.figure]
    axes.set_xticks(range(len(names)), [plain(name.replace(".", ".\n", 1)) for name in names], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(dimensions) + 0.5)
    axes.set_ylim(-0.04, 1.04)
    return save(page, study, "parallel.png")


def _note(axes: Any, column: int, share: float, text: str) -> None:
    axes.annotate(
        text, (column, share), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center", color="0.3"
    )


def _front(study: Study, shown: Sequence[Record]) -> Path:
    first, second = study.objectives[:2]
    page = new_page(6.4, 4.8, f"{study.folder.name}: {first.figure} against {second.figure}")
    axes = page.add_subplot()
    front = study.front()
    # What is on the front is seen, however bad it is in one objective.
    low, high = visible_limits([record.figures[0] for record in shown], first.mode == "min")
    own = [record.figures[0] for record in front]
    if own and (min(own) < low or max(own) > high):
        room = 0.05 * (max(high, *own) - min(low, *own))
        low, high = min(low, min(own) - room), max(high, max(own) + room)
    axes.scatter(
        [record.figures[1] for record in shown],
        [min(max(record.figures[0], low), high) for record in shown],
        s=16,
        color="0.6",
        label="trials",
    )
    places = sorted((record.figures[1], record.figures[0], record.trial.number) for record in front)
    axes.plot([x for x, _, _ in places], [y for _, y, _ in places], "o-", color="tab:orange", label="front")
    for x, y, number in places[:20]:
        axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    across = [record.figures[1] for record in shown]
    if min(across) > 0 and max(across) > 20 * min(across):
        axes.set_xscale("log")
    axes.set_ylim(low, high)
    axes.set_xlabel(plain(f"{second.figure} ({'lower' if second.mode == 'min' else 'higher'} is better)"))
    axes.set_ylabel(plain(f"{first.figure} ({'lower' if first.mode == 'min' else 'higher'} is better)"))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(page, study, "front.png")
