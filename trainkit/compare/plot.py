"""The figure: validation loss and accuracy side by side, the learning rate below them; a curve for each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainkit.compare.bands import Band, band_of
from trainkit.compare.comparison import Comparison
from trainkit.compare.rows import Row
from trainkit.errors import MachineError
from trainkit.preview_plot import check_plot, plain

__all__ = ["RATE", "check_plot", "draw", "panels_of"]

RATE = "lr/0"  # the learning rate of the first group of parameters, as every run logs it
_AXES = {"epoch": "epoch", "step": "update", "time": "seconds"}
_WORDS = {"val": "validation", "test": "test", "train": "training"}
_MOST_NAMED = 20  # curves that a legend has room for
_LETTERS = 120  # of a line of the legend
_FEW = 25  # points of a curve that are drawn as points too


def draw(found: Comparison, file: Path, by: str = "epoch") -> None:
    """Draw the curves of a comparison.

    Args:
        found: the comparison.
        file: the picture; its ending says the format.
        by: ``epoch``, ``step`` or ``time``.

    Raises:
        MachineError: if it cannot be written.
    """
    import matplotlib

    # A matplotlibrc of the folder one stands in, which may be a stranger's, has no say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        page = figure_of(found, by)
        try:
            page.savefig(file, dpi=110)
        except OSError as error:
            raise MachineError(f"{file}: cannot be written: {error.strerror}") from error


def panels_of(found: Comparison) -> list[str]:
    """The figures that are drawn: a loss and another one, or those that were named, as far as runs have them."""
    there = [name for name in found.figures if any(name in e.curves for row in found.rows for e in row.entries)]
    losses = [name for name in there if name.endswith(".loss")]
    others = [name for name in there if name not in losses]
    return [*losses[:1], *others[:1]] if losses and others else there[:2]


def figure_of(found: Comparison, by: str) -> Any:
    """The figure, which is not written anywhere yet."""
    # The object interface: pyplot would pick a window system and keep figures in a global list.
    from matplotlib.figure import Figure

    names = panels_of(found)
    has_rates = any(RATE in entry.curves for row in found.rows for entry in row.entries)
    layout: list[Any] = [names or ["none"], *([[RATE] * max(1, len(names))] if has_rates else [])]
    page = Figure(figsize=(9, 6 if has_rates else 4), layout="constrained")
    panels = page.subplot_mosaic(layout, height_ratios=[2.2, 1][: len(layout)])
    colours = dict(zip((row.name for row in found.rows), _colours(len(found.rows)), strict=True))
    drawn: dict[str, Any] = {}
    for name, axes in panels.items():
        for row, band in _bands(found.rows, name):
            drawn.setdefault(row.name, _curve(axes, band, by, colours[row.name], stepped=name == RATE))
        axes.set_xlabel(_AXES[by])
        axes.grid(alpha=0.3)
        axes.set_ylabel("learning rate" if name == RATE else _called(name))
        if name == "none":
            axes.text(0.5, 0.5, "no curves: nothing was measured on the way", ha="center", transform=axes.transAxes)
            axes.set_ylabel("")
        elif far_apart([line.get_ydata() for line in axes.lines]):
            axes.set_yscale("log")
        axes.set_xlim(left=0)  # no run begins elsewhere, and panels above each other have one scale
    for axes in panels.values():
        axes.set_xlim(right=max(other.get_xlim()[1] for other in panels.values()))
    if drawn:
        shown = list(drawn.items())[:_MOST_NAMED]
        labels = [_legend(found, name) for name, _ in shown]
        several = any(len(row.counted) > 1 for row in found.rows)
        said = ["means of runs, from the lowest to the highest run"] if several else []
        said += [f"and {len(drawn) - len(shown)} more"] if len(drawn) > len(shown) else []
        columns = max(1, min(len(shown), _LETTERS // (max(map(len, labels)) + 8)))
        lines = [line for _, line in shown]
        page.legend(
            lines,
            labels,
            loc="outside upper center",
            ncols=columns,
            title="; ".join(said) or None,
            title_fontsize="small",
        )
    return page


def _bands(rows: Sequence[Row], name: str) -> Iterator[tuple[Row, Band]]:
    for row in rows:
        if (band := band_of(row, name)) is not None:
            yield row, band


def _curve(axes: Any, band: Band, by: str, colour: Any, stepped: bool) -> Any:
    x, y = band.x[by], band.y
    if stepped:  # what was logged at the end of a stretch held during all of it
        x, y = [0.0, *x], [y[0], *y]
    few = len(x) <= _FEW and not stepped
    (line,) = axes.plot(
        x,
        y,
        color=colour,
        linewidth=1.6,
        marker="o" if few else "",
        markersize=3.5,
        drawstyle="steps-pre" if stepped else "default",
    )
    if band.low and not stepped:
        axes.fill_between(x, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
    return line


def _legend(found: Comparison, name: str) -> str:
    row = next(row for row in found.rows if row.name == name)
    return plain(name if len(row.counted) == 1 else f"{name} ({row.over})")


def _called(name: str) -> str:
    split, _, figure = name.partition(".")
    return plain(f"{_WORDS.get(split, split)} {figure.replace('_', ' ')}")


def far_apart(curves: Sequence[Sequence[float]]) -> bool:
    """Whether curves of positive values lie so far apart that on an even scale some would lie on its floor."""
    tops = [max(curve) for curve in curves if len(curve)]
    return bool(tops) and min(tops) > 0 and max(tops) > 10 * min(tops) and min(min(curve) for curve in curves) > 0


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    if count <= 10:
        return [f"C{number}" for number in range(count)]
    return [colormaps["turbo"]((number + 0.5) / count) for number in range(count)]
