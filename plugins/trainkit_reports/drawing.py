"""The classic picture of a run: loss and metrics against epochs, and the learning rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import Report, Run, Thinned, hookimpl
from trainkit_reports.paper import page as new_page
from trainkit_reports.paper import plain

MOST_PANELS = 4  # loss and three metrics; more would be too small to read
COLOURS = {"train": "tab:blue", "val": "tab:orange"}


class Curves:
    """See `trainkit_reports.curves`."""

    @hookimpl
    def trainkit_run_end(self, run: Run, report: Report) -> None:
        if run.history:
            draw(run.history, list(run.metrics), run.folder / "curves.png", run.folder.name)


def draw(history: Iterable[Mapping[str, Any]], metrics: Sequence[str], path: Path, title: str) -> None:
    """Draw the lines of ``metrics.jsonl`` into a PNG.

    Args:
        history: the lines, each with ``split`` and ``epoch``; gone through once, as there may be millions.
        metrics: figures to draw beside the loss.
        path: the picture.
        title: what stands above it.
    """
    import matplotlib

    figures = ["loss", *metrics][:MOST_PANELS]
    # A metric of several figures is drawn as that of all of them.
    keys = {figure: (figure, f"{figure}.all") for figure in figures}
    curves: defaultdict[tuple[str, str], Thinned] = defaultdict(Thinned)  # by split and figure
    rates: defaultdict[str, Thinned] = defaultdict(Thinned)
    for line in history:
        for figure in figures:
            value = next((line[key] for key in keys[figure] if line.get(key) is not None), None)
            if value is not None:
                curves[line["split"], figure].add(line["epoch"], value)
        for label, value in line.items():
            if label.startswith("lr/") and value is not None:
                rates[label].add(line["epoch"], value)
    seen = {figure for _, figure in curves}
    figures = [figure for figure in figures if figure == "loss" or figure in seen]
    # A matplotlibrc of the folder one stands in, which may be a stranger's, has no say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        _draw(figures, curves, rates, path, title)


def _draw(
    figures: Sequence[str],
    curves: Mapping[tuple[str, str], Thinned],
    rates: Mapping[str, Thinned],
    path: Path,
    title: str,
) -> None:
    page = new_page(5.2 * len(figures), 6.4, title)
    grid = page.add_gridspec(2, len(figures), height_ratios=(3, 1))
    for column, figure in enumerate(figures):
        axes = page.add_subplot(grid[0, column])
        drawn = {split: curve for (split, name), curve in curves.items() if name == figure}
        for split, colour in COLOURS.items():
            if split in drawn:
                points = drawn[split].points
                marker = "o" if len(points) < 60 else None
                axes.plot(*zip(*points, strict=True), color=colour, label=split, marker=marker, markersize=3)
        if "test" in drawn:
            value = drawn["test"].last[-1]
            axes.axhline(value, color="tab:green", linestyle=":", label=f"test {value:.4g}")
        heights = [y for curve in drawn.values() for _, y in curve.points]
        if figure == "loss" and heights and min(heights) > 0 and max(heights) > 20 * min(heights):
            axes.set_yscale("log")
        axes.set_title(plain(figure))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    _learning_rate(page.add_subplot(grid[1, :]), rates)
    page.savefig(path, dpi=110)


def _learning_rate(axes: Any, rates: Mapping[str, Thinned]) -> None:
    drawn: list[Any] = []
    for label in sorted(rates):
        points = rates[label].points
        if points not in drawn:  # groups that share one rate are one curve
            drawn.append(points)
            axes.plot(*zip(*points, strict=True), label=plain(label), drawstyle="steps-pre")
    axes.set_title("learning rate of the last update")
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(drawn) > 1:
        axes.legend()
