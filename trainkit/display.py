"""What a person sees of a run: a block at its start, progress, a summary. A listener like any other: hooks alone."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import is_terminal, say
from trainkit.errors import printable
from trainkit.hookspecs import hookimpl
from trainkit.run_text import clock_text, profile_lines, short, start_block

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from trainkit.run import Metrics, Report, Run

REFRESH_SECONDS = 0.25
_PLAIN_PROGRESS_SECONDS = 5.0  # a log file wants a sign of life, not a film


class Display:
    """Shows one run on standard error.

    A thread looks at ``run.step`` a few times a second, so that nothing of it stands in the loop.

    Args:
        level: -1 shows nothing, 0 the run, 1 notes and timings too.
        recipe: the recipe's name, for the block at the start.
        terminal: whether a bar can be drawn; found out if not given.
    """

    def __init__(self, level: int = 0, recipe: str = "", terminal: bool | None = None) -> None:
        self.level = level
        self.recipe = recipe
        self.terminal = is_terminal(sys.stderr) if terminal is None else terminal
        self.run: Run | None = None
        self.folder: Path | None = None
        self._bar: Bar | None = None
        self._work: Bar | None = None
        self._work_shown = 0.0
        self._started = self._mark = time.monotonic()
        self._mark_position = 0
        self._best: float | None = None
        self._evaluated_at = -1
        self._seen = 0  # lines of the run's history
        self._train_loss: float | None = None
        self._over = False  # what is measured from here on is nobody's progress

    # ------------------------------------------------------------ hooks

    @hookimpl(trylast=True)
    def trainkit_run_start(self, run: Run) -> None:
        """Show what is about to run, and begin to look at it."""
        self._end_work()
        self.run, self.folder = run, run.folder
        self._started = self._mark = time.monotonic()
        self._mark_position = run.position
        self._seen, self._train_loss, self._over = 0, None, False
        for line in self._new_lines(run):  # of a run that is continued
            self._compare(run, {f"{line['split']}.{name}": value for name, value in line.items()})
        if self.level < 0:
            return
        self._say("\n".join(start_block(run, self.recipe)))
        if self.terminal:
            self._bar = Bar(lambda: (run.position, run.total_updates, self._words(run)))

    @hookimpl(trylast=True)
    def trainkit_epoch_start(self, run: Run) -> None:
        """Measure from here how fast samples pass."""
        # The time since the last evaluation went into saving, not into training.
        self._mark, self._mark_position = time.monotonic(), run.position

    @hookimpl(wrapper=True, tryfirst=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        """Show the figures of each validation."""
        trained = time.monotonic() - self._mark
        figures = yield
        shown = split == "val" and self.run is not None and not self._over
        if shown and isinstance(figures, Mapping):  # else the recorder refuses them
            self._line(run, {f"{split}.{name}": value for name, value in figures.items()}, trained)
        self._mark, self._mark_position = time.monotonic(), run.position
        return figures

    @hookimpl
    def trainkit_epoch_end(self, run: Run, metrics: Metrics) -> None:
        """Show an epoch where no validation did."""
        if run.position != self._evaluated_at and "val" not in run.feed.spec.sizes:
            self._line(run, {}, time.monotonic() - self._mark)
            self._mark, self._mark_position = time.monotonic(), run.position

    @hookimpl(tryfirst=True)
    def trainkit_run_end(self, run: Run, report: Report) -> None:
        """Take the bar away."""
        self._over = True
        self.close()

    # ------------------------------------------------------------ called by the command line

    def progress(self, done: int, total: int, text: str) -> None:
        """Show how far work before the first update has come; see `trainkit.Progress`."""
        if self.level < 0:
            return
        if self.terminal:
            if self._work is None:
                self._state = (done, total, text)
                self._work = Bar(lambda: self._state)
            self._state = (done, total, text)
            if done >= total:
                self._end_work()
        elif done >= total or time.monotonic() - self._work_shown > _PLAIN_PROGRESS_SECONDS:
            self._work_shown = time.monotonic()
            self._say(f"{text}  {done}/{total}")

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars away; called again without harm."""
        self._end_work()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def summarise(self, report: Report, kept: bool = True) -> None:
        """Show how the run ended, and the paths that matter next.

        Args:
            report: how the run ended.
            kept: whether the run folder stays.
        """
        if self.level < 0:
            return
        figures = "  ".join(f"{name} {value:.4g}" for name, value in report.metrics.items() if name.startswith("test."))
        best = ""
        if report.best is not None:
            best = f"  best {report.best['metric']} {report.best['value']:.4g} at step {report.best['step']}"
        reason = "" if report.status == "finished" and kept else f" ({report.reason})"
        head = (
            f"{report.status}{reason}: {report.steps} updates, {report.epochs:g} epochs in {clock_text(report.seconds)}"
        )
        lines = [head + best + ("  " + figures if figures else "")]
        if kept and self.folder is not None:
            paths = [self.folder / name for name in ("report.json", "report.html", "curves.png")]
            lines.append("  " + "  ".join(str(path) for path in paths if path.exists()))
            lines.append(f"  next: trainkit {'resume' if report.status == 'interrupted' else 'evaluate'} {self.folder}")
        self._say("\n".join(lines))

    def show_profile(self, report: Report) -> None:
        """Show where the time of the run went, as ``--profile`` asks."""
        if self.run is not None:
            self._say("\n".join(profile_lines(self.run.profile, self.run.position, report.seconds)))

    def profile(self) -> dict[str, dict[str, float]]:
        """The same as plain data: seconds and calls by what they were spent on."""
        spent = {} if self.run is None else self.run.profile
        return {label: {"seconds": part.seconds, "calls": part.calls} for label, part in spent.items()}

    # ------------------------------------------------------------ inside

    def _line(self, run: Run, figures: Mapping[str, float], trained: float) -> None:
        self._evaluated_at = run.position
        self._compare(run, figures)
        # A bar already shows this; as lines it is for logs, and for those who ask for more.
        if self.level < 0 or (self.terminal and self.level < 1):
            return
        for _ in self._new_lines(run):
            pass
        newest = {} if self._train_loss is None else {"train.loss": self._train_loss}
        parts = [self._where(run), *(f"{name} {number:.3f}" for name, number in {**newest, **figures}.items())]
        if self._best is not None:
            parts.append(f"best {self._best:.3f}")
        epochs = run.clock.epochs_at(run.position) - run.clock.epochs_at(self._mark_position)
        parts.append(f"{short(epochs * run.feed.spec.sizes['train'] / max(trained, 1e-9))} samples/s")
        parts.append(clock_text(time.monotonic() - self._started))
        self._say("  ".join(parts))

    def _compare(self, run: Run, figures: Mapping[str, float]) -> None:
        monitor = run.recipe["run"]["monitor"]
        value = figures.get(monitor)
        if value is not None and value - value == 0:
            pick = max if run.higher_is_better(monitor) else min
            self._best = value if self._best is None else pick(self._best, value)

    def _new_lines(self, run: Run) -> Iterator[Mapping[str, Any]]:
        """Lines that were written since the last call, each looked at for the training loss: a run has many."""
        while block := run.history[self._seen : self._seen + 1024]:
            self._seen += len(block)
            for line in block:
                if line["split"] == "train" and isinstance(line.get("loss"), float):
                    self._train_loss = line["loss"]
                yield line

    def _where(self, run: Run) -> str:
        done, planned = (run.clock.epochs_at(updates) for updates in (run.position, run.total_updates))
        epochs = f"{round(done, 2):g}/{round(planned, 2):g}"
        return f"epoch {epochs}  step {run.position}/{run.total_updates}"

    def _words(self, run: Run) -> str:
        newest: dict[str, float] = {}
        for line in run.history[-2:]:
            if isinstance(line.get("loss"), float):
                newest[f"{line['split']}.loss"] = line["loss"]
        epoch = min(run.epoch + 1, math.ceil(run.clock.epochs_at(run.total_updates)))
        return "  ".join([f"epoch {epoch}", *(f"{name} {value:.3f}" for name, value in newest.items())])

    def _say(self, text: str) -> None:
        bar = self._bar or self._work
        if bar is not None:
            bar.say(printable(text))
        else:
            say(printable(text))

    def _end_work(self) -> None:
        if self._work is not None:
            self._work.close()
            self._work = None


class Bar:
    """A progress bar that draws itself in a thread of its own until it is closed.

    Args:
        look: gives how much is done, of how much, and the words to show.
    """

    def __init__(self, look: Callable[[], tuple[int, int, str]]) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._look = look
        self._progress: RichProgress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
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

    def _draw_until_over(self) -> None:
        try:
            while not self._over.wait(REFRESH_SECONDS):
                done, total, words = self._look()
                self._progress.update(self._task, completed=done, total=total, description=printable(words))
                self._progress.refresh()
        except OSError:  # the terminal has gone; the run goes on
            return
