"""What a probe found: one finding for each check, as text and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainkit.errors import printable
from trainkit.page.blocks import Block

Verdict = Literal["good", "doubtful", "bad", "not applicable"]


@dataclass
class Finding:
    """What one check came to.

    Args:
        verdict: ``bad`` where something is broken, ``doubtful`` where it may be meant so.
        expected: what a healthy recipe shows.
        seen: what this one shows; of a check that does not apply, why.
        cure: what to do about it; empty where nothing is to be done.
        figures: numbers behind it, as JSON takes them.
        blocks: what a page shows of it.
        name: the check's name; set by who called the check.
        seconds: how long the check took.
        error: what ended the check, if anything did.
    """

    verdict: Verdict
    expected: str
    seen: str
    cure: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    blocks: Sequence[Block] = ()
    name: str = ""
    seconds: float = 0.0
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON writes it."""
        words = {"check": self.name, "verdict": self.verdict, "expected": self.expected, "seen": self.seen}
        return {**words, "cure": self.cure, "seconds": round(self.seconds, 3), "figures": dict(self.figures)}


def worst(*verdicts: Verdict) -> Verdict:
    """The worst of several verdicts."""
    return max(verdicts, key=("not applicable", "good", "doubtful", "bad").index)


@dataclass
class Probe:
    """All that a probe found.

    Args:
        recipe: the recipe as the user named it.
        about: what was probed, in a line.
        findings: one for each check that was made.
    """

    recipe: str
    about: str
    findings: list[Finding]

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken."""
        return all(finding.verdict != "bad" for finding in self.findings)

    def count(self, verdict: Verdict) -> int:
        """How many findings have that verdict."""
        return sum(finding.verdict == verdict for finding in self.findings)

    @property
    def summary(self) -> str:
        """The closing line, such as ``11 checks: 10 good, 1 doubtful; 8.3 s``."""
        kinds: tuple[Verdict, ...] = ("good", "doubtful", "bad", "not applicable")
        counts = ", ".join(f"{count} {kind}" for kind in kinds if (count := self.count(kind)))
        total = len(self.findings)
        seconds = sum(finding.seconds for finding in self.findings)
        return f"{total} check{'s' * (total != 1)}: {counts}; {seconds:.1f} s"

    def lines(self) -> list[str]:
        """What the terminal shows."""
        lines = [printable(f"{self.recipe}: {self.about}"), ""]
        for finding in self.findings:
            lines.append(f"{finding.verdict:<14}  {finding.name}")
            for label, text in (("expected", finding.expected), ("seen", finding.seen), ("cure", finding.cure)):
                lines += [f"  {label:<8}  {printable(text)}"] if text else []
        return [*lines, "", self.summary]

    def as_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        findings = [finding.as_dict() for finding in self.findings]
        return {"recipe": self.recipe, "about": self.about, "healthy": self.healthy, "checks": findings}
