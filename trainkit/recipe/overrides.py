"""``key=value`` of the command line: the value is TOML, or text where it is not."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from trainkit.errors import Problem, RecipeError
from trainkit.recipe.merge import Composed, Mark, spelled_out
from trainkit.recipe.packed import PackedOverride
from trainkit.recipe.positions import Origin, Override, Source
from trainkit.recipe.read import parse_text
from trainkit.recipe.text import Path, did_you_mean, dotted, header, lookup, shown, shown_value
from trainkit.tables import BY_NAME, COMPONENT_TABLES

Given = Override | PackedOverride
MAX_SPLITS = 16  # equals signs at which a text is split: each try reads the key anew
_EXAMPLE = "write key=value, such as optimizer.lr=0.1"


def apply_overrides(
    composed: Composed, overrides: Sequence[str], origin_of: Callable[[str], Given] = Override
) -> list[Problem]:
    """Lay the command line, or what a pack brings with it, over a recipe.

    Args:
        composed: the recipe; changed in place.
        overrides: texts of the form ``key=value``.
        origin_of: makes of such a text the origin of its value.

    Returns:
        What is wrong with them; those that are right are applied.
    """
    problems: list[Problem] = []
    parsed: list[tuple[Given, Path, Any]] = []
    for text in overrides:
        origin = origin_of(text)
        try:
            parsed.append((origin, *_parse(text, composed, origin)))
        except RecipeError as error:
            problems.extend(error.problems)
    # A changed `use` starts its table afresh, whatever the order in which the user wrote the keys.
    for origin, path, value in sorted(parsed, key=lambda item: not (item[1][-1] == "use" or isinstance(item[2], dict))):
        if path == ("drop",):
            problems.extend(drop_keys(composed, value, origin))
        elif path[0] in ("extends", "requires"):
            problems.append(_problem(origin, f"{path[0]} stands in a recipe, not on the command line", _EXAMPLE))
        else:
            problems.extend(lay_value(composed, origin, path, value))
    return problems


def drop_keys(composed: Composed, keys: Any, origin: Given | Source) -> list[Problem]:
    """Remove what ``drop`` lists from what was set so far; what is not there is a problem."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        cure = 'write a list of keys, such as drop = ["schedule.also"]'
        return [Problem(origin.place(("drop",)), f"drop must be a list of text, got {shown_value(keys)}", cure)]
    problems = []
    for number, key in enumerate(keys):
        try:
            composed.drop(parse_key(key))
        except (KeyError, ValueError):
            known = [dotted(path) for path in composed.marks if all(isinstance(part, str) for part in path)]
            cure = did_you_mean(key, known) + "drop names keys that a base has set, items of lists apart"
            place = origin.place(("drop", number))
            problems.append(Problem(place, f"drop: there is no '{shown(key)}' to remove", cure))
    return problems


def parse_key(text: str) -> Path:
    """Read a dotted key as TOML does: ``search.space."optimizer.lr"``.

    Raises:
        ValueError: if it is not one.
    """
    try:
        node: Any = parse_text(Source("key", f"{text} = 0"))
    except RecipeError as error:
        raise ValueError(error.problems[0].message) from None
    path: Path = ()
    while isinstance(node, dict) and len(node) == 1:
        ((key, node),) = node.items()
        path += (key,)
    if type(node) is not int or "\n" in text:
        raise ValueError("not a key")
    return path


def _parse(text: str, composed: Composed, origin: Given) -> tuple[Path, Any]:
    key, equals, written = text.partition("=")
    # A quoted part of the key may hold an equals sign: the first split that leaves a key is meant.
    reason, splits = "", 0
    while equals and splits < MAX_SPLITS:
        splits += 1
        try:
            path = parse_key(key.strip())
            break
        except ValueError as error:
            reason = reason or str(error)
            more, equals, rest = written.partition("=")
            key, written = f"{key}={more}", rest
    else:
        if not reason or reason.startswith("not"):
            reason = f"'{shown(text)}' is not of the form key=value"
        raise RecipeError([_problem(origin, reason, _EXAMPLE)])
    try:
        value = _value(written)
    except RecipeError as error:
        raise RecipeError([_problem(origin, problem.message, problem.cure) for problem in error.problems]) from None
    table = COMPONENT_TABLES.get(str(path[0])) if len(path) == 1 else None
    named = (table is not None and not table.many) or path in BY_NAME
    if isinstance(value, str) and (named or _is_table(composed, path)):
        path += ("use",)
    elif isinstance(value, dict) and len(path) == 1:
        value = spelled_out({str(path[0]): value})[str(path[0])]
    return path, value


def _value(written: str) -> Any:
    """The value as TOML, or the text itself where it is not TOML."""
    try:
        tables = parse_text(Source("command line", f"value = {written}"))
    except RecipeError as error:
        if error.problems[0].message.startswith("not TOML"):
            return written
        raise
    # A line end in the text would begin another key; a date is not a value of a recipe, so text was meant.
    return written if len(tables) > 1 or isinstance(tables["value"], datetime.date | datetime.time) else tables["value"]


def _is_table(composed: Composed, path: Path) -> bool:
    node: Any = composed.tables
    for part in path:
        if isinstance(node, list) and str(part).isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return False
    return isinstance(node, dict)


def lay_value(composed: Composed, origin: Origin, written: Path, value: Any) -> list[Problem]:
    """Set one key: step down to the last list on the way, then lay a small table over what is there.

    Returns:
        What is wrong with the key.
    """
    node: Any = composed.tables
    path: Path = ()
    for position, part in enumerate(written):
        if isinstance(node, list):
            if not str(part).isdecimal() or int(part) >= len(node):
                return [_no_item(origin, path, part, node)]
            path += (int(part),)
            if position == len(written) - 1 and not (isinstance(value, dict) and isinstance(node[int(part)], dict)):
                node[int(part)] = value
                composed.forget(path)
                composed.marks.setdefault(path, []).append(Mark(origin, value))
                return []
            node = node[int(part)]
        elif isinstance(node, dict):
            path += (part,)
            table = COMPONENT_TABLES.get(str(part)) if len(path) == 1 else None
            node = node.get(str(part), [] if table is not None and table.many and written[position + 1 :] else {})
        else:
            message = f"'{shown('.'.join(map(str, path)))}' is not a table; it has no '{shown(str(part))}'"
            return [_problem(origin, message, "")]
    last_list = max((n for n, part in enumerate(path) if isinstance(part, int)), default=-1)
    below, inside = path[: last_list + 1], path[last_list + 1 :]
    for part in reversed(inside):
        value = {part: value}
    _lay_at(composed, below, origin, value)
    return []


def _lay_at(composed: Composed, path: Path, origin: Origin, table: dict[str, Any]) -> None:
    # Marks know paths from the top, so an item of a list is laid over as if it were the whole recipe.
    depth = len(path)
    item = Composed(composed.name, lookup(composed.tables, path))
    item.marks = {
        mark[depth:]: marks for mark, marks in composed.marks.items() if mark[:depth] == path and mark != path
    }
    item.put(origin, table)
    composed.forget(path)
    composed.marks.update({path + inside: marks for inside, marks in item.marks.items()})


def _no_item(origin: Origin, path: Path, part: Any, items: list[Any]) -> Problem:
    tables = not items or isinstance(items[0], dict)
    name = header((*path, 0)) if tables else shown(".".join(map(str, path)))
    count = f"it has {len(items)}, counted from 0" if items else "it has none; a whole list is written key=[...]"
    return _problem(origin, f"{name} has no item '{shown(str(part))}'", count)


def _problem(origin: Origin, message: str, cure: str) -> Problem:
    return Problem(origin.place(()), message, cure)
