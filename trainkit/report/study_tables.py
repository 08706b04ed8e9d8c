"""The tables of a study's page: the best trials, and all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainkit.page import Block, Cell, Table, Text
from trainkit.report.study_figures import MOST_NAMED, some, trial_name
from trainkit.report.trial_pages import trial_links
from trainkit.rundir import PAGE
from trainkit.search.folder import trial_folder
from trainkit.search.naming import short_names, value_text
from trainkit.search.table import Row
from trainkit.trial import FAILURES, Record, Study

MOST_CELLS = 5000  # of the table of all trials


def best_table(study: Study, made: Sequence[Row], title: str, where: Path) -> Table:
    """Trials that may be the best, with their verdicts; those that have a page of their own lead there."""
    settings = _columns(study)
    several = any(row.record.spread for row in made)
    known = [name for name in ("train", "gap") if any(getattr(row, name) is not None for row in made)]
    heads = ["trial", *(objective.figure for objective in study.objectives), *(["spread"] if several else [])]
    heads += [{"train": "on train", "gap": "gap"}[name] for name in known] + ["seconds", *settings, "verdict"]
    cells: list[list[Cell]] = []
    for row in made:
        record = row.record
        cell: list[Cell] = [record.trial.number, *record.figures]
        cell += [record.spread[0] if record.spread else None] * several
        cell += [getattr(row, name) for name in known]
        cells.append([*cell, record.seconds, *_setting_cells(study, record, settings), row.verdict])
    numbers = [row.record.trial.number for row in made]
    drawn = [row.record for row in made[:MOST_NAMED] if len(row.record.trial.reports) > 1]  # as curves of their own
    colours = [trial_name(row.record.trial.number) if row.record in drawn else "" for row in made]
    return Table(heads, cells, title, trial_links(study, numbers, where), colours)


def trial_blocks(study: Study, where: Path) -> list[Block]:
    """The table of all trials, or of as many as a page can hold, and what a reader of it should know."""
    settings = _columns(study)
    heads = ["trial", "status", *(objective.figure for objective in study.objectives), "epochs", "seconds"]
    failed = [record for record in study.records if record.trial.status in FAILURES]
    said = any(record.message or record.note for record in study.records)
    cells: list[list[Cell]] = []
    shown = some(study.records, MOST_CELLS // (len(heads) + len(settings)))
    for record in shown:
        figures: list[Cell] = [*record.figures] or [None] * len(study.objectives)
        cell: list[Cell] = [record.trial.number, record.trial.status, *figures, record.epochs, record.seconds]
        words = "; ".join(text for text in (record.note, *record.message.splitlines()[:1]) if text)
        cells.append([*cell, *_setting_cells(study, record, settings), *([words] if said else [])])
    numbers = [record.trial.number for record in shown]
    heads += [*settings, *(["note"] if said else [])]
    links = trial_links(study, numbers, where)
    blocks: list[Block] = [Table(heads, cells, "", links)]
    if len(shown) < len(study.records):
        blocks.append(Text(f"{len(shown)} of {len(study.records)} trials are listed, the best among them."))
    if failed:
        blocks.append(Text(f"{len(failed)} trials failed; what went wrong stands in the last column."))
    if without := [number for number, link in zip(numbers, links, strict=True) if not link]:
        run = trial_folder(study.folder, without[0], 0, study.parts)
        blocks.append(Text(f"A page for a trial that has none: trainkit report {run} --html {run / PAGE}"))
    return blocks


def _columns(study: Study) -> list[str]:
    return list(dict.fromkeys(short_names(dimension.name for dimension in study.space.dimensions).values()))


def _setting_cells(study: Study, record: Record, settings: Sequence[str]) -> list[Any]:
    """A trial's values in the columns of a table; numbers stay numbers, so that they sort as such."""
    names = short_names(dimension.name for dimension in study.space.dimensions)
    point = {names[name]: value for name, value in record.trial.point.items() if name in names}
    return [_cell(point[name]) if name in point else None for name in settings]


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else value_text(value)
