"""How far long work has come, on standard error: a bar with the time that is left on a terminal, plain lines elsewhere.

A `Screen` has one bar at the most; displays of runs, searches, ensembles and repeats show what they have to say on one.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainkit.console import is_terminal, say
from trainkit.errors import printable
from trainkit.run_text import clock_text, short

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

REFRESH_SECONDS = 0.25
PLAIN_SECONDS = 5.0  # a log file wants a sign of life, not a film
FIRST_SECONDS = 1.0  # what is over before is not worth a line on the way
NARROWEST = 8  # characters of a bar, and of the words before it
LARGE = 100_000  # from so many on, as of bytes, numbers are shown with three digits
Look = Callable[[], tuple[float, int, str]]  # how much is done, of how much, and the words to show


class Pace:
    """How long work will go on, by how long it has taken so far.

    What was done before anybody looked, as of a run that is continued, took none of this time. Between two steps, which
    may be long, such as trials, the time that is left runs down.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # what was done when, at first and when it last changed
        self._last = (0.0, 0.0)

    def left(self, done: float, total: float, now: float) -> float | None:
        """Seconds until ``total`` is done; ``None`` while nobody can tell."""
        if self._first is None or done < self._last[1]:  # something else has begun
            self._first = self._last = (now, done)
        if done > self._last[1]:
            self._last = (now, done)
        (began, before), (at, reached) = self._first, self._last
        if reached <= before or at <= began:
            return None
        return max(0.0, (total - reached) * (at - began) / (reached - before) - (now - at))


class Shares:
    """How much of several runs is done: those that are over, and of the others the share that is trained.

    Args:
        over: how many were over before.
        total: how many there are.
    """

    def __init__(self, over: int = 0, total: int = 0) -> None:
        self.over = over
        self.total = total
        self._going: dict[str, float] = {}

    def trained(self, name: str, share: float) -> None:
        """A run has come so far, 0 to 1."""
        self._going[name] = share

    def ended(self, name: str) -> None:
        """A run is over."""
        self._going.pop(name, None)
        self.over += 1

    @property
    def done(self) -> float:
        """How many are done, in parts."""
        return min(self.total, self.over + sum(tuple(self._going.values())))


def count_text(done: float, total: float) -> str:
    """How much is done of how much: ``3/20``, or ``12.3M/170M``."""
    return f"{short(done)}/{short(total)}" if total >= LARGE else f"{int(done)}/{int(total)}"


def left_text(seconds: float | None) -> str:
    """The time that is left, as ``left 1:02:03``."""
    return f"left {'-:--' if seconds is None else clock_text(seconds)}"


class Screen:
    """Lines on standard error, and a bar below them where it is a terminal.

    Args:
        level: -1 shows nothing.
        terminal: whether a bar can be drawn; found out if not given.
    """

    def __init__(self, level: int = 0, terminal: bool | None = None) -> None:
        self.level = level
        self.terminal = is_terminal(sys.stderr) if terminal is None else terminal
        self._look: Look | None = None
        self._bar: Bar | None = None
        self._work: tuple[int, int, str] | None = None  # something long that is done just now
        self._next_line = 0.0

    def say(self, text: str) -> None:
        """Show lines."""
        if self.level < 0:
            return
        if self._bar is not None:
            self._bar.say(printable(text))
        else:
            say(printable(text))

    def show(self, look: Look) -> None:
        """Show from here on how far something has come; `close` ends it."""
        self.close()
        self._look = look
        self._draw()

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far something long has come that is only a part; see `trainkit.Progress`.

        Beside a bar that is shown it is a few words. It ends when all is done; without a text, it ends unsaid.
        """
        if self.level < 0:
            return
        begun = self._work is None or self._work[2] != text
        self._work = (done, total, text) if text and done < total else None
        if self.terminal:
            if self._work is None and self._look is None:
                self._take_away()
            else:
                self._draw()
            return
        now = time.monotonic()
        if begun:
            self._next_line = now + FIRST_SECONDS
        if text and (done >= total or now >= self._next_line):
            self._next_line = now + PLAIN_SECONDS
            self.say(f"{text}  {count_text(done, total)}")

    def close(self) -> None:
        """Take the bar away; called again without harm."""
        self._look = self._work = None
        self._take_away()

    def _draw(self) -> None:
        if self.level >= 0 and self.terminal and self._bar is None:
            self._bar = Bar(self._seen)

    def _take_away(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _seen(self) -> tuple[float, int, str]:
        """What the bar shows now; called by its thread."""
        look, work = self._look, self._work
        if look is None:
            return work or (0, 0, "")
        done, total, words = look()
        if work is not None:
            words = f"{words}  {work[2]} {work[0] / max(work[1], 1):.0%}"
        return done, total, words


class Bar:
    """A progress bar that draws itself in a thread of its own until it is closed.

    Args:
        look: gives how much is done, of how much, and the words to show.
    """

    def __init__(self, look: Look) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self._look = look
        self._pace = Pace()
        self._progress: RichProgress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=NARROWEST)),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[time]}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, count="", time="")
        self._began = time.monotonic()
        self._update()
        self._progress.start()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_over, name="trainkit-display", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Stop drawing and take the bar away."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # the terminal has gone
            self._progress.stop()

    def _update(self) -> None:
        from rich.text import Text

        now, (done, total, words) = time.monotonic(), self._look()
        count = count_text(done, total) if total else ""
        spent = f"{clock_text(now - self._began)}  {left_text(self._pace.left(done, total, now))}"
        # One line whatever the words are: it is drawn over again and again.
        said = Text(printable(words))
        said.truncate(max(NARROWEST, self._progress.console.width - len(count) - len(spent) - NARROWEST - 4))
        self._progress.update(
            self._task, completed=done, total=total or None, description=said.plain, count=count, time=spent
        )

    def _draw_until_over(self) -> None:
        try:
            while not self._over.wait(REFRESH_SECONDS):
                self._update()
                self._progress.refresh()
        except OSError:  # the terminal has gone; the run goes on
            return
