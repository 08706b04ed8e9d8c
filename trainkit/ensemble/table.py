"""``trainkit report`` of an ensemble, and what is shown when one is made: read from ``report.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainkit.console import aligned, emit, emit_json, emit_table
from trainkit.ensemble.telling import tell_plugins
from trainkit.errors import MachineError, UsageError
from trainkit.manager import Plugins
from trainkit.run_text import clock_text
from trainkit.rundir import PAGE, check_links, read_text

REPORT = "report.json"
CLASSES = (("accuracy", "raw"), ("nll", "raw"), ("nll", "calibrated"), ("brier", "calibrated"), ("ece", "calibrated"))
NUMBERS = (("mse", "raw"), ("mae", "raw"), ("r2", "raw"), ("nll", "raw"))


def show_ensemble(
    folder: Path, plugins: Plugins, top: int, as_json: bool, say: Callable[[str], None], page: Path | None = None
) -> None:
    """Show what a finished ensemble has come to; nothing of it is changed but its page and pictures, made anew.

    Args:
        folder: the ensemble folder.
        plugins: the plugins of this process.
        top: how many members are listed.
        as_json: one JSON object instead of text.
        say: told what a plugin could not do.
        page: a page of it that was written somewhere.

    Raises:
        UsageError: if the folder holds no finished ensemble.
        MachineError: if its report cannot be read, or a name in it leads out of it.
    """
    check_links(folder)
    report = read_report(folder)
    tell_plugins(folder, report, plugins, say)
    drawn = sorted(folder.glob("*.png"))
    if page is None and (folder / PAGE).is_file():
        page = folder / PAGE
    if as_json:
        html = None if page is None else str(page)
        emit_json({"folder": str(folder), **report, "pictures": [str(path) for path in drawn], "html": html})
        return
    if page is not None:
        drawn.insert(0, page)
    try:
        shown = Shown(report)
        emit("\n".join([f"{folder}: {report['status']}", *shown.head()]))
        emit("")
        emit_table(*shown.cells(top))
        emit("\n".join([*shown.foot(), *([""] + [f"  {path}" for path in drawn] if drawn else [])]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise MachineError(f"{folder / REPORT}: this is not the report of an ensemble ({error!r})") from error


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a finished ensemble.

    Raises:
        UsageError: if there is none.
        MachineError: if it cannot be read.
    """
    path = folder / REPORT
    try:
        report = json.loads(read_text(path))
    except FileNotFoundError:
        raise UsageError(f"{folder}: the ensemble is not finished; go on with trainkit resume {folder}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MachineError(f"{path}: cannot be read: {error}") from error
    if not isinstance(report, dict) or "ensembler" not in report or not isinstance(report.get("members"), list):
        raise MachineError(f"{path}: this is not the report of an ensemble")
    return report


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """What is shown when an ensemble is made: its figures beside its members', and what they come to."""
    shown = Shown(report)
    heads, rows = shown.cells(0)
    return [*shown.head()[:1], *aligned([heads, *rows], "  "), *(f"  {text}" for text in report["words"])]


class Shown:
    """A report in words and cells.

    Args:
        report: what ``report.json`` holds.
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report
        self.split = "test" if "test" in report["samples"] else "validation"
        columns = NUMBERS if report["task"] == "regression" else CLASSES
        there = report["ensemble"].get(self.split) or report["best_member"][self.split]
        self.columns = [(figure, kind) for figure, kind in columns if figure in there.get(kind, {})]

    def head(self) -> list[str]:
        """What was made, and by which samples it is judged."""
        report = self.report
        kept, count = sum(member["kept"] for member in report["members"]), len(report["members"])
        passes = report["cost"]["passes"]
        of = f"{count} member{'s' * (count != 1)}"
        if kept < count:
            of += f", {kept} of them kept" if kept else f", made into {passes} model{'s' * (passes != 1)}"
        samples = ", ".join(f"{number} {split}" for split, number in report["samples"].items())
        if report["validation_is"] == "out of fold":
            samples += " (validation is out of fold: each member by the samples that it was not trained on)"
        if report["task"] != "regression":
            of += f"; temperature {report['temperature']:.4g}"
        lines = [f"  ensemble    {report['ensembler']} of {of}"]
        lines.append(f"  samples     {samples}")
        lines.append(f"  intervals   {report['level']:.0%} of {report['bootstrap']} bootstrap draws of the samples")
        if report["task"] != "regression":
            lines.append(f"  ece         {report['bins']} bins of equal width; T: after each model's own temperature")
        return lines

    def cells(self, top: int) -> tuple[list[str], list[list[str]]]:
        """The table: some members, then what they come to.

        Args:
            top: how many members.
        """
        report = self.report
        heads = [f"on {self.split}", *(_head(*column) for column in self.columns)]
        figure, kind = report["chosen_by"], report["kind"]
        if self.split == "test":
            heads.append(f"val {_head(figure, kind)}")
        rows = []
        listed = sorted(report["members"], key=lambda member: _rank(member["validation"][kind][figure]["value"]))[:top]
        for member in listed:
            rows.append(self._row(member["name"] + ("" if member["kept"] else " (not kept)"), member))
        best = report["best_member"]
        rows.append(self._row("mean member", report["mean_member"]))
        rows.append(self._row(f"best member: {best['name']}", best))
        if "longer" in report:
            rows.append(self._row("one longer run", report["longer"]))
        if self.split in report["ensemble"]:
            rows.append(self._row("ensemble", report["ensemble"]))
        return heads, rows

    def _row(self, name: str, model: Mapping[str, Any]) -> list[str]:
        found = model.get(self.split, {})
        cells = [name, *(_cell(figure, found.get(kind, {}).get(figure)) for figure, kind in self.columns)]
        if self.split == "test":
            figure, kind = self.report["chosen_by"], self.report["kind"]
            one = model.get("validation", {}).get(kind, {}).get(figure)
            cells.append("" if one is None else _plain(figure, one["value"]))
        return cells

    def foot(self) -> list[str]:
        """What the figures come to, how members differ, the curve, and what all costs."""
        report = self.report
        lines = ["", *(f"- {text}" for text in report["words"])]
        lines += [f"- {text}" for text in report.get("notes", [])]
        lines += self._diversity() + self._curve() + self._costs()
        return lines

    def _diversity(self) -> list[str]:
        found = self.report.get("diversity", {})
        names = {"disagreement": "disagreement", "error_correlation": "correlation of errors", "kl": "KL divergence"}
        shown = [
            f"{name} {found[key]['mean']:.3g}"
            for key, name in names.items()
            if found.get(key, {}).get("mean") is not None
        ]
        return ["", f"members differ, mean over pairs on {found['split']}: {', '.join(shown)}"] if shown else []

    def _curve(self) -> list[str]:
        found = self.report["curve"]
        if "reason" in found:
            return ["", f"figures against the number of members: none, as {found['reason']}"]
        sets = "the first members" if found["sets"] == "first" else "mean over sets of members drawn at random"
        first = found["points"][0]
        columns = [(figure, kind) for figure, kind in self.columns if figure in first[kind]]
        heads = ["members", *(_head(*column) for column in columns)]
        rows = [
            [str(point["members"]), *(_plain(figure, point[kind].get(figure)) for figure, kind in columns)]
            for point in found["points"]
        ]
        if "longer" in self.report and found["split"] in self.report["longer"]:
            own = self.report["longer"][found["split"]]
            rows.append(["longer run", *(_plain(figure, own[kind][figure]["value"]) for figure, kind in columns)])
        return ["", f"against the number of members, on {found['split']} ({sets}):", *aligned([heads, *rows], "  ")]

    def _costs(self) -> list[str]:
        cost = self.report["cost"]
        sizes = list(cost["member"]["latency_ms"])
        heads = ["", "parameters", "multiplications", *(f"ms a sample, batch {size}" for size in sizes)]
        heads += ["updates", "epochs", "training"]
        rows = []
        for name, label, training in (("member", "best member", "member"), ("ensemble", "ensemble", "all")):
            one, spent = cost[name], cost["training"][training]
            macs = "" if one["macs"] is None else f"{one['macs']:,}"
            took = [f"{one['latency_ms'][size]:.4g}" for size in sizes]
            rows.append([label, f"{one['parameters']:,}", macs, *took, *_spent(spent)])
        if "longer" in cost["training"]:
            rows.append(["one longer run", *[""] * (2 + len(sizes)), *_spent(cost["training"]["longer"])])
        where = f"{cost['member']['device']}, {cost['member']['threads']} threads"
        return ["", f"costs ({where}):", *aligned([heads, *rows], "  ")]


def _head(figure: str, kind: str) -> str:
    """A column's head: the figure, with a T where it is one after temperature."""
    return figure if kind == "raw" else f"{figure} T"


def _rank(value: float | None) -> float:
    return math.inf if value is None else value


def _spent(spent: Mapping[str, Any]) -> Sequence[str]:
    return f"{spent['updates']:,}", f"{spent['epochs']:.4g}", clock_text(spent["seconds"])


def _cell(figure: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    text = _plain(figure, found["value"])
    if figure not in ("accuracy", "nll", "mse") or "low" not in found:
        return text
    return f"{text} [{_plain(figure, found['low'])}, {_plain(figure, found['high'])}]"


def _plain(figure: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if figure in ("accuracy", "nll", "brier", "ece", "r2") else f"{value:.4g}"
