"""What a person sees of an ensemble that is made: a line for each member that is trained, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainkit.bars import Screen, Shares
from trainkit.run_text import clock_text, paths_line
from trainkit.rundir import PAGE
from trainkit.work import Job, Measured, Outcome

if TYPE_CHECKING:
    from trainkit.ensemble.outset import Made

_FIGURES = 3  # of a member, on its line


class EnsembleDisplay:
    """Shows the making of one ensemble on standard error.

    Args:
        level: -1 shows nothing, 0 the ensemble, 1 notes too.
        terminal: whether a bar can be drawn; found out if not given.
    """

    def __init__(self, level: int = 0, terminal: bool | None = None) -> None:
        self.level = level
        self.screen = Screen(level, terminal)
        self._shares = Shares()

    def say(self, text: str) -> None:
        """Show a line."""
        self.screen.say(text)

    def progress(self, done: int, total: int, text: str) -> None:
        """Show work that takes long before any member begins, such as decoding images."""
        self.screen.progress(done, total, text)

    def begin(self, over: int, total: int) -> None:
        """Show how many of the members that are trained are over, from here on."""
        self.close()
        self._shares = shares = Shares(over, total)
        if over < total:
            self.screen.show(lambda: (shares.done, total, "members"))

    def measured(self, job: Job, measured: Measured) -> str:
        """Take in how far a member has come; none is pruned."""
        self._shares.trained(job.name, measured.trained)
        return ""

    def rested(self, name: str, outcome: Outcome) -> None:
        """Show a member that has ended."""
        self._shares.ended(name)
        figures = {key: value for key, value in outcome.metrics.items() if key.startswith("val.")}
        parts = [name, outcome.status, *(f"{key} {value:.5g}" for key, value in list(figures.items())[:_FIGURES])]
        self.say("  ".join([*parts, clock_text(outcome.seconds)]))
        if self._shares.over >= self._shares.total:  # what comes now has a bar of its own
            self.close()

    def close(self) -> None:
        """Take the bar away; called again without harm."""
        self.screen.close()

    def summarise(self, made: Made, again: str = "") -> None:
        """Show how it ended, and what matters next."""
        from trainkit.ensemble.table import summary_lines

        self.close()
        if made.status != "finished":
            self.say(f"{made.status} ({made.reason})\n  next: {again or f'trainkit resume {made.folder}'}")
            return
        lines = [*summary_lines(made.report), *(f"  {line}" for line in _files(made))]
        self.say("\n".join(lines))


def _files(made: Made) -> list[str]:
    """What there is to do with an ensemble, and what was drawn of it."""
    see = (PAGE, "curve.png", "reliability.png")
    lines = [paths_line(made.folder, see=see, model=("ensemble.json",))]
    if drawn := sorted(path.name for path in made.folder.glob("*.png")):
        lines.append(f"{made.folder}: {', '.join(drawn)}")
    return [*lines, f"all of it: trainkit report {made.folder}", f"to use it: trainkit predict {made.folder}"]
