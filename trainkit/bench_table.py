"""What ``trainkit bench`` found, as a table and as plain data."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

RAW = "raw PyTorch"


@dataclass
class Row:
    """One contender.

    Args:
        name: how the table calls it.
        key: the setting that is switched off; empty for the recipe itself and the raw loop.
        off: what it is switched to, as TOML.
        rounds: what each round gave: CPU and wall seconds, and how many updates they were for.
        failed: why it could not be timed.
    """

    name: str
    key: str = ""
    off: str = ""
    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""

    def per_update(self, clock: str) -> list[float]:
        """Seconds an update, round by round."""
        return [one[clock] / one["updates"] for one in self.rounds]


@dataclass
class Bench:
    """What the rounds gave.

    Args:
        machine: where they were made.
        clock: ``cpu`` or ``wall``: by which ratios are taken.
        warm: updates before those that are timed.
        updates: those that are timed in each round.
        per_epoch: updates of an epoch.
        total: updates of the whole run.
        rounds: how many rounds.
        rows: the raw loop, the recipe, the recipe without each of its means.
        notes: what the raw loop leaves out.
    """

    machine: dict[str, Any]
    clock: str
    warm: int
    updates: int
    per_epoch: int
    total: int
    rounds: int
    rows: list[Row]
    notes: list[str]

    @property
    def base(self) -> Row:
        """What counts as 1: the raw loop, or the recipe where that failed."""
        return next(row for row in self.rows if not row.failed)

    def ratios(self, row: Row) -> list[float]:
        """How many times as fast as the base it is, round by round, slowest first."""
        pairs = zip(self.base.per_update(self.clock), row.per_update(self.clock), strict=True)
        return sorted(base / own for base, own in pairs)

    def lines(self) -> list[str]:
        """The machine, the table as Markdown, and what must be known to read it."""
        m = self.machine
        threads = f"{m['threads']} thread{'s' * (m['threads'] != 1)}"
        lines = [f"{m['device']}, {m['processors']} processors; torch {m['torch']}, Python {m['python']}; {threads}"]
        base = "raw" if self.base is self.rows[0] else "trainkit"
        heads = f"| contender | CPU µs an update | wall µs | x {base}: median [min to max] |"
        lines += ["", heads, "|---|---|---|---|"]
        for row in self.rows:
            if row.failed:
                why = row.failed.strip().splitlines()[0].replace("|", "\\|")
                lines.append(f"| {row.name} | failed: {why} | - | - |")
                continue
            cpu, wall = (statistics.median(row.per_update(clock)) * 1e6 for clock in ("cpu", "wall"))
            ratios = self.ratios(row)
            spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]"
            lines.append(f"| {row.name} | {cpu:.0f} | {wall:.0f} | {spread} |")
        taken = "CPU time of the process" if self.clock == "cpu" else "wall time"
        lines += ["", f"{self.rounds} interleaved rounds of {self.updates} updates each; larger is faster, by {taken}."]
        if self.updates % self.per_epoch:
            # A whole epoch is timed after one that is not.
            cure = f"--updates {self.per_epoch}" if self.total >= 2 * self.per_epoch else "a run of two epochs"
            lines.append(
                f"An epoch has {self.per_epoch} updates: what comes at its end is not in the table; {cure} has it."
            )
        return [*lines, *(f"{note[0].upper()}{note[1:]}." for note in self.notes)]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        rows = []
        for row in self.rows:
            entry: dict[str, Any] = {"contender": row.name, "key": row.key, "off": row.off}
            if row.failed:
                rows.append({**entry, "failed": row.failed})
                continue
            ratios = self.ratios(row)
            micros = {f"{clock}_us": [seconds * 1e6 for seconds in row.per_update(clock)] for clock in ("cpu", "wall")}
            rows.append({**entry, **micros, "ratio": statistics.median(ratios), "ratios": ratios})
        return {
            "machine": self.machine,
            "clock": self.clock,
            "base": self.base.name,
            "updates": self.updates,
            "updates_per_epoch": self.per_epoch,
            "rounds": self.rounds,
            "rows": rows,
            "notes": self.notes,
        }
