"""One table against the settings it takes: unknown and missing keys, wrong types, defaults filled in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, get_args, get_origin

from trainkit.clock import DURATION_EXAMPLES, Span
from trainkit.errors import Problem
from trainkit.recipe.merge import Composed
from trainkit.recipe.text import Path, did_you_mean, nearest, shown, shown_value, toml_key, with_article
from trainkit.settings import (
    Nested,
    Setting,
    describe_type,
    duration_limits,
    is_duration,
    is_union,
    show_value,
    split_annotated,
)
from trainkit.strict import Unsure, accepted

if TYPE_CHECKING:
    from pydantic import BaseModel


# A line that lists more settings than this with their types is not read by anybody.
MANY = 9


@dataclass(frozen=True)
class Part:
    """Settings that come from one table, what makes the strict model of them, and names that few recipes need."""

    settings: tuple[Setting, ...]
    make_model: Callable[[], type[BaseModel]]
    finer: frozenset[str] = frozenset()


@dataclass
class Table:
    """A table as it was written, and all that it may hold.

    Args:
        path: where it is.
        title: what messages call it, such as ``[schedule] cosine``.
        owner: who takes the settings, such as ``cosine``.
        written: its keys, without ``use``.
        parts: the settings it takes, the core's before the component's.
        example: working values, to show where one is missing.
        partial: whether nothing is required and nothing filled in.
    """

    path: Path
    title: str
    owner: str
    written: Mapping[str, Any]
    parts: Sequence[Part]
    example: Mapping[str, Any] = field(default_factory=dict)
    partial: bool = False

    @property
    def settings(self) -> dict[str, Setting]:
        """Every setting by name; a component's own wins over the core's of that name."""
        return {setting.name: setting for part in self.parts for setting in part.settings}

    def accepts(self, near: str | None) -> str:
        """What the table takes, in one line: of a long table the names, and the one that is ``near`` in full."""
        finer = {name for part in self.parts for name in part.finer if name != near}
        settings = {name: setting for name, setting in self.settings.items() if name not in finer}
        if not settings:
            return f"{self.owner} takes no settings"
        if len(settings) <= MANY:
            return f"{self.owner} takes: {'; '.join(map(str, settings.values()))}"
        closest = f"{settings[near]}\n" if near else ""
        return f"{closest}{self.owner} takes: {', '.join(settings)}"


def check_table(table: Table, composed: Composed, known_faults: set[Path]) -> tuple[dict[str, Any], list[Problem]]:
    """Compare a table with its settings.

    Args:
        table: the table.
        composed: the recipe, for the places.
        known_faults: paths whose value was already found wrong.

    Returns:
        The filled table, with defaults also in place of wrong values, and what is wrong.
    """
    settings = table.settings
    problems = []
    meant: set[str] = set()
    for key in table.written:
        if key not in settings:
            near = nearest(key, settings)
            meant.update([near] if near else [])
            message = f"{table.title} has no setting '{shown(key)}'"
            cure = did_you_mean(key, settings) + table.accepts(near)
            problems.append(Problem(composed.place((*table.path, key)), message, cure))
    filled: dict[str, Any] = {}
    for part in table.parts:
        own = [setting for setting in part.settings if settings[setting.name] is setting]
        values = {s.name: table.written[s.name] for s in own if s.name in table.written}
        faults, good = _validate(part, values)
        for setting in own:
            path = (*table.path, setting.name)
            if setting.name in faults and not any(fault[: len(path)] == path for fault in known_faults):
                problems.extend(_faults(table, setting, values[setting.name], faults[setting.name], composed))
            elif _is_nothing(setting, table.written.get(setting.name)):
                message = f"{table.title} {setting.name} must be longer than nothing"
                message += f", got {shown_value(table.written[setting.name])}"
                problems.append(Problem(composed.place(path), message, f"{setting.name}: {setting.help}"))
            if setting.name in good:
                filled[setting.name] = plain(good[setting.name])
            elif setting.name in values and setting.name not in faults:
                filled[setting.name] = plain(values[setting.name])
            elif setting.required and not table.partial:
                if setting.name not in values and setting.name not in meant:
                    problems.append(_missing(table, setting, composed))
            elif not table.partial:
                filled[setting.name] = plain(setting.default)
    return filled, problems


def _is_nothing(setting: Setting, value: Any) -> bool:
    """Whether a duration that must come to updates is written as none; how many it comes to, the data says later."""
    if not isinstance(value, str) or not is_duration(setting.annotation):
        return False
    limits = duration_limits(setting.annotation)
    return any(not limit.holds(0) for limit in limits) and not Span.parse(value).amount


def _validate(part: Part, values: Mapping[str, Any]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return pydantic's errors by setting, and the values it made of those that are right (1 is 1.0 for a number)."""
    if not values:
        return {}, {}
    if all(setting.name in values for setting in part.settings if setting.required):
        annotations = {setting.name: setting.annotation for setting in part.settings}
        with contextlib.suppress(Unsure):
            return {}, {name: accepted(annotations[name], value) for name, value in values.items()}
    from pydantic import ValidationError

    faults: dict[str, list[Any]] = {}
    kept = dict(values)
    model_of_part = part.make_model()
    for _ in range(2):  # once for the faults, once more for the values of the rest
        try:
            model = model_of_part.model_validate(kept)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                if (name := str(fault["loc"][0])) in kept:
                    faults.setdefault(name, []).append(fault)
            kept = {name: value for name, value in kept.items() if name not in faults}
        else:
            return faults, {name: getattr(model, f"field_{name}") for name in kept}
    # A required key is missing or wrong, which leaves no model to read from: the values stay as they were written.
    return faults, kept


def _faults(table: Table, setting: Setting, value: Any, faults: Sequence[Any], composed: Composed) -> Iterator[Problem]:
    """Put pydantic's errors about one setting into words, one for each value at fault."""
    seen: set[Path] = set()
    for fault in faults:
        annotation, at, inside = _descend(setting.annotation, value, fault["loc"][1:])
        if inside in seen:
            continue
        seen.add(inside)
        name = toml_key(setting.name) + "".join(f"[{p}]" if isinstance(p, int) else f".{toml_key(p)}" for p in inside)
        message = (
            f"{table.title} {shown(name)} must be {with_article(describe_type(annotation))}, got {shown_value(at)}"
        )
        raised = fault.get("ctx", {}).get("error")
        cure = str(raised) if isinstance(raised, ValueError) else ""
        if cure.startswith("expected "):  # the message has said so
            cure = ""
        choices = [choice for choice in get_args(split_annotated(annotation)[0]) if isinstance(choice, str)]
        if isinstance(at, str) and get_origin(split_annotated(annotation)[0]) is not dict:
            cure = cure or did_you_mean(at, choices).strip()
        if setting.nested is not None and isinstance(at, str):
            cure = f"write {{ use = {shown_value(at)} }}"
        if setting.help:
            cure = f"{cure}\n{setting.name}: {setting.help}".strip()
        yield Problem(composed.place((*table.path, setting.name, *inside)), message, cure)


def _descend(annotation: Any, value: Any, loc: Sequence[Any]) -> tuple[Any, Any, Path]:
    """Follow an error's location as far as it exists in the data, and in the type."""
    path: Path = ()
    for part in loc:
        annotation = _without_none(annotation)
        bare, _ = split_annotated(annotation)
        origin, args = get_origin(bare), get_args(bare)
        if isinstance(value, dict) and origin is dict and part in value:
            annotation, value = args[1], value[part]
        elif isinstance(value, list) and origin in (list, tuple) and isinstance(part, int) and part < len(value):
            each = origin is list or args[-1] is Ellipsis
            if not each and part >= len(args):
                break
            annotation, value = args[0] if each else args[part], value[part]
        else:
            break
        path += (part,)
    return _without_none(annotation), value, path


def _without_none(annotation: Any) -> Any:
    bare, _ = split_annotated(annotation)
    if is_union(bare):
        return next(part for part in get_args(bare) if part is not type(None))
    return annotation


def _missing(table: Table, setting: Setting, composed: Composed) -> Problem:
    if setting.name in table.example:
        write = f"write {setting.name} = {show_value(table.example[setting.name])}, or another {setting.type_text}"
    elif is_duration(setting.annotation):
        write = f"write {setting.name} = a duration, such as {DURATION_EXAMPLES}"
    else:
        write = f"write {setting.name} = {with_article(setting.type_text)}"
    cure = f"{write}\n{setting.name}: {setting.help}" if setting.help else write
    place = composed.header(table.path)
    return Problem(place, f"{table.title} needs '{setting.name}', which is missing", cure)


def nested_values(annotation: Any, value: Any, path: Path = ()) -> Iterator[tuple[Path, Nested, Any]]:
    """The nested components in a setting's value: the path inside it, the marker, the table."""
    if value is None:
        return
    annotation = _without_none(annotation)
    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            yield path, marker, value
            return
    args = [arg for arg in get_args(bare) if arg is not Ellipsis]
    if isinstance(value, list) and get_origin(bare) in (list, tuple):
        for number, item in enumerate(value):
            yield from nested_values(args[min(number, len(args) - 1)], item, (*path, number))
    elif isinstance(value, dict) and get_origin(bare) is dict:
        for key, item in value.items():
            yield from nested_values(args[1], item, (*path, key))


def plain(value: Any) -> Any:
    """A copy in the types that TOML has, and ``None``."""
    if isinstance(value, dict | Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, FilePath) else value
