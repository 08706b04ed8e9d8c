"""The picture of a preview: a panel for each kind of scheduled value, over updates and epochs."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError, UsageError
from trainkit.preview import PLOT_POINTS
from trainkit.run import Run, ScheduledValue

FORMATS = (".png", ".svg", ".pdf")


def check_plot(file: Path) -> None:
    """Refuse a picture that could not be made, before any work.

    Raises:
        UsageError: for a kind of file that it cannot be.
        MachineError: if matplotlib is not installed.
    """
    if file.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {file}: the picture can be {', '.join(FORMATS)}; name one of them")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MachineError(f"--plot {file}: needs matplotlib; install it with: pip install matplotlib") from None


def draw_preview(run: Run, file: Path, title: str) -> None:
    """Draw every scheduled value over the whole run.

    Args:
        run: the run as it would start, with the events that were played.
        file: the picture; its ending says the format.
        title: what stands above it.

    Raises:
        MachineError: if it cannot be written.
    """
    import matplotlib

    # A matplotlibrc of the folder one stands in, which may be a stranger's, has no say.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        _draw(run, file, title)


def _draw(run: Run, file: Path, title: str) -> None:
    # The object interface: pyplot would pick a window system and keep figures in a global list.
    from matplotlib.figure import Figure

    kinds: dict[str, list[ScheduledValue]] = {}
    for value in run.schedules:
        kinds.setdefault(value.label.rpartition("/")[0] or value.label, []).append(value)
    page = Figure(figsize=(8, 0.8 + 2.6 * len(kinds)), layout="constrained")
    page.suptitle(plain(title))
    panels = page.subplots(len(kinds), 1, squeeze=False, sharex=True)[:, 0]
    total = run.total_updates
    stride = max(1, total // PLOT_POINTS)
    times = sorted({*range(0, total, stride), total - 1, *(t for at, _ in run.events for t in (at - 1, at))})
    times = [t for t in times if 0 <= t < total]
    decided = dict.fromkeys(event for _, event in run.events)
    colours = dict(zip(decided, cycle(("tab:red", "tab:green", "tab:purple", "tab:brown")), strict=False))
    for axes, (kind, values) in zip(panels, kinds.items(), strict=True):
        drawn: list[list[float]] = []
        for value in values:
            points = [float(value.at(t, run.schedule_updates, run.events)) for t in times]
            if points not in drawn:  # groups that share their values are one curve
                drawn.append(points)
                axes.step(times, points, where="post", label=plain(value.label))
        if len(drawn) == 1:  # the panel's name says what it is
            axes.lines[0].set_label("_")
        named: set[str] = set()
        for at, event in run.events:
            label = "_" if event in named else plain(event)  # one line of each sort is in the legend
            named.add(event)
            axes.axvline(at, color=colours[event], linestyle=":", linewidth=1.2, label=label)
        axes.set_ylabel("learning rate" if kind == "lr" else plain(kind))
        axes.grid(alpha=0.3)
        low, high = min(map(min, drawn)), max(map(max, drawn))
        # From zero up, unless that would flatten values that hardly differ, such as a momentum's.
        if low >= 0 and (low == high or low < high / 2):
            axes.set_ylim(bottom=0)
        if len(drawn) > 1 or named:
            axes.legend()
    _epochs_above(panels[0], run)
    panels[-1].set_xlabel("update")
    try:
        page.savefig(file, dpi=110)
    except OSError as error:
        raise MachineError(f"{file}: cannot be written: {error.strerror}") from error


def plain(text: str) -> str:
    """A name as it is: no formula, and no mark that would turn or move other text."""
    return "".join(character if character.isprintable() else "?" for character in text).replace("$", r"\$")


def _epochs_above(axes: Any, run: Run) -> None:
    if run.clock.epoch_starts:  # no even scale
        return
    from matplotlib.ticker import MaxNLocator

    per_epoch = run.clock.updates_per_epoch
    above = axes.secondary_xaxis("top", functions=(lambda t: t / per_epoch, lambda epoch: epoch * per_epoch))
    above.xaxis.set_major_locator(MaxNLocator(integer=run.total_updates > 3 * per_epoch))
    above.tick_params(labelsize="small")
    above.set_xlabel("epoch", fontsize="small")
