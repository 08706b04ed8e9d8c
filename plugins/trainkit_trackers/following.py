"""What all trackers share: they follow the lines of a run, and hand each on once, also where the run is continued."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from trainkit import MachineError, Metrics, Report, Run, hookimpl
from trainkit_trackers.sent import Sent

Line = Mapping[str, Any]
BLOCK = 1024  # lines that are read at once: a run that is continued may have millions
NO_FIGURES = ("step", "epoch", "split", "time")


class Follower(ABC):
    """Is given the lines of a run as they are written, in their order."""

    stateless = True  # for checkpoints: it keeps what it must in files of the run folder
    writes = "a table"  # what messages call that for which it writes
    last_line = True  # whether it is given the line that an interrupted run writes for its report alone

    def __init__(self) -> None:
        self._began = self._opened = self._failed = self._continues = False
        self._seen = 0  # lines of the run's history that it was given
        self._saved = 0  # lines when the newest checkpoint was saved

    # ------------------------------------------------------------ what each one does

    def open(self, run: Run) -> bool:
        """Begin, or go on with what the run folder says was begun. Called with the first lines, not before.

        Returns:
            Whether it goes on: what earlier processes gave is there.
        """
        return False

    @abstractmethod
    def take(self, run: Run, start: int, lines: Sequence[Line]) -> None:
        """Take lines, the first of which has the number ``start``."""

    def end(self, run: Run, report: Report) -> None:  # noqa: B027 - a table needs no end
        """Close: all lines were given. Called where it was opened, also where that failed."""

    # ------------------------------------------------------------ hooks

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        """Follow from here on; a run that is built to be evaluated alone never gets here."""
        self._began = True

    @hookimpl
    def trainkit_figures(self, run: Run) -> Metrics | None:
        """Take the lines before the one that is being written; there are no figures to add."""
        self._follow(run, len(run.history))
        return None

    @hookimpl
    def trainkit_epoch_end(self, run: Run, metrics: Metrics) -> None:
        """Take the lines of the epoch."""
        self._follow(run, len(run.history))

    @hookimpl
    def trainkit_save(self, run: Run) -> Mapping[str, Any] | None:
        """Take what a run that is continued from this checkpoint will have; there is no state to keep."""
        self._saved = len(run.history)
        self._follow(run, self._saved)
        return None

    @hookimpl
    def trainkit_run_end(self, run: Run, report: Report) -> None:
        """Take the rest, and close."""
        try:
            interrupted = report.status == "interrupted" and not self.last_line
            self._follow(run, self._saved if interrupted else len(run.history))
        finally:
            opened, self._began, self._opened = self._opened, False, False
            if opened:
                with self._named():
                    self.end(run, report)

    # ------------------------------------------------------------ inside

    def _follow(self, run: Run, until: int) -> None:
        if not self._began or self._failed or self._seen >= until:
            return
        self._failed = True  # until this is done: where it fails, all that is left to do is to close
        with self._named():
            if not self._opened:
                self._opened = True
                self._continues = self.open(run)
            while self._seen < until:
                lines = run.history[self._seen : min(until, self._seen + BLOCK)]
                self.take(run, self._seen, lines)
                self._seen += len(lines)
        self._failed = False

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Within this, what the program that it writes for raises is no defect of the logger, and says whose it is."""
        try:
            yield
        except Exception as error:
            first = (str(error) or "no message").splitlines()[0]
            raise MachineError(
                f"{self.writes}: {type(error).__name__}: {first}\n  what it was not given is in metrics.jsonl; a run "
                "that is continued gives it once more"
            ) from error


class Tracker(Follower):
    """Hands each line on once, to where none can be taken back by cutting a file.

    What was handed on is noted in the run folder (`sent.Sent`), not in checkpoints: another run may begin with the
    checkpoint, and is another run for the tracker too. Where a run goes on from its checkpoint, the lines behind it are
    made once more; they are skipped where they say the same. `turned_back` is told of the first that is not, which may
    say something else because somebody changed the recipe.

    Args:
        name: what its file in the run folder is called.
    """

    last_line = False  # it is cut off where the run goes on

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._sent: Sent | None = None
        self._goes_on = False  # behind what earlier processes have handed on

    @abstractmethod
    def hand_on(self, lines: Sequence[Line], done: Callable[[], None]) -> None:
        """Hand lines on, in their order.

        Args:
            lines: the lines.
            done: to be called when they are there; a process that is killed before hands them on once more.
        """

    def turned_back(self, step: int) -> bool:
        """A run goes on at this update: the lines from it on are made anew, and may differ from those that are there.

        Returns:
            Whether what was handed on from that update on is taken back: all lines from there on are handed on again.
        """
        return False

    @abstractmethod
    def close(self, report: Report) -> None:
        """Close: all lines were handed on."""

    def take(self, run: Run, start: int, lines: Sequence[Line]) -> None:
        """Hand on those that were not handed on before."""
        if self._sent is None:
            self._sent = Sent(run.folder / f".{self._name}-lines")
            if not self._continues:  # somebody has removed what was begun, or wants it elsewhere
                self._sent.cut(0)
        new = self._new_ones(run, self._sent, start, lines)
        if new:
            # Noted afterwards: a process that is killed in between hands a few lines on twice, and loses none.
            self.hand_on(new, partial(self._sent.add, self._sent.entries(new)))

    def end(self, run: Run, report: Report) -> None:
        """Close."""
        self.close(report)

    def _new_ones(self, run: Run, sent: Sent, start: int, lines: Sequence[Line]) -> Sequence[Line]:
        """The lines that were not handed on, and those that are handed on again."""
        for place, line in enumerate(lines):
            number = start + place
            was = sent.step_of(number)
            if was is not None and sent.same(number, line):
                continue
            again: list[Line] = []
            if len(sent) and not self._goes_on:
                # Also where all that is noted is the same: more may have been handed on than was noted.
                again = self._again(run, min(int(line["step"]), was if was is not None else int(line["step"])), number)
                sent.cut(number - len(again))
            self._goes_on = True
            return [*again, *lines[place:]]
        return ()

    def _again(self, run: Run, step: int, number: int) -> list[Line]:
        """The lines before ``number`` that went with what was taken back."""
        again: list[Line] = []
        if self.turned_back(step):
            while len(again) < number and (line := run.history[number - len(again) - 1])["step"] >= step:
                again.insert(0, line)
        return again


def figures_of(line: Line) -> dict[str, float]:
    """The figures of a line by the names that trackers show them by: ``val/loss``, and ``lr/0`` as the run logs it.

    They are grouped by what stands before the stroke. Values that are not finite, which are null in the line, are left
    out: no tracker draws them.
    """
    return {
        name if "/" in name else f"{line['split']}/{name}": float(value)
        for name, value in line.items()
        if name not in NO_FIGURES and value is not None
    }


def settings_of(recipe: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """A filled recipe as dotted keys and plain values, as trackers compare runs by; lists of values become text."""
    found: dict[str, bool | int | float | str] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                walk(item, f"{name}.{number}")
        elif isinstance(value, bool | int | float | str):
            found[name] = value
        elif value is not None:
            found[name] = str(list(value)) if isinstance(value, list | tuple) else str(value)

    walk(recipe, "")
    return found
