"""What is installed, a line each: ``list``. Where plugins are remembered, nothing of them is imported."""

from __future__ import annotations

from collections import Counter

from trainkit.arguments import near
from trainkit.catalogue import installed
from trainkit.console import emit, emit_json, emit_table
from trainkit.errors import UsageError
from trainkit.kinds import KINDS

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import here
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from trainkit.catalogue import Entry
    from trainkit.component import Component
    from trainkit.manager import Plugins
    from trainkit.plugin import Plugin

FEWEST_COUNTED = 10  # so many components with one prefix are a line of the whole list


def show_list(plugins: Plugins, kind: str | None, as_json: bool) -> None:
    """List components of one kind or of all, or the packaged recipes.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind == "recipes":
        _show_recipes(plugins, as_json)
        return
    kinds = [known_kind(kind, "recipes")] if kind else list(KINDS)
    listed = [
        (name if len(same) == 1 else f"{plugin.package}:{name}", entry, plugin)
        for one in kinds
        # What a bridge brings, which has a prefix, comes after what has a name of its own.
        for name, same in sorted(plugins.table(one).items(), key=lambda item: (":" in item[0], item[0]))
        for plugin, entry in same
    ]
    absent = _absent(library for _, entry, _ in listed for library in entry.libraries)
    if as_json:
        found = [summary(name, entry, plugin, _missing(entry, absent)) for name, entry, plugin in listed]
        emit_json({"components": found, "broken": [{"plugin": p.name, "error": p.error} for p in plugins.broken]})
    elif listed:
        rows = [(entry.kind, name, _line(entry, absent)) for name, entry, _ in listed]
        emit_table(("kind", "name", "what it is"), rows if kind else _counted(rows))
    else:
        emit(f"no {kind} is installed" if kind else "no component is installed; `trainkit doctor` looks for the reason")


def _counted(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The rows, those of each bridge as one that says how many there are."""
    bridges = Counter((kind, name.partition(":")[0]) for kind, name, _ in rows if ":" in name)
    shown: list[tuple[str, str, str]] = []
    told: set[tuple[str, str]] = set()
    for kind, name, line in rows:
        bridge = (kind, name.partition(":")[0])
        if ":" not in name or bridges[bridge] < FEWEST_COUNTED:
            shown.append((kind, name, line))
        elif bridge not in told:
            told.add(bridge)
            shown.append((kind, f"{bridge[1]}:...", f"{bridges[bridge]} more: trainkit list {kind}"))
    return shown


def known_kind(kind: str, *more: str) -> str:
    """The kind itself.

    Args:
        kind: what the user wrote.
        more: words that may be meant as well.

    Raises:
        UsageError: if there is none of that name.
    """
    if kind not in KINDS:
        raise UsageError(f"no kind named '{kind}'\n  {near(kind, [*KINDS, *more])}kinds: {', '.join(KINDS)}")
    return kind


def _show_recipes(plugins: Plugins, as_json: bool) -> None:
    from trainkit.recipe import packaged_recipes

    recipes = packaged_recipes(plugins)
    if as_json:
        emit_json({"recipes": recipes})
    else:
        emit("\n".join(recipes) or "no plugin ships recipes")


def spoken(text: str) -> str:
    """Docstring text without the double backticks of its markup."""
    return text.replace("``", "'")


def summary(name: str, entry: Entry | Component, plugin: Plugin, missing: Mapping[str, str]) -> dict[str, Any]:
    """One component as ``--json`` shows it."""
    return {
        "kind": entry.kind,
        "name": name,
        "help": entry.help,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "missing": missing,
    }


def _absent(libraries: Iterable[str]) -> set[str]:
    """Those that are not installed; each is looked for once."""
    return {library for library in set(libraries) if not installed(library)}


def _missing(entry: Entry, absent: set[str]) -> dict[str, str]:
    return {library: how for library, how in entry.libraries.items() if library in absent}


def _line(entry: Entry, absent: set[str]) -> str:
    missing = "".join(f"  [missing {library}: {how}]" for library, how in _missing(entry, absent).items())
    return spoken(entry.help) + missing
