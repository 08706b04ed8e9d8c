"""What ``trainkit verify-resume`` found: what differs between a run and the same run with interruptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PARTS = ("weights", "optimizer", "plugins", "random", "progress", "metrics")


@dataclass(frozen=True)
class Difference:
    """Something that is another with the interruptions than without.

    Args:
        update: the first update after which it is.
        part: one of `PARTS`, or ``held`` for what an object holds and does not save.
        name: the tensor, entry or attribute.
        straight: what it is without interruptions, where that can be shown.
        resumed: what it is with them.
    """

    update: int
    part: str
    name: str
    straight: str = ""
    resumed: str = ""

    def __str__(self) -> str:
        shown = f" is {self.resumed}, and {self.straight} without the interruptions" if self.straight else " differs"
        return f"update {self.update}: {self.part}: {self.name}{shown}"


@dataclass
class Verdict:
    """What a trial found.

    Args:
        updates: how long the trial was.
        interruptions: ``(update, "kill" or "stop")``.
        reproducible: whether two runs without interruptions were alike.
        refused: why a continuation was refused, if it was.
        differences: what differs, what differed first coming first.
        suspects: what objects hold, do not save, and hold otherwise after an interruption.
    """

    updates: int
    interruptions: list[tuple[int, str]] = field(default_factory=list)
    reproducible: bool = True
    refused: str = ""
    differences: list[Difference] = field(default_factory=list)
    suspects: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether the run ended alike."""
        return self.reproducible and not self.refused and not self.differences

    @property
    def parts(self) -> dict[str, bool]:
        """Which parts were alike throughout."""
        bad = {difference.part for difference in self.differences}
        return {part: part not in bad for part in PARTS}

    def as_dict(self) -> dict[str, Any]:
        """The verdict as JSON writes it."""
        first = self.differences[0] if self.differences else None
        return {
            "equal": self.equal,
            "reproducible": self.reproducible,
            "refused": self.refused or None,
            "updates": self.updates,
            "interruptions": [{"update": update, "how": how} for update, how in self.interruptions],
            "parts": self.parts,
            "first": vars(first) if first else None,
            "suspects": [vars(suspect) for suspect in self.suspects],
        }

    def lines(self) -> list[str]:
        """The verdict for people."""
        done = {"kill": "killed", "stop": "stopped"}
        where = ", ".join(f"{done[how]} after update {update}" for update, how in self.interruptions)
        lines = [f"{self.updates} updates, {where}, and continued each time"] if where else []
        if not self.reproducible:
            lines.append("two runs without interruptions differ already: no continued run could be compared with them")
        elif self.refused:
            return [*lines, "the run could not be continued:", *(f"  {line}" for line in self.refused.splitlines())]
        if self.equal:
            lines.append(f"equal to the last bit: {', '.join(PARTS)}")
        else:
            alike = [part for part, same in self.parts.items() if same]
            lines += [f"not equal; alike are only: {', '.join(alike) or 'none'}", "what differed first:"]
            first = self.differences[0].update if self.differences else 0
            lines += [f"  {found}" for found in self.differences if found.update == first][:8]
        if self.suspects:
            lines.append("held, not saved, and another after an interruption; look here first:")
            lines += [f"  {suspect}" for suspect in self.suspects[:8]]
        return lines
