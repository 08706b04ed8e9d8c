"""What came of a run, a study or an ensemble, from its ``report.json``, under names that all three have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ENDED = ("finished", "stopped")  # the status of a run whose last figures are those of its end
_SPLITS = {"validation": "val", "test": "test"}


def results_of(kind: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a report that two of them are compared by.

    Args:
        kind: ``run``, ``study``, ``ensemble`` or ``repeats``.
        report: what ``report.json`` holds, which may be a stranger's; values of another form are left out.
    """
    made = {"run": _run, "study": _study, "ensemble": _ensemble, "repeats": _repeats}[kind](report)
    found = {"status": report.get("status"), **dict(made)}
    return {key: value for key, value in found.items() if isinstance(value, int | float | str)}


def _run(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _table(report, "metrics")
    best = dict(_table(report, "best"))
    if isinstance(metric := best.get("metric"), str):
        yield f"best {metric}", best.get("value")
        yield "best step", best.get("step")
    for key in ("steps", "epochs", "seconds", "weights_sha256"):
        yield key, report.get(key)


def _study(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    best = dict(_table(report, "best"))
    yield from ((key, value) for key, value in _table(best, "metrics") if key not in ("seconds", "parameters"))
    yield from ((f"test.{key}", value) for key, value in _table(best, "test"))
    if isinstance(figure := best.get("figure"), str):
        yield f"best {figure}", best.get("value")
        yield "best trial", best.get("trial")
    yield from ((f"best {key}", value) for key, value in _table(best, "point"))
    yield from ((f"trials {key}", value) for key, value in _table(report, "trials"))
    for key in ("epochs", "seconds"):
        yield key, report.get(key)


def _ensemble(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kind = report.get("kind")
    whole = dict(_table(report, "ensemble"))
    for split, name in _SPLITS.items():
        figures = dict(_table(whole, split))
        for metric, figure in _table(figures, kind if isinstance(kind, str) else ""):
            yield f"{name}.{metric}", figure.get("value") if isinstance(figure, Mapping) else None
    members = report.get("members")
    if isinstance(members, list):
        kept = [member for member in members if isinstance(member, Mapping) and member.get("kept")]
        yield "members", len(kept)
    for key in ("ensembler", "temperature", "ensemble_sha256"):
        yield key, report.get(key)


def _repeats(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _table(report, "metrics")  # means
    for key, found in _table(report, "spread"):
        for name in ("sd", "n"):
            yield f"{name} {key}", found.get(name) if isinstance(found, Mapping) else None


def _table(holder: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    value = holder.get(key)
    if isinstance(value, Mapping):
        yield from value.items()
