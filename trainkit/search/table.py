"""``trainkit report``: what a study has come to, read from its log, while the search runs or after it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainkit.console import aligned, emit, emit_json, emit_table
from trainkit.errors import UsageError
from trainkit.manager import Plugins
from trainkit.rundir import PAGE, check_links, read_text
from trainkit.search.closing import find_out, pictures, tell_plugins
from trainkit.search.folder import WIDER, is_study
from trainkit.search.ledger import Ledger, read_ledger
from trainkit.search.naming import short_names, value_text
from trainkit.search.report import entry_of, report_of
from trainkit.search.show import front_lines, seconds_text
from trainkit.trial import Record, Study


@dataclass(frozen=True)
class Row:
    """One of the best trials.

    Args:
        record: the trial.
        train: the first objective's figure on training samples; ``None`` where it is not measured.
        gap: how much worse that figure is on validation samples, at the same evaluation.
        verdict: ``best``, ``ties``, ``overfits``, ``underfits`` or ``worse``; of several objectives ``front`` or
            ``beaten``.
    """

    record: Record
    train: float | None
    gap: float | None
    verdict: str


def show_study(
    folder: Path, plugins: Plugins, top: int, as_json: bool, say: Callable[[str], None], page: Path | None = None
) -> None:
    """Show a study; nothing of it is changed but its page and pictures, made anew where it is over or has none.

    Args:
        folder: the study folder.
        plugins: the plugins of this process.
        top: how many of the best trials are listed.
        as_json: one JSON object instead of text.
        say: told what a plugin could not do.

    Raises:
        UsageError: if the folder holds no study.
        MachineError: if its log cannot be read, or a name in it leads out of it.
    """
    check_links(folder)
    if not is_study(folder):
        raise UsageError(f"{folder}: no study (no study.jsonl)")
    ledger = read_ledger(folder)
    study, status, reason = ledger.study, *_status(folder, ledger)
    if not study.findings:
        find_out(study, plugins)
    if status == "finished" or not pictures(folder):
        tell_plugins(study, plugins, say)
    made = rows(study)[:top]
    if as_json:
        if page is None and (folder / PAGE).is_file():
            page = folder / PAGE
        emit_json({**_as_dict(ledger, status, reason, made), "html": None if page is None else str(page)})
        return
    emit("\n".join(_head(ledger, status, reason)))
    if made:
        emit("")
        emit_table(*_cells(study, made))
    emit("\n".join([*_foot(study, made, status == "finished"), *([f"  {page}"] if page is not None else [])]))


def opened(folder: Path, find: Callable[[Study], object]) -> tuple[Ledger, str, str]:
    """A study as it stands, with its findings, and how far it is: a status and the reason.

    Args:
        folder: the study folder.
        find: fills in the findings, where the study's report has none.

    Raises:
        UsageError: if the folder holds no study.
        MachineError: if its log cannot be read.
    """
    if not is_study(folder):
        raise UsageError(
            f"{folder}: no study (no study.jsonl); report shows what a search has come to, not single runs"
        )
    ledger = read_ledger(folder)
    status, reason = _status(folder, ledger)
    if not ledger.study.findings:
        find(ledger.study)
    return ledger, status, reason


def rows(study: Study) -> list[Row]:
    """All trials that may be the best, best first; of several objectives those of the front first."""
    done = [r for r in study.records if r.trial.status == "done" and r.trial.final and r.trial.values]
    if len(study.objectives) > 1:
        front = study.front()
        numbers = {record.trial.number for record in front}
        rest = sorted((r for r in done if r.trial.number not in numbers), key=lambda r: r.trial.values)
        return [Row(r, *_gap(study, r), "front") for r in front] + [Row(r, *_gap(study, r), "beaten") for r in rest]
    best, ties = study.best(), study.findings.get("ties", [])
    ranked = sorted(done, key=lambda r: (r.trial.values[0], r.trial.number))
    return [Row(r, *_gap(study, r), _verdict(study, r, best, ties)) for r in ranked]


def _verdict(study: Study, record: Record, best: Record | None, ties: Sequence[int]) -> str:
    """What is the matter with a trial, held against the best one: also on what it was trained on, if it is known."""
    if best is None or record is best:
        return "best"
    if record.trial.number in ties:
        return "ties"
    own, of_best = (_figure(study, one, "train.") for one in (record, best))
    reached = _figure(study, best, "val.")
    if own is None or of_best is None or reached is None:
        return "worse"
    sign = -1 if study.objectives[0].mode == "max" else 1
    if sign * own <= sign * of_best:
        return "overfits"
    return "underfits" if sign * own > sign * reached else "worse"


def _figure(study: Study, record: Record, split: str) -> float | None:
    """The first objective's figure on a split, at the last evaluation."""
    figure = study.objectives[0].figure
    return record.metrics.get(split + figure.removeprefix("val.")) if figure.startswith("val.") else None


def _gap(study: Study, record: Record) -> tuple[float | None, float | None]:
    train, val = _figure(study, record, "train."), _figure(study, record, "val.")
    if train is None or val is None:
        return train, None
    return train, train - val if study.objectives[0].mode == "max" else val - train


def _status(folder: Path, ledger: Ledger) -> tuple[str, str]:
    """How far a study is: what its report says, else what its log does; findings of a finished one come with it."""
    try:
        report = json.loads(read_text(folder / "report.json"))
        status, reason = str(report["status"]), str(report["reason"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        status, reason, report = "", "", {}
    if status == "finished" and ledger.over:
        ledger.study.findings = _found(report)
        return status, reason
    if status in ("interrupted", "failed"):
        return status, reason
    begun = f"{len(ledger.study.records)} of {ledger.study.trials}"
    return "running", f"{begun} trials begun; where no process goes on with it, it was killed"


def _found(report: Mapping[str, Any]) -> dict[str, Any]:
    """The findings of a report; nothing where they are not as a study writes them, so that they are found out anew."""
    try:
        found = report["findings"]
        shares = {
            name: {key: float(item[key]) for key in ("value", "low", "high")}
            for name, item in found["importances"].items()
        }
        return {
            "findings": [{"about": str(one["about"]), "text": str(one["text"])} for one in found["findings"]],
            "importances": shares,
            "edges": list(found["edges"]),
            "ties": [int(number) for number in found["ties"]],
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


# ------------------------------------------------------------ words


def _head(ledger: Ledger, status: str, reason: str) -> list[str]:
    study = ledger.study
    counts = Counter(record.trial.status for record in study.records)
    trials = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    epochs = sum(record.epochs for record in study.records)
    runs = f", {study.parts} runs each" if study.parts > 1 else ""
    goals = "; ".join(f"{o.figure} ({'lower' if o.mode == 'min' else 'higher'} is better)" for o in study.objectives)
    lines = [
        f"{study.folder}: {status} ({reason})",
        f"  searcher    {study.searcher} over {len(study.space)} settings",
        f"  objective   {goals}",
        f"  trials      {trials or 'none yet'}{runs}",
        f"  trained     {epochs:.6g} epochs in {seconds_text(ledger.seconds, study)}",
    ]
    short = [r for r in study.records if not r.trial.final and r.trial.status == "done"]
    if status != "finished":
        lines.append(
            f"  to go on    trainkit resume {study.folder}" + (", if it was killed" if status == "running" else "")
        )
    if short:
        lines.append(f"  not listed  {len(short)} shorter runs, whose values do not compare with those of whole ones")
    return lines


def _cells(study: Study, made: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    names = short_names(dimension.name for dimension in study.space.dimensions)
    settings = list(dict.fromkeys(names.values()))
    trained, gaps = (any(getattr(row, name) is not None for row in made) for name in ("train", "gap"))
    heads = ["trial", *(objective.figure for objective in study.objectives)]
    heads += ["on train"] * trained + ["gap"] * gaps + ["epochs", "seconds", *settings, "verdict"]
    cells = []
    for row in made:
        record = row.record
        spreads = [f" +-{spread:.2g}" for spread in record.spread] or [""] * len(record.figures)
        cell = [str(record.trial.number)]
        cell += [f"{figure:.5g}{spread}" for figure, spread in zip(record.figures, spreads, strict=True)]
        cell += [_number(row.train, ".5g")] * trained + [_number(row.gap, ".2g")] * gaps
        cell += [f"{record.epochs:.4g}", f"{record.seconds:.3g}"]
        point = {names[name]: value for name, value in record.trial.point.items() if name in names}
        cell += [value_text(point[name]) if name in point else "" for name in settings]
        cells.append([*cell, row.verdict])
    return heads, cells


def _foot(study: Study, made: Sequence[Row], over: bool) -> list[str]:
    found: Mapping[str, Any] = study.findings
    lines: list[str] = []
    if len(study.objectives) > 1 and len(study.front()) > sum(row.verdict == "front" for row in made):
        lines += ["", *front_lines([entry_of(study, record) for record in study.front()])]
    if matter := found.get("importances"):
        lines += ["", "importance of each setting, and the interval that 80 % of bootstrap samples give:"]
        lines += aligned(
            [(name, f"{i['value']:.2f}", f"{i['low']:.2f} to {i['high']:.2f}") for name, i in matter.items()], "  "
        )
    said = found.get("findings", [])
    if warnings := [one["text"] for one in said if one["about"] != "bias"]:
        lines += ["", *(f"- {text}" for text in warnings)]
    best = study.best()
    tested = study.winner.get("test") if best and study.winner.get("trial") == best.trial.number else None
    if tested and best:
        figures = "  ".join(f"test.{name} {value:.5g}" for name, value in tested.items())
        lines += ["", f"winner: trial {best.trial.number}  {figures}  ({study.winner.get('test_of', 'its own run')})"]
        lines += [f"  {one['text']}" for one in said if one["about"] == "bias"]
    # A page that was made while the search goes on is older than what is shown here.
    listed = {name: says for name, says in _files(study.folder).items() if over or name != PAGE}
    files = [f"  {study.folder / name}  {says}" for name, says in listed.items()]
    files += [f"  {path}" for path in pictures(study.folder)]
    return [*lines, "", *files] if files else lines


def _files(folder: Path) -> dict[str, str]:
    known = {
        PAGE: "all of this as a page, with figures",
        "best.toml": "the winner as a recipe",
        WIDER: "the same search over wider ranges",
    }
    return {name: says for name, says in known.items() if (folder / name).is_file()}


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


# ------------------------------------------------------------ JSON


def _as_dict(ledger: Ledger, status: str, reason: str, made: Sequence[Row]) -> dict[str, Any]:
    study = ledger.study
    table = []
    for row in made:
        record = row.record
        entry = entry_of(study, record)
        entry |= {"epochs": record.epochs, "seconds": record.seconds, "verdict": row.verdict}
        entry |= {name: value for name in ("train", "gap") if (value := getattr(row, name)) is not None}
        table.append(entry)
    return {
        "folder": str(study.folder),
        "searcher": study.searcher,
        "objectives": [{"figure": objective.figure, "mode": objective.mode} for objective in study.objectives],
        **report_of(study, status, reason, ledger.seconds, []).as_dict(),
        "table": table,
        "files": [str(study.folder / name) for name in _files(study.folder) if name != PAGE],
        "pictures": [str(path) for path in pictures(study.folder)],
    }
