"""Pictures of what settings do: how much each matters, and what the two most important ones do together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from trainkit import Study, contour_of
from trainkit_reports.paper import page as new_page
from trainkit_reports.paper import plain, save

MOST_BARS = 20  # settings beyond which names could not be read
MOST_LABELS = 7  # of an axis


def draw_importance(study: Study) -> Path | None:
    """Draw ``importance.png``: the share of each setting, with its interval; nothing where it was not found out."""
    found: Mapping[str, Mapping[str, float]] = study.findings.get("importances", {})
    if not found:
        return None
    names = list(found)[:MOST_BARS]
    page = new_page(7, 1.2 + 0.42 * len(names), f"{study.folder.name}: importance of each setting")
    axes = page.add_subplot()
    values = [found[name]["value"] for name in names]
    ends = [
        [max(0.0, found[name]["value"] - found[name]["low"]) for name in names],
        [max(0.0, found[name]["high"] - found[name]["value"]) for name in names],
    ]
    axes.barh(range(len(names)), values, xerr=ends, color="tab:blue", alpha=0.8, capsize=3)
    axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-3, *(found[name]["high"] for name in names)) * 1.05)
    axes.set_xlabel("share in what distinguishes good trials (PED-ANOVA); lines: 80% of bootstrap samples", fontsize=8)
    axes.grid(alpha=0.3, axis="x")
    return save(page, study, "importance.png")


def draw_contour(study: Study) -> Path | None:
    """Draw ``contour.png``: a surface over the two most important settings; nothing where trials are too few."""
    found = contour_of(study)
    if found is None:
        return None
    import numpy

    x, y, objective = found.x, found.y, study.objectives[0]
    title = f"{study.folder.name}: {objective.figure} over the two most important settings"
    page = new_page(7.2, 5.4, title)
    axes = page.add_subplot()
    surface = numpy.ma.masked_invalid([[math.nan if value is None else value for value in row] for row in found.values])
    colours = "viridis_r" if objective.mode == "min" else "viridis"  # good ones are bright
    cells = any(axis.dimension.kind == "choice" for axis in (x, y)) or min(surface.shape) < 3
    if cells or surface.max() == surface.min():
        drawn = axes.imshow(surface, origin="lower", aspect="auto", cmap=colours)
    else:
        drawn = axes.contourf(surface, levels=14, cmap=colours)
        axes.contour(surface, levels=14, colors="black", linewidths=0.4, alpha=0.5)
    page.colorbar(drawn, ax=axes, label=plain(objective.figure))
    points = [
        (x.place(r.trial.point[x.dimension.name]), y.place(r.trial.point[y.dimension.name])) for r in found.trials
    ]
    axes.plot(*zip(*points, strict=True), "o", color="white", markeredgecolor="black", markersize=4)
    best = min(range(len(points)), key=lambda place: found.trials[place].trial.values)
    axes.plot(*points[best], "*", color="tab:red", markeredgecolor="black", markersize=13, label="best of them")
    axes.legend(fontsize=8)
    for axis, one in ((axes.xaxis, x), (axes.yaxis, y)):
        step = max(1, -(-len(one.values) // MOST_LABELS)) if one.dimension.kind != "choice" else 1
        axis.set_ticks(range(0, len(one.values), step), [plain(label) for label in one.labels[::step]], fontsize=8)
    axes.set_xlim(-0.5, len(x.values) - 0.5)
    axes.set_ylim(-0.5, len(y.values) - 0.5)
    axes.set_xlabel(plain(x.dimension.name))
    axes.set_ylabel(plain(y.dimension.name))
    return save(page, study, "contour.png")
