"""What a person sees of a run: a block at its start, progress, a summary. A listener like any other: hooks alone."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.bars import Screen
from trainkit.hookspecs import hookimpl
from trainkit.memory import memory_line
from trainkit.run_text import clock_text, paths_line, profile_lines, short, start_block, weights_at
from trainkit.rundir import PAGE

if TYPE_CHECKING:
    from trainkit.run import Metrics, Report, Run


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
        self.screen = Screen(level, terminal)
        self.terminal = self.screen.terminal
        self.run: Run | None = None
        self.folder: Path | None = None
        self._evaluating = ""  # the split that is measured just now
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
        self.close()
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
            run.measuring = lambda done, total: self.screen.progress(done, total, self._evaluating)
            self.screen.show(lambda: (run.position, run.total_updates, self._words(run)))

    @hookimpl(trylast=True)
    def trainkit_epoch_start(self, run: Run) -> None:
        """Measure from here how fast samples pass."""
        # The time since the last evaluation went into saving, not into training.
        self._mark, self._mark_position = time.monotonic(), run.position

    @hookimpl(wrapper=True, tryfirst=True)
    def trainkit_evaluate(self, run: Run, split: str) -> Generator[None, Metrics, Metrics]:
        """Show the figures of each validation."""
        trained = time.monotonic() - self._mark
        self._evaluating = f"evaluating {split}"
        try:
            figures = yield
        finally:
            self.screen.progress(0, 0, "")
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
        """Show how far something long has come, such as decoding images; see `trainkit.Progress`."""
        self.screen.progress(done, total, text)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; called again without harm."""
        self.screen.close()

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
            kept_at = weights_at(self.folder)
            paths = paths_line(self.folder, see=(PAGE, "curves.png"), weights=(kept_at,) if kept_at else ())
            lines.append(f"  {paths}")
            ready = f"evaluate {self.folder}{self._split()}"
            lines.append(f"  next: trainkit {f'resume {self.folder}' if report.status == 'interrupted' else ready}")
        self._say("\n".join(lines))

    def _split(self) -> str:
        """How to name the split to measure where the data has none for testing."""
        sizes = {} if self.run is None else self.run.feed.spec.sizes
        found = next((name for name in ("test", "val", "train") if sizes.get(name)), "test")
        return "" if found == "test" else f" --split {found}"

    def show_profile(self, report: Report) -> None:
        """Show where the time of the run went, as ``--profile`` asks."""
        if self.run is not None:
            lines = profile_lines(self.run.profile, self.run.position, report.seconds)
            self._say("\n".join([*lines, *filter(None, [memory_line(report.memory)])]))

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
        newest = dict(sorted(newest.items()))  # each in its place, whichever came last
        epoch = min(run.epoch + 1, math.ceil(run.clock.epochs_at(run.total_updates)))
        return "  ".join([f"epoch {epoch}", *(f"{name} {value:.3f}" for name, value in newest.items())])

    def _say(self, text: str) -> None:
        self.screen.say(text)
