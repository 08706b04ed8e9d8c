"""What ``report.json`` of repeats holds: how each run ended, and the mean and spread of every figure."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.arguments import STUDY_ENSEMBLE
from trainkit.console import aligned
from trainkit.evidence import LEVEL, spread
from trainkit.repeats.plan import Plan
from trainkit.results import kind_of, read_object
from trainkit.run_text import clock_text
from trainkit.trial_results import ENDED, results_of

FORMAT = 1
_FIGURE = re.compile(r"(best )?(train|val|test)\.\S+")  # what has a spread; not steps, hashes and hyperparameters


def is_over(folder: Path, tables: Mapping[str, Any]) -> bool:
    """Whether a run, a study with its ensemble, or an ensemble has ended as its recipe says; a failed one has not.

    Args:
        folder: its folder.
        tables: its recipe.
    """
    both = "search" in tables and "ensemble" in tables
    folders = [folder, folder / STUDY_ENSEMBLE] if both else [folder]
    return all(read_object(one / "report.json", []).get("status") in ENDED for one in folders)


def made_report(
    folder: Path, plan: Plan, status: str, reason: str, seconds: float, failed: Mapping[str, str]
) -> dict[str, Any]:
    """Read how the runs in a folder ended, and put together what they say.

    Args:
        folder: the folder.
        plan: which runs there are.
        status: ``finished``, ``interrupted`` or ``failed``.
        reason: why, in words.
        seconds: wall time of this process.
        failed: why runs failed, by name; their own reports may not say it.
    """
    runs, held = [], dict[str, list[float]]()
    for repeat in plan.repeats:
        name = repeat.name
        found = _result(folder / name)
        entry: dict[str, Any] = {"name": name, "seed": repeat.seed, "fold": repeat.fold, "status": "missing"}
        entry |= {key: found[key] for key in ("status", "reason", "seconds", "weights_sha256") if key in found}
        if name in failed:
            entry |= {"status": "failed", "reason": failed[name]}
        entry["metrics"] = figures = {key: value for key, value in found.items() if _is_figure(key, value)}
        runs.append(entry)
        if entry["status"] in ENDED:
            for key, value in figures.items():
                held.setdefault(key, []).append(value)
    spreads = {key: _spread(values, plan.folds) for key, values in held.items()}
    return {
        "format": FORMAT,
        "status": status,
        "reason": reason,
        "over": plan.over,
        "seconds": round(seconds, 3),
        "metrics": {key: value["mean"] for key, value in spreads.items()},
        "spread": spreads,
        "level": LEVEL,
        "runs": runs,
    }


def _result(folder: Path) -> dict[str, Any]:
    """What came of one run, study or ensemble: of a study with an ensemble, what the ensemble can do too."""
    report = read_object(folder / "report.json", [])
    kind = kind_of(folder)
    if not report or kind == "repeats":
        return {}
    found = results_of(kind, report)
    if found.get("status") == "failed":
        found["reason"] = str(report.get("reason", ""))
    within = folder / STUDY_ENSEMBLE
    if kind == "study" and within.is_dir():
        made = results_of("ensemble", read_object(within / "report.json", []))
        found |= {f"ensemble's {key}": value for key, value in made.items()}
    return found


def _is_figure(key: str, value: Any) -> bool:
    named = _FIGURE.fullmatch(key.removeprefix("ensemble's ")) is not None
    return named and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _spread(values: Sequence[float], folds: int) -> dict[str, Any]:
    found = dataclasses.asdict(spread(values, folds))
    return {**found, "least": min(values), "most": max(values)}


def report_lines(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """The table of a report, and what to do next."""
    runs, spreads = report["runs"], report["spread"]
    ended = sum(one["status"] in ENDED for one in runs)
    why = "" if report["status"] == "finished" else f" ({report['reason'].splitlines()[0]})"
    lines = [f"{report['status']}{why}: {ended} of {len(runs)} runs in {clock_text(report['seconds'])}"]
    if spreads:
        rows = [("", "mean", "sd", f"{100 * report['level']:.0f} % interval of the mean", "least", "most", "n")]
        rows += [(key, *_cells(found)) for key, found in spreads.items()]
        lines += aligned(rows, "  ")
    if ended == 1:
        lines.append("  one run: how far another one would be from it is not known")
    if "fold" in report["over"] and ended > 1:
        lines.append("  folds share training samples: the intervals are wider by that (Nadeau and Bengio 2003)")
    lines += [
        f"  {one['name']} failed: {(one.get('reason', '').splitlines() or [''])[0][:200]}"
        for one in runs
        if one["status"] == "failed"
    ]
    if report["status"] == "interrupted" or any(one["status"] not in ENDED for one in runs):
        lines.append(f"  next: trainkit resume {folder}")
    else:
        lines += [f"  {folder / 'report.json'}", f"  next: trainkit compare {folder} OTHER"]
    return lines


def _cells(found: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = found["low"], found["high"]
    between = "" if low is None else f"{low:.4g} to {high:.4g}"
    sd = "" if found["sd"] is None else f"{found['sd']:.2g}"
    return (f"{found['mean']:.4g}", sd, between, f"{found['least']:.4g}", f"{found['most']:.4g}", str(found["n"]))
