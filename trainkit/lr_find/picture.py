"""The picture of a range test: losses over the values that were tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError
from trainkit.lr_find.found import Found
from trainkit.lr_find.sweeping import Curve
from trainkit.preview_plot import plain


def draw(found: Found, file: Path) -> None:
    """Draw the losses, their running mean, and what is suggested.

    Args:
        found: the test.
        file: the picture; its ending says the format.

    Raises:
        MachineError: if it cannot be written.
    """
    import matplotlib

    # A matplotlibrc of the folder one stands in, which may be a stranger's, has no say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        _draw(found, file)


def _draw(found: Found, file: Path) -> None:
    from matplotlib.figure import Figure

    page = Figure(figsize=(7.5, 4), layout="constrained")
    axes = page.subplots()
    values, curve = found.curve.values, found.curve
    axes.plot(values, curve.losses, color="tab:blue", alpha=0.3, linewidth=1, label="loss of each batch")
    axes.plot(values, curve.smoothed, color="tab:blue", linewidth=2, label="running mean")
    if found.held is not None:
        shown = found.held.smoothed[: len(values)]
        label = "running mean, as the recipe has it"
        axes.plot(values[: len(shown)], shown, color="tab:gray", linewidth=1.5, linestyle="--", label=label)
    for colour, (rule, value) in zip(("tab:green", "tab:orange"), found.suggestions.items(), strict=True):
        if value is not None:
            axes.axvline(value, color=colour, linestyle="-.", label=f"{rule}: {value:g}")
    if found.setting.now is not None and found.sweep.low <= found.setting.now <= found.sweep.high:
        axes.axvline(found.setting.now, color="black", linestyle=":", label=f"recipe: {found.setting.now:g}")
    if not found.sweep.linear:
        axes.set_xscale("log")
    axes.set_xlim(found.sweep.low, found.sweep.high)
    _cut_above(axes, curve)
    axes.set_xlabel(plain(found.setting.name))
    axes.set_ylabel("training loss")
    axes.set_title(plain(f"{Path(found.recipe).stem}: {found.end()}"), fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    try:
        page.savefig(file, dpi=100)
    except OSError as error:
        raise MachineError(f"{file}: cannot be written: {error.strerror}") from error


def _cut_above(axes: Any, curve: Curve) -> None:
    """Leave room for the fall: a loss that has diverged would press it flat."""
    if losses := [loss for loss in curve.losses if math.isfinite(loss)]:
        first, least = losses[0], min(losses)
        room = max(first - least, 0.1 * abs(first), 1e-12)
        axes.set_ylim(least - 0.1 * room, first + 0.5 * room)
