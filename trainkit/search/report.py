"""What ``report.json`` of a study holds."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainkit.search.log import finite
from trainkit.trial import Record, Study


@dataclass
class StudyReport:
    """How a study ended, or stopped.

    Args:
        folder: the study folder.
        status: ``finished``; ``interrupted`` by a signal or the time limit, to be continued; ``failed``.
        reason: why, in words.
        trials: how many trials have each status.
        best: the best trial; ``None`` if none is done.
        front: of several objectives, the trials that no other one beats in all of them.
        epochs: epochs trained in all trials.
        seconds: wall seconds of the study, all its processes together.
        notes: what a reader should know.
        findings: what was found out about the results.
    """

    folder: Path
    status: Literal["finished", "interrupted", "failed"]
    reason: str
    trials: dict[str, int]
    best: dict[str, Any] | None
    front: list[dict[str, Any]]
    epochs: float
    seconds: float
    notes: list[str] = field(default_factory=list)
    findings: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON writes it."""
        made = {key.name: getattr(self, key.name) for key in dataclasses.fields(self) if key.name != "folder"}
        if not self.front:
            del made["front"]
        if not self.findings:
            del made["findings"]
        return made


def report_of(study: Study, status: Any, reason: str, seconds: float, notes: list[str]) -> StudyReport:
    """The report of a study as it stands."""
    counts = Counter(record.trial.status for record in study.records)
    best = study.best()
    found = None
    if best is not None:
        found = entry_of(study, best)
        for name in ("test", "test_of", "refit"):
            if name in study.winner and study.winner.get("trial") == best.trial.number:
                found[name] = study.winner[name]
    return StudyReport(
        folder=study.folder,
        status=status,
        reason=reason,
        trials=dict(sorted(counts.items())),
        best=found,
        front=[entry_of(study, record) for record in study.front()] if len(study.objectives) > 1 else [],
        epochs=round(sum(record.epochs for record in study.records), 6),
        seconds=round(seconds, 3),
        notes=notes,
        findings=study.findings,
    )


def entry_of(study: Study, record: Record) -> dict[str, Any]:
    """A trial as ``report.json`` has it."""
    entry: dict[str, Any] = {
        "trial": record.trial.number,
        "figure": study.objectives[0].figure,
        "value": record.figures[0],
        "point": dict(record.trial.point),
        "metrics": finite(record.metrics),
    }
    if len(record.figures) > 1:
        names = [objective.figure for objective in study.objectives]
        entry["values"] = dict(zip(names, record.figures, strict=True))
    if record.spread:
        entry["spread"] = record.spread[0]
    return entry
