"""``trainkit report`` of a run: a summary, a page, or a page that follows it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.component import own_figures
from trainkit.console import aligned, emit, emit_json, emit_table
from trainkit.errors import MachineError, UsageError
from trainkit.report.run_page import RunPage, facts_of, figure_table
from trainkit.report.summary import Summary, metric_names
from trainkit.results import Result, read_result
from trainkit.rundir import PAGE, write_atomically

if TYPE_CHECKING:
    from trainkit.manager import Plugins
    from trainkit.protocols import Progress

_WHY_NOT = {"failed": "the run failed", "running": "the run has not ended"}


def report_run(
    folder: Path,
    plugins: Plugins,
    *,
    name: str = "",
    html: str | None = None,
    split: str | None = None,
    live: Callable[[Path, Path, Callable[[], bool], Callable[[float | None], str]], str] | None = None,
    progress: Progress,
    as_json: bool = False,
    say: Callable[[str], None],
) -> None:
    """Show what a run has come to: in words, and where it is asked for as a page.

    Args:
        folder: the run folder.
        plugins: the plugins of this process.
        name: as the user named the folder.
        html: the page to write; none if not given.
        split: the split whose predictions are shown, on the page and in words; on the page alone, and one that is
            chosen, if not given.
        live: follows the run until it has ended, as `trainkit.report.watch.watch` does; not at all if not given.
        progress: told how far building the run has come.
        as_json: one JSON object instead of words.
        say: tells the user what is missing.

    Raises:
        UsageError: if the folder holds no run, or the data has no such split.
        MachineError: if the page cannot be written.
    """
    page = RunPage(folder, higher_of(read_result(folder, name), plugins), name)
    target = Path(html) if html is not None else folder / PAGE if live is not None else None
    if live is not None:
        assert target is not None
        say(f"{target}: made anew while the run goes on; Ctrl-C ends this, not the run")
        how = written(target, partial(live, folder, target, page.update, lambda pause: page.html(reload=pause)))
        if how == "killed":
            go_on = f"trainkit resume {shlex.quote(str(folder))}"
            say(f"{folder}: its process is gone, and has left no report; go on with {go_on}")
    page.update()
    result, summary = page.read()
    look, why = None, ""
    if split is not None or (target is not None and summary.status not in _WHY_NOT):
        from trainkit.report.open import look_into

        look, why = look_into(folder, split, plugins, progress)
        if why:
            say(f"warning: {why}")
    elif target is not None:
        why = f"{_WHY_NOT[summary.status]}: --split val shows what its newest checkpoint predicts"
    if target is not None:
        content = page.html(look, why)
        written(target, lambda: write_atomically(target, content, durable=False))
    if as_json:
        found = as_dict(result, summary) | {"html": None if target is None else str(target)}
        if look is not None:
            found["predictions"] = {"split": look.split, "samples": look.samples, **look.figures}
        emit_json(found)
        return
    show(result, summary, target)
    if look is not None and look.figures and split is not None:
        figures = "  ".join(f"{figure} {value:.6g}" for figure, value in look.figures.items())
        emit(f"\non {look.samples} {look.split} samples: {figures}")
    if target is not None:
        emit(f"\n{target}")


def written(target: Path, work: Callable[[], Any]) -> Any:
    """Do work that writes a page.

    Raises:
        MachineError: if the page cannot be written.
    """
    try:
        return work()
    except OSError as error:
        raise MachineError(f"--html {target}: cannot be written: {error.strerror or error}") from error


def higher_of(result: Result, plugins: Plugins) -> dict[str, bool]:
    """By name of each figure of a run whether a higher one is better; those of which nothing says it are left out.

    A run may be a stranger's: metrics of plugins that are not installed are left out too.
    """
    found = {}
    for name in metric_names(result):
        for component in plugins.find("metric", name)[:1]:
            higher = component.capabilities.get("higher_is_better")
            if isinstance(higher, bool):
                found[name] = higher
    tables = result.tables.get("callback")
    for table in tables if isinstance(tables, list) else ():
        use = table.get("use") if isinstance(table, Mapping) else None
        found |= own_figures(plugins.find("callback", use)[:1]) if isinstance(use, str) else {}
    return found


def show(result: Result, summary: Summary, page: Path | None = None) -> None:
    """Show a run in words, and where its pages and pictures lie; ``page`` is told by somebody else."""
    reason = f" ({summary.reason})" if summary.reason else ""
    emit(f"{result.folder}: {summary.status}{reason}")
    facts = [
        (key, f"{value:g}" if isinstance(value, float) else str(value)) for key, value in facts_of(result, summary)
    ]
    emit("\n".join(aligned(facts, "  ")))
    if summary.rows:
        table = figure_table(summary.rows)
        emit("")
        emit_table(list(table.columns), [[_cell(cell) for cell in row] for row in table.rows])
    if summary.times:
        emit("\n" + "  ".join(f"{name} {_percent(spent, summary)}" for name, spent in summary.times.items()))
    for note in result.notes:
        emit(f"note: {note}")
    there = [path for form in ("*.html", "*.png") for path in sorted(result.folder.glob(form)) if path != page]
    if there:
        emit("\n" + "\n".join(f"  {path}" for path in there))


def _percent(spent: float, summary: Summary) -> str:
    return f"{spent / max(sum(summary.times.values()), 1e-9):.0%}"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def as_dict(result: Result, summary: Summary) -> dict[str, Any]:
    """A run as one object, for ``--json``."""
    figures: Mapping[str, Any] = {
        row.figure: {k: v for k, v in asdict(row).items() if k != "figure"} for row in summary.rows
    }
    return {
        "folder": str(result.folder),
        **{key: value for key, value in asdict(summary).items() if key not in ("rows", "best")},
        "best": dict(summary.best) or None,
        "figures": figures,
        "notes": list(result.notes),
    }


def check_page(html: str | None) -> None:
    """Refuse a page that could not be written, before any work.

    Raises:
        UsageError: if its name does not end in .html.
        MachineError: if there is no such folder.
    """
    if html is None:
        return
    if Path(html).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {html}: the page is HTML; name a file that ends in .html")
    if not Path(html).parent.is_dir():
        raise MachineError(f"--html {html}: there is no folder {Path(html).parent}; make it first")
