"""The page of a run: its parts in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit import history
from trainkit.page import Bars, Block, Cell, Code, Facts, Section, Table, Text, render
from trainkit.report.curves import figure_section, norm_section, other_section, pace_block, schedule_section
from trainkit.report.follow import Followed
from trainkit.report.parts import flat
from trainkit.report.pictures import picture_section
from trainkit.report.state import RUNNING
from trainkit.report.summary import Row, Summary, samples_per_update, short_name, summarise
from trainkit.results import Result, read_object, read_result
from trainkit.run_text import clock_text
from trainkit.rundir import PRETRAINED, PROFILE, read_text

if TYPE_CHECKING:
    from trainkit.report.look import Look

EMPTY: Mapping[str, Any] = {}
_TONES = {"failed": "bad", "interrupted": "note", "stopped": "note"}
_LOG_LINES = 200
_LONGEST_TEXT = 200_000


class RunPage:
    """Makes the page of a run, over and over while it goes on.

    Args:
        folder: the run folder.
        higher: by the name of a metric whether a higher figure is a better one.
        name: as the user named the folder.
    """

    def __init__(self, folder: Path, higher: Mapping[str, bool], name: str = "") -> None:
        self.folder = folder
        self.higher = higher
        self.name = name
        self.seen = Followed(folder)
        self.profile: Mapping[str, Any] | None = None  # what `--profile` measured; the folder's own if not given

    def update(self) -> bool:
        """Read what is new; whether there was anything."""
        return self.seen.update()

    def read(self) -> tuple[Result, Summary]:
        """The folder as it is, and what its lines have come to."""
        result = read_result(self.folder, self.name)
        return result, summarise(result, self.seen, self.higher)

    def html(self, look: Look | None = None, why_not: str = "", reload: float | None = None) -> str:
        """The page.

        Args:
            look: what the model makes of a split.
            why_not: why there is no ``look``, in words.
            reload: seconds after which it reads itself anew.
        """
        result, summary = self.read()
        parts = read_object(self.folder / PROFILE, result.notes).get("parts") if self.profile is None else self.profile
        sections = run_sections(result, self.seen, summary, look, why_not, parts if isinstance(parts, dict) else {})
        told = f"{result.folder}  {summary.status}  {time.strftime('%Y-%m-%d %H:%M:%S')}"
        return render(short_name(result), sections, told, reload)


def run_sections(
    result: Result,
    seen: Followed,
    summary: Summary,
    look: Look | None = None,
    why_not: str = "",
    profile: Mapping[str, Any] = EMPTY,
) -> list[Section]:
    """The parts of a run's page; see `RunPage.html`. ``profile`` has seconds and calls by part, where it was asked for.

    Returns:
        The parts that have anything to show, in order.
    """
    made: list[Section | None] = [
        _head(result, summary, look),
        figure_section(seen, summary),
        schedule_section(result, seen, look.events if look is not None else ()),
        norm_section(seen),
    ]
    if look is not None:
        from trainkit.report.look_blocks import look_sections

        made += look_sections(look)
    elif why_not:
        made.append(Section("Predictions", [Text(why_not, "note")]))
    made += [
        picture_section(result.folder),
        _time(result, seen, summary, profile),
        other_section(result, seen, summary),
        _origin(result),
        _recipe(result),
    ]
    return [section for section in made if section is not None]


def _head(result: Result, summary: Summary, look: Look | None) -> Section:
    reason = f" ({summary.reason})" if summary.reason else ""
    blocks: list[Block] = [Text(f"{summary.status}{reason}", _TONES.get(summary.status, "plain"))]
    facts = list(facts_of(result, summary, look))  # a file that cannot be read is a note
    blocks += [Text(text, "note") for text in result.notes]
    blocks.append(Facts(facts))
    if summary.rows:
        blocks.append(figure_table(summary.rows))
    return Section("Summary", blocks)


def facts_of(result: Result, summary: Summary, look: Look | None = None) -> Iterator[tuple[str, Cell]]:
    """What one wants to know first."""
    if summary.best:
        after = "" if summary.best_seconds is None else f", after {_seconds(summary.best_seconds)}"
        where = f"at update {summary.best.get('step')}{after}"
        yield f"best {summary.best['metric']}", f"{_short(summary.best.get('value'))} {where}"
    yield "updates", summary.updates
    yield "epochs", round(summary.epochs, 4)
    yield "time", _seconds(summary.seconds)
    if summary.pace is not None:
        yield "updates a second", float(f"{summary.pace:.4g}")
    if summary.samples is not None:
        yield "samples a second", float(f"{summary.samples:.4g}")
    memory = result.report.get("memory")
    for name in ("allocated", "reserved"):
        if isinstance(memory, Mapping) and isinstance(taken := memory.get(name), int | float):
            yield f"memory of the device, {name}", f"{taken / 1e6:,.0f} MB"
    if look is not None:
        yield "parameters", look.parameters
    for key in ("device", "precision", "seed"):
        value = result.environment.get(key)
        if isinstance(value, str | int):
            yield key, value
    for key in ("data", "model", "optimizer", "schedule"):
        table = result.tables.get(key)
        if isinstance(table, Mapping) and isinstance(table.get("use"), str):
            yield key, table["use"]
            if key == "model":
                yield from _began_with(read_object(result.folder / PRETRAINED, result.notes))
    if isinstance(sha256 := result.report.get("weights_sha256"), str) and sha256:
        yield "SHA-256 of the weights", sha256


def _began_with(found: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Which weights the model began with, where it was given some."""
    if not isinstance(place := found.get("place"), str):
        return
    words = {"taken": "tensors", "new": "new", "left": "left there"}
    tables = {word: names for key, word in words.items() if isinstance(names := found.get(key), Mapping)}
    counts = [f"{len(names)} {word}" for word, names in tables.items() if names]
    yield "begins with", f"{place}: {', '.join(counts)}"


def figure_table(rows: list[Row]) -> Table:
    """The figures of a run: newest on each split, best on validation."""
    cells = [
        (
            row.figure,
            *(row.last.get(split) for split in ("train", "val")),
            row.gap,
            row.best,
            row.best_step,
            row.last.get("test"),
        )
        for row in rows
    ]
    heads = ("figure", "train", "val", "gap", "best val", "at update", "test")
    kept = [i for i in range(len(heads)) if i == 0 or any(cell[i] is not None for cell in cells)]
    return Table([heads[i] for i in kept], [[cell[i] for i in kept] for cell in cells], "figures")


def _seconds(seconds: float) -> str:
    return clock_text(seconds) if seconds >= 10 else f"{seconds:.3g} s"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "-"


def _time(result: Result, seen: Followed, summary: Summary, profile: Mapping[str, Any]) -> Section:
    blocks: list[Block] = []
    if summary.times:
        names, spent = list(summary.times), list(summary.times.values())
        blocks.append(Bars("where the time went", names, spent, unit="seconds"))
    if (pace := pace_block(seen, samples_per_update(result))) is not None:
        blocks.append(pace)
    if (table := _profile(profile)) is not None:
        blocks.append(table)
    elif summary.status != RUNNING:
        blocks.append(
            Text("Updates: data, steps, callbacks and saving together; run with --profile to see them apart.")
        )
    return Section("Time", blocks or [Text("No time has been taken yet.", "note")])


def _profile(profile: Mapping[str, Any]) -> Table | None:
    """The table of `run --profile`, where it was asked for."""
    rows = [
        (label, part["calls"], part["seconds"])
        for label, part in profile.items()
        if isinstance(part, dict) and all(isinstance(part.get(key), int | float) for key in ("calls", "seconds"))
    ]
    rows.sort(key=lambda row: -row[2])
    return Table(("part", "calls", "seconds"), rows[:60], "measured with --profile") if rows else None


def _origin(result: Result) -> Section:
    rows = list(flat(result.environment))
    blocks: list[Block] = [Facts(rows)] if rows else [Text("There is no environment.json.", "note")]
    try:
        entries = history.entries(result.folder)
    except (OSError, ValueError):
        entries = []
    if entries:
        cells = [[_cell(entry.get(key)) for key in ("event", "time", "update", "command")] for entry in entries[:100]]
        blocks.append(Table(("event", "time", "update", "command"), cells, "begun and continued"))
    return Section("Environment", blocks)


def _recipe(result: Result) -> Section:
    blocks: list[Block] = []
    for name, title in (("recipe.toml", "recipe.toml, with every default"), ("log.txt", "log.txt")):
        try:
            text = read_text(result.folder / name)
        except (OSError, ValueError):
            continue
        if len(text) > _LONGEST_TEXT:  # a stranger's
            text = text[:_LONGEST_TEXT] + "\n..."
        lines = text.splitlines()
        if name == "log.txt" and len(lines) > _LOG_LINES:
            text = "\n".join(lines[-_LOG_LINES:])
            title = f"log.txt, the last {_LOG_LINES} lines"
        blocks.append(Code(text, title))
    return Section("Recipe", blocks)


def _cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
