"""What a person sees of the runs of one recipe: a line for each that has come to rest, and how all of them ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from trainkit.bars import Screen, Shares
from trainkit.run_text import clock_text

_FIGURES = 4  # of a run, on its line
_SIGN_OF_LIFE_S = 5.0  # between two lines of what runs have measured so far
_LONGEST = 200  # of the reason why a run has failed, in characters


class RepeatsDisplay:
    """Shows the runs of one recipe on standard error.

    Args:
        level: -1 shows nothing, 0 the runs, 1 notes too.
        terminal: whether a bar can be drawn; found out if not given.
    """

    def __init__(self, level: int = 0, terminal: bool | None = None) -> None:
        self.level = level
        self.screen = Screen(level, terminal)
        self._shares = Shares()
        self._words = ""
        self._shown = time.monotonic()

    def say(self, text: str) -> None:
        """Show a line."""
        self.screen.say(text)

    def begin(self, over: int, total: int) -> None:
        """Show how many of the runs are over, from here on."""
        self._shares = shares = Shares(over, total)
        if over:
            self.say(f"{over} of {total} runs are over already")
        if over < total:
            self.screen.show(lambda: (shares.done, total, f"runs  {self._words}".rstrip()))

    def progress(self, done: int, total: int, text: str) -> None:
        """Show work that takes long before a run begins, such as decoding images."""
        self.screen.progress(done, total, text)

    def measured(self, name: str, trained: float, figures: Mapping[str, float]) -> None:
        """Show what a run that goes on has measured: on the bar, or in a line now and then."""
        self._shares.trained(name, trained)
        self._words = f"{name} at {100 * trained:.0f} %  {_text(figures, 1)}".rstrip()
        if not self.screen.terminal and time.monotonic() - self._shown > _SIGN_OF_LIFE_S:
            self.say(f"{name} at {100 * trained:.0f} %  {_text(figures)}".rstrip())
            self._shown = time.monotonic()

    def rested(self, name: str, status: str, figures: Mapping[str, float], seconds: float) -> None:
        """Show a run that has ended."""
        self._shares.ended(name)
        self._words, self._shown = "", time.monotonic()
        self.say("  ".join(part for part in (name, status, _text(figures), clock_text(seconds)) if part))

    def failed(self, name: str, status: str, message: str) -> None:
        """Show a run that has failed."""
        self._shares.ended(name)
        first = (message.splitlines() or [""])[0]
        self.say(f"{name}  failed ({status}): {first[:_LONGEST]}")

    def close(self) -> None:
        """Take the bar away; called again without harm."""
        self.screen.close()

    def summarise(self, lines: Sequence[str]) -> None:
        """Show how all ended."""
        self.close()
        if lines:
            self.say("\n".join(lines))


def _text(figures: Mapping[str, float], most: int = _FIGURES) -> str:
    wanted = [(name, value) for name, value in figures.items() if name.startswith(("val.", "test."))]
    return "  ".join(f"{name} {value:.5g}" for name, value in wanted[:most])
