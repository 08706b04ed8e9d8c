"""Pictures of an ensemble: figures against the number of members, how sure it is and how right, how members differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import wilson
from trainkit_reports.paper import page as new_page
from trainkit_reports.paper import plain

MOST_MEMBERS = 20  # of a matrix, beyond which numbers in it could not be read
LONGEST = 24  # of a member's name, in characters
NAMES = {"nll": "negative log likelihood", "mse": "mean squared error", "r2": "explained share (r2)"}
MATRICES = {
    "disagreement": "disagreement",
    "error_correlation": "correlation of errors",
    "kl": "KL divergence from row to column (nats)",
}
MODELS = {"ensemble": ("ensemble", "tab:blue"), "best_member": ("best member", "tab:gray")}


def draw_ensemble(folder: Path, report: Mapping[str, Any]) -> list[Path]:
    """Draw what there is to see of an ensemble into its folder.

    Args:
        folder: the ensemble folder.
        report: what its ``report.json`` holds.

    Returns:
        The pictures: ``curve.png``, ``reliability.png`` and ``diversity.png``; fewer where there is nothing to draw.
    """
    import matplotlib

    made: list[Path] = []
    with matplotlib.rc_context():  # a matplotlibrc of the folder one stands in has no say
        matplotlib.rcdefaults()
        for name, draw in (("curve.png", _curve), ("reliability.png", _reliability), ("diversity.png", _diversity)):
            page = draw(folder.name, report)
            if page is not None:
                page.savefig(folder / name, dpi=110)
                made.append(folder / name)
    return made


def _curve(name: str, report: Mapping[str, Any]) -> Any:
    """Figures against the number of members, each other model as a line across."""
    found = report.get("curve", {})
    points = found.get("points", [])
    if len(points) < 2:
        return None
    split, kind = found["split"], report["kind"]
    figures = [(report["chosen_by"], kind), ("r2", "raw") if report["task"] == "regression" else ("accuracy", "raw")]
    title = (
        f"{name}: {report['ensembler']} against the number of members, on {report['samples'][split]} {split} samples"
    )
    page = new_page(11, 4.4, title)
    intervals: set[str] = set()
    for place, (figure, own_kind) in enumerate(figures):
        axes = page.add_subplot(1, 2, place + 1)
        numbers = [point["members"] for point in points]
        axes.plot(
            numbers, [_number(point[own_kind][figure]) for point in points], "o-", color="tab:blue", label="ensemble"
        )
        whole = report["ensemble"].get(split, {}).get(own_kind, {}).get(figure)
        if _is_whole(whole):
            ends = [[max(0.0, whole["value"] - whole["low"])], [max(0.0, whole["high"] - whole["value"])]]
            axes.errorbar(numbers[-1:], [whole["value"]], ends, color="tab:blue", capsize=4, alpha=0.6)
            intervals.add("bar")
        for model, label, colour, style in (
            ("best_member", "best member on validation", "tab:gray", "--"),
            ("longer", "one run, trained as long as all members", "tab:red", "-."),
        ):
            line = report.get(model, {}).get(split, {}).get(own_kind, {}).get(figure)
            if _is_whole(line):
                axes.axhline(line["value"], color=colour, linestyle=style, label=label)
                if model == "longer":
                    axes.axhspan(line["low"], line["high"], color=colour, alpha=0.08, linewidth=0)
                    intervals.add("band")
        better = "higher" if figure in ("accuracy", "r2") else "lower"
        after = ", each after its own temperature" if own_kind == "calibrated" else ""
        axes.set_title(f"{NAMES.get(figure, figure)} ({better} is better{after})", fontsize=10)
        axes.set_xlabel("members")
        axes.set_xticks(numbers)
        axes.grid(alpha=0.3)
        if place == 0:
            axes.legend(fontsize=8)
    level = f"{report['level']:.0%}"
    sets = "the first so many members" if found["sets"] == "first" else "means over drawn sets of members"
    drawn = " and ".join(name for name in ("bar", "band") if name in intervals)
    page.supxlabel(f"points: {sets}" + (f"; {drawn}: {level} bootstrap intervals" if drawn else ""), fontsize=8)
    return page


def _number(value: float | None) -> float:
    """A figure; where it was not finite, a gap."""
    return float("nan") if value is None else value


def _is_whole(figure: Mapping[str, float | None] | None) -> bool:
    """Whether a figure and its interval are there, and finite."""
    return figure is not None and None not in figure.values()


def _reliability(name: str, report: Mapping[str, Any]) -> Any:
    """How often a model is right where it is so sure, before and after temperature, and how many samples that is."""
    found = report.get("reliability")
    if not found:
        return None
    split = found["split"]
    page = new_page(11.5, 6, f"{name}: how sure and how right, on {report['samples'][split]} {split} samples")
    grid = page.add_gridspec(2, 2, height_ratios=(3, 1))
    for column, (kind, title) in enumerate((("raw", "as they are"), ("calibrated", "each after its own temperature"))):
        axes, below = page.add_subplot(grid[0, column]), page.add_subplot(grid[1, column])
        axes.plot((0, 1), (0, 1), color="0.7", linewidth=1, zorder=0)
        for model, (label, colour) in MODELS.items():
            bins: Sequence[Mapping[str, float]] = found[model][kind]
            error = report[model].get(split, {}).get(kind, {}).get("ece")
            shown = label if error is None else f"{label}, calibration error {error['value']:.3f}"
            count = sum(one["samples"] for one in bins)
            shift = 0.0 if model == "ensemble" else 0.006  # so that no bar hides another one
            places = [one["confidence"] + shift for one in bins]
            rights = [one["accuracy"] for one in bins]
            sizes = [14 + 160 * one["samples"] / count for one in bins]
            axes.scatter(places, rights, s=sizes, color=colour, label=shown, zorder=3)
            ends = [wilson(one["accuracy"], one["samples"]) for one in bins]
            for x, (low, high) in zip(places, ends, strict=True):
                axes.plot((x, x), (low, high), color=colour, linewidth=1, alpha=0.5)
            edges = [one["low"] for one in bins]
            width = 1 / report["bins"]
            beside = 0.0 if model == "ensemble" else width / 2
            below.bar(
                [edge + beside for edge in edges],
                [one["samples"] / count for one in bins],
                width / 2,
                align="edge",
                color=colour,
            )
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.02, 1.04)
        axes.grid(alpha=0.3)
        # Below: points, and the bars of a model that is often unsure and right, may be in any corner.
        axes.legend(
            fontsize=8,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.08),
            ncols=2,
            frameon=False,
            columnspacing=1.0,
            handletextpad=0.2,
        )
        below.set_xlim(0, 1.02)
        below.set_xlabel(f"probability of the likeliest class, {report['bins']} bins")
        below.grid(alpha=0.3)
        if column == 0:
            axes.set_ylabel("share that is right")
            below.set_ylabel("share of samples", fontsize=8)
    page.supxlabel("a point for each bin, larger for more samples; bars: 95% intervals of its share", fontsize=8)
    return page


def _diversity(name: str, report: Mapping[str, Any]) -> Any:
    """How members differ, pair by pair."""
    found = report.get("diversity")
    if not found or len(found["members"]) < 2:
        return None
    kinds = [kind for kind in MATRICES if kind in found]
    count = min(len(found["members"]), MOST_MEMBERS)
    labels = [_short(member) for member in found["members"][:count]]
    side = max(3.4, 0.36 * count + 2)
    page = new_page(side * len(kinds) + 0.4, side + 0.5, f"{name}: how members differ, on {found['split']} samples")
    for place, kind in enumerate(kinds):
        axes = page.add_subplot(1, len(kinds), place + 1)
        rows = [
            [float("nan") if value is None or row == column else value for column, value in enumerate(values[:count])]
            for row, values in enumerate(found[kind]["matrix"][:count])
        ]
        drawn = axes.imshow(rows, cmap="viridis")
        page.colorbar(drawn, ax=axes, shrink=0.8)
        mean = found[kind]["mean"]
        axes.set_title(MATRICES[kind] + ("" if mean is None else f"\nmean {mean:.3g}"), fontsize=10)
        axes.set_xticks(range(count), labels, rotation=90, fontsize=7)
        axes.set_yticks(range(count), labels if place == 0 else [""] * count, fontsize=7)
        if count <= 8:
            middle = _middle(rows)
            for row, values in enumerate(rows):
                for column, value in enumerate(values):
                    if value == value:
                        colour = "white" if value < middle else "black"
                        axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=7, color=colour)
    return page


def _middle(rows: Sequence[Sequence[float]]) -> float:
    held = [value for row in rows for value in row if value == value]
    return (min(held) + max(held)) / 2 if held else 0.0


def _short(name: str) -> str:
    name = name.replace("\n", " ")
    return plain(name if len(name) <= LONGEST else "…" + name[-LONGEST + 1 :])
