"""What a person sees of a study: its budget, a line for each trial that has come to rest, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.bars import Screen
from trainkit.console import aligned
from trainkit.run_text import clock_text, paths_line
from trainkit.rundir import PAGE
from trainkit.search.folder import WIDER
from trainkit.search.naming import point_text
from trainkit.trial import Record, Study

if TYPE_CHECKING:
    from trainkit.search.report import StudyReport

_LONGEST = 60  # of a point, in characters
_MOST = 12  # trials of a front


class StudyDisplay:
    """Shows one study on standard error.

    Args:
        level: -1 shows nothing, 0 the study, 1 notes too.
        terminal: whether a bar can be drawn; found out if not given.
    """

    def __init__(self, level: int = 0, terminal: bool | None = None) -> None:
        self.level = level
        self.screen = Screen(level, terminal)
        self._best: tuple[float, float] | None = None  # as searchers see it, and as it was measured
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Show a line."""
        self.screen.say(text)

    def begin(self, study: Study) -> None:
        """Look at what a study has so far, and show how far it is."""
        for record in study.records:
            self._compare(record)
        self.screen.show(lambda: (_trained(study), study.trials, self._words(study)))

    def progress(self, done: int, total: int, text: str) -> None:
        """Show work that takes long before a trial begins, such as decoding images."""
        self.screen.progress(done, total, text)

    def rested(self, study: Study, record: Record) -> None:
        """Show a trial that has come to rest."""
        self._compare(record)
        if self.level >= 0:
            self.say(self._line(study, record))

    def close(self) -> None:
        """Take the bar away; called again without harm."""
        self.screen.close()

    def summarise(self, report: StudyReport) -> None:
        """Show how the study ended, and what matters next."""
        self.close()
        if self.level < 0:
            return
        counts = ", ".join(f"{count} {status}" for status, count in report.trials.items())
        lines = [f"{report.status} ({report.reason}): {counts} in {clock_text(report.seconds)}"]
        if report.best is not None:
            test = "  ".join(f"test.{name} {value:.4g}" for name, value in (report.best.get("test") or {}).items())
            figure = f"{report.best['figure']} {report.best['value']:.5g}"
            if report.front:
                lines += [f"  {line}" for line in front_lines(report.front)]
            else:
                lines.append(f"  best: trial {report.best['trial']}  {figure}  {point_text(report.best['point'])}")
            if test:
                of = f"trial {report.best['trial']}, best in {report.best['figure']}," if report.front else "the winner"
                lines.append(f"  {of} on the test samples: {test}")
        lines += [
            f"  {finding['text']}" for finding in report.findings.get("findings", []) if finding["about"] != "bias"
        ]
        if report.status == "finished":
            lines += [f"  {line}" for line in _files(report.folder)]
        else:
            lines.append(f"  next: trainkit resume {report.folder}")
        self.say("\n".join(lines))

    def _compare(self, record: Record) -> None:
        trial = record.trial
        good = trial.status == "done" and trial.final and bool(trial.values)
        if good and (self._best is None or trial.values[0] < self._best[0]):
            self._best = trial.values[0], record.figures[0]

    def _line(self, study: Study, record: Record) -> str:
        trial, width = record.trial, len(str(max(study.trials - 1, 0)))
        parts = [f"trial {trial.number:>{width}}", f"{trial.status:<7}"]
        if record.figures:
            spread = f" +-{record.spread[0]:.2g}" if record.spread else ""
            parts.append(f"{study.objectives[0].figure} {record.figures[0]:.5g}{spread}")
            for objective, figure in zip(study.objectives[1:], record.figures[1:], strict=True):
                parts.append(f"{objective.figure} {figure:.5g}")
        if self._best is not None and len(study.objectives) == 1:
            parts.append(f"best {self._best[1]:.5g}")
        if trial.status == "paused":
            parts.append(f"at {trial.trained:.3g}")
        parts.append(point_text(trial.point, _LONGEST))
        if record.message and trial.status not in ("done", "paused"):
            parts.append(f"({record.message.splitlines()[0][:80]})")
        return "  ".join(part for part in parts if part)

    def _words(self, study: Study) -> str:
        going = sum(1 for record in tuple(study.records) if record.trial.status == "running")
        parts = ["trials", f"{going} running" if going else ""]
        if self._best is not None and len(study.objectives) == 1:
            parts.append(f"best {study.objectives[0].figure} {self._best[1]:.5g}")
        return "  ".join(part for part in parts if part)


def front_lines(front: Sequence[Mapping[str, Any]]) -> list[str]:
    """The trials of a front with their values, a line each."""
    rows = [
        (f"  trial {one['trial']}", *(f"{name} {value:.5g}" for name, value in one["values"].items()))
        for one in front[:_MOST]
    ]
    more = [f"  and {len(front) - _MOST} more"] if len(front) > _MOST else []
    return ["front: the trials that no other one beats in all objectives", *aligned(rows), *more]


def seconds_text(seconds: float, study: Study) -> str:
    """The time that a study has taken; where none of its processes has ended, what its trials have."""
    return clock_text(seconds) if seconds else f"{clock_text(sum(r.seconds for r in study.records))} of its trials"


def _files(folder: Path) -> list[str]:
    """What a search leaves behind for a reader, and the command that shows it again."""
    see = (PAGE, "history.png", "front.png")
    lines = [paths_line(folder, see=see, winner=("best.toml",))]
    if (folder / WIDER).is_file():
        lines.append(f"{folder / WIDER}  the same search over wider ranges")
    if drawn := sorted(path.name for path in folder.glob("*.png")):
        lines.append(f"{folder}: {', '.join(drawn)}")
    return [*lines, f"all of it: trainkit report {folder}"]


def _trained(study: Study) -> float:
    """Trials that have come to rest, with the shares of the others that are trained: trials may take days."""
    share = 0.0
    for record in tuple(study.records):  # the search goes on meanwhile
        reports = record.trial.reports
        if record.trial.status not in ("running", "waiting"):
            share += 1.0
        elif reports:
            share += min(reports[-1][0], 1.0)
    return share
