"""The classic picture of a run: loss and metrics against epochs, and the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit import Report, Run, hookimpl

MOST_PANELS = 4  # loss and three metrics; more would be too small to read
COLOURS = {"train": "tab:blue", "val": "tab:orange"}


class Curves:
    """See `trainkit_reports.curves`."""

    @hookimpl
    def trainkit_run_end(self, run: Run, report: Report) -> None:
        if run.history:
            draw(run.history, list(run.metrics), run.folder / "curves.png", run.folder.name)


def draw(history: Sequence[Mapping[str, Any]], metrics: Sequence[str], path: Path, title: str) -> None:
    """Draw the lines of ``metrics.jsonl`` into a PNG.

    Args:
        history: the lines, each with ``split`` and ``epoch``.
        metrics: figures to draw beside the loss.
        path: the picture.
        title: what stands above it.
    """
    import matplotlib

    # A matplotlibrc of the folder one stands in, which may be a stranger's, has no say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        _draw(history, metrics, path, title)


def _draw(history: Sequence[Mapping[str, Any]], metrics: Sequence[str], path: Path, title: str) -> None:
    # The object interface: pyplot would pick a window system and keep figures in a global list.
    from matplotlib.figure import Figure

    figures = ["loss", *metrics][:MOST_PANELS]
    page = Figure(figsize=(5.2 * len(figures), 6.4), layout="constrained")
    page.suptitle(_plain(title))
    grid = page.add_gridspec(2, len(figures), height_ratios=(3, 1))
    for column, figure in enumerate(figures):
        axes = page.add_subplot(grid[0, column])
        for split, colour in COLOURS.items():
            points = [(line["epoch"], line[figure]) for line in history if _has(line, split, figure)]
            if points:
                marker = "o" if len(points) < 60 else None
                axes.plot(*zip(*points, strict=True), color=colour, label=split, marker=marker, markersize=3)
        test = [line for line in history if _has(line, "test", figure)]
        if test:
            value = test[-1][figure]
            axes.axhline(value, color="tab:green", linestyle=":", label=f"test {value:.4g}")
        positive = [line[figure] for line in history if _has(line, line["split"], figure)]
        if figure == "loss" and positive and min(positive) > 0 and max(positive) > 20 * min(positive):
            axes.set_yscale("log")
        axes.set_title(_plain(figure))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    _learning_rate(page.add_subplot(grid[1, :]), history)
    page.savefig(path, dpi=110)


def _learning_rate(axes: Any, history: Sequence[Mapping[str, Any]]) -> None:
    labels = sorted({key for line in history for key in line if key.startswith("lr/")})
    drawn: list[list[tuple[float, float]]] = []
    for label in labels:
        points = [(line["epoch"], line[label]) for line in history if line.get(label) is not None]
        if points not in drawn:  # groups that share one rate are one curve
            drawn.append(points)
            axes.plot(*zip(*points, strict=True), label=_plain(label), drawstyle="steps-pre")
    axes.set_title("learning rate of the last update")
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(drawn) > 1:
        axes.legend()


def _plain(text: str) -> str:
    """A name as it is: no formula, and no mark that would turn or move other text."""
    return "".join(character if character.isprintable() else "?" for character in text).replace("$", r"\$")


def _has(line: Mapping[str, Any], split: str, figure: str) -> bool:
    return line["split"] == split and line.get(figure) is not None
