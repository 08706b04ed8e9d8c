"""What ``trainkit runs`` prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainkit.console import emit, emit_json, emit_table
from trainkit.errors import UsageError
from trainkit.runs.entry import ITSELF, Entry
from trainkit.runs.index import entries
from trainkit.runs.query import Condition, check_keys, columns_of, in_order

SHOWN = 30  # rows, where nobody says how many
_LONGEST = 40  # of a cell, in characters; names are whole


def show_runs(args: Any, root: Path, say: Callable[[str], None]) -> int:
    """Show the runs below a folder.

    Args:
        args: the options of the verb.
        root: the folder.
        say: tells what belongs beside the table.

    Returns:
        The exit code.

    Raises:
        UsageError: if an option is wrong, or there is no such folder.
    """
    if args.json and args.markdown:
        raise UsageError("runs writes --json or --markdown, not both")
    if args.limit is not None and args.limit < 0:
        raise UsageError(f"--limit {args.limit}: write a whole number; 0 shows all")
    conditions = [Condition.read(text) for text in args.filter]
    columns = [key.strip() for text in args.columns for key in text.split(",") if key.strip()]
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; name the one that holds your runs: trainkit runs FOLDER")
    found = entries(root, args.trials)
    asked = [condition.key for condition in conditions] + ([args.sort] if args.sort else [])
    check_keys([*asked, *columns], found)
    wanted = [entry for entry in found if all(condition.holds(entry) for condition in conditions)]
    wanted = in_order(wanted, args.sort, args.reverse)
    limit = args.limit if args.limit is not None else 0 if args.json else SHOWN
    shown = wanted[:limit] if limit else wanted
    if args.json:
        emit_json({"folder": str(root), "found": len(found), "runs": [entry.as_dict() for entry in shown]})
        return 0
    if not found:
        say(f"{root}: there are no runs in it")
        return 0
    if shown:
        columns = ["name", *(key for key in columns if key != "name")] if columns else columns_of(shown, asked)
        rows = [[_cell(entry, key) for key in columns] for entry in shown]
        if args.markdown:
            emit("\n".join(_markdown(columns, rows)))
        else:
            emit_table(columns, rows)
    say(_count(shown, wanted, found))
    for entry in shown:
        if entry.note:
            say(f"{entry.name}: {entry.note}")
    return 0


def _cell(entry: Entry, key: str) -> str:
    value = entry.value(key)
    if value is None:
        return ""
    if key == "changed":
        return str(value)[:-3]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.5g}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if key in ITSELF or len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _markdown(columns: list[str], rows: list[list[str]]) -> list[str]:
    from trainkit.diff_table import escaped

    lines = [columns, ["---"] * len(columns), *([escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _count(shown: list[Entry], wanted: list[Entry], found: list[Entry]) -> str:
    """How many there are, and how to see the others."""
    what = f"{len(wanted):,} of {len(found):,} runs" if len(wanted) < len(found) else f"{len(found):,} runs"
    if len(found) == 1:
        what = what.removesuffix("s")
    return what if len(shown) == len(wanted) else f"{what}, {len(shown)} shown; --limit 0 shows all"
