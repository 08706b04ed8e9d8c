"""A probe as a page."""

from __future__ import annotations

from collections.abc import Iterator

from trainkit.page.blocks import Section, Table, Text
from trainkit.probe.finding import Finding, Probe


def sections(probe: Probe) -> Iterator[Section]:
    """What a page shows of a probe: all findings in a table, then those that have more to show."""
    cured = any(one.cure for one in probe.findings)
    columns = ("check", "verdict", "expected", "seen", *(["cure"] if cured else []))
    rows = [(one.name, one.verdict, one.expected, one.seen, *([one.cure] if cured else [])) for one in probe.findings]
    tone = "good" if probe.healthy else "bad"
    yield Section("Checks", [Text(probe.about), Text(probe.summary, tone), Table(columns, rows)])
    for finding in probe.findings:
        if finding.blocks:
            yield Section(finding.name, [*_words(finding), *finding.blocks])


def _words(finding: Finding) -> Iterator[Text]:
    yield Text(f"Expected: {finding.expected}.")
    tones = {"good": "good", "bad": "bad", "doubtful": "note"}
    yield Text(f"Seen: {finding.seen}.", tones.get(finding.verdict, "plain"))
    if finding.cure:
        yield Text(f"Cure: {finding.cure}.", "note")
