"""The picture of a range test: losses over the values that were tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError
from trainkit.lr_find.curve import tolerances
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

    values, curve, sweep = found.curve.values, found.curve, found.sweep
    panels = 1 if found.held is None else 2
    page = Figure(figsize=(7.5, 4 + 2 * (panels - 1)), layout="constrained")
    axes, *below = page.subplots(panels, 1, squeeze=False, sharex=True, height_ratios=[2, 1][:panels])[:, 0]
    axes.plot(values, curve.losses, color="tab:blue", alpha=0.3, linewidth=1, label="loss of each batch")
    axes.plot(values, curve.smoothed, color="tab:blue", linewidth=2, label="running mean")
    shown: list[float] = []
    if found.held is not None:
        shown = found.held.smoothed[: len(values)]
        label = "running mean, as the recipe has it"
        axes.plot(values[: len(shown)], shown, color="tab:gray", linewidth=1.5, linestyle="--", label=label)
    for panel in below:
        allowed = tolerances(shown)
        panel.plot(values[: len(found.above)], found.above, color="tab:blue")
        panel.plot(
            values[: len(allowed)], allowed, color="tab:gray", linewidth=1, linestyle="--", label="as good as alike"
        )
        if room := 1.5 * max(filter(math.isfinite, allowed), default=0.0):
            panel.set_ylim(-room, room)
        panel.set_ylabel("above it")
        panel.legend(fontsize="small")
    lines = [(f"{rule}: {value:g}", value) for rule, value in found.suggestions.items() if value is not None]
    for colour, (label, value) in zip(("tab:green", "tab:orange"), lines, strict=False):
        for panel in (axes, *below):
            panel.axvline(value, color=colour, linestyle="-.", label=label if panel is axes else None)
    if found.setting.now is not None and sweep.low <= found.setting.now <= sweep.high:
        axes.axvline(found.setting.now, color="black", linestyle=":", label=f"recipe: {found.setting.now:g}")
    axes.set_xlim(sweep.low, sweep.high)  # before the scale, which would look for limits in curves that are empty
    if not sweep.linear:
        axes.set_xscale("log")
    _cut_above(axes, curve)
    axes.set_ylabel("training loss")
    axes.set_title(plain(f"{Path(found.recipe).stem}: {found.end().partition(':')[0]}"), fontsize="medium")
    axes.legend(fontsize="small")
    for panel in (axes, *below):
        panel.grid(alpha=0.3)
    panel.set_xlabel(plain(found.setting.name))
    try:
        page.savefig(file, dpi=100)
    except OSError as error:
        raise MachineError(f"{file}: cannot be written: {error.strerror}") from error


def _cut_above(axes: Any, curve: Curve) -> None:
    """Leave room for the fall: a loss that has diverged would press it flat."""
    smoothed = [loss for loss in curve.smoothed if math.isfinite(loss)]
    if smoothed:
        begin = max(smoothed[: smoothed.index(min(smoothed)) + 1])
        least = min(loss for loss in curve.losses if math.isfinite(loss))
        room = max(begin - least, 0.1 * abs(begin), 1e-12)
        axes.set_ylim(least - 0.05 * room, begin + 0.35 * room)
