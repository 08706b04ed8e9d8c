"""What stands at a key: the type, default and owner of any setting that a recipe has or could have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from trainkit.component import Component
from trainkit.errors import Place
from trainkit.inner_tables import ADDED, GROUP_SETTINGS
from trainkit.manager import Plugins
from trainkit.recipe.find import find_component
from trainkit.recipe.text import Path, did_you_mean, dotted, header, nearest, shown
from trainkit.recipe.values import Part, Table
from trainkit.settings import REQUIRED, Nested, Setting, is_union, split_annotated
from trainkit.strict import model_of
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS, TOP_SETTINGS


class Unreachable(Exception):
    """No setting stands there.

    Args:
        message: what is not there.
        cure: the nearest that is.
    """

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message, self.cure = message, cure


@dataclass(frozen=True)
class Found:
    """A setting, or a part of one.

    Args:
        annotation: its type.
        default: its default; `REQUIRED` where it has none.
        whole: where the setting begins that it is a part of: ``optimizer.betas`` for ``optimizer.betas.0``.
        of: the whole setting's default.
    """

    annotation: Any
    default: Any
    whole: Path
    of: Any


USE = Found(str, REQUIRED, (), REQUIRED)


def reach(plugins: Plugins, tables: Mapping[str, Any], path: Path) -> Found:
    """Find the setting at a path, in tables as they were written, bases and overrides laid over each other.

    Raises:
        Unreachable: if there is none; the nearest is named.
    """
    first = str(path[0])
    top = {setting.name: setting for setting in TOP_SETTINGS}
    if first in top:
        return _inside(plugins, top[first], tables.get(first), path, 1)
    if path == ("run",):
        return Found(dict[str, Any], REQUIRED, path, REQUIRED)
    if first == "run":
        return _setting(plugins, Table(("run",), "[run]", "[run]", {}, [_part(RUN_SETTINGS)]), tables.get("run"), path)
    table = COMPONENT_TABLES.get(first)
    if table is None:
        known = [*top, "run", *COMPONENT_TABLES]
        raise Unreachable(
            f"no table named '{shown(first)}'", did_you_mean(first, known) + f"a recipe takes: {', '.join(known)}"
        )
    value = tables.get(first, table.default)
    at: Path = (first,)
    if table.many:
        at, value = _item(value or (), path, 1, at)
    elif isinstance(value, Mapping) and "use" not in value and table.default is not None:
        value = {**table.default, **value}
    if len(path) == len(at):
        return Found(Annotated[Any, Nested(table.kind)], REQUIRED, at, REQUIRED)
    return _component(plugins, table.kind, table.added, value, path, at)


def _component(plugins: Plugins, kind: str, shared: Iterable[Setting], value: Any, path: Path, at: Path) -> Found:
    """Find what stands in the table at ``at`` that names a component."""
    if path[len(at)] == "use" and len(path) == len(at) + 1:
        return USE
    use = value.get("use") if isinstance(value, Mapping) else None
    component = find_component(plugins, kind, use, Place(""))[0] if use is not None else None
    if component is None:
        raise Unreachable(f"{header(at)} names no {kind} that is installed")
    if path[:2] == ("optimizer", "group") and len(path) == 4 and len(at) == 1:
        return _group(component, path)
    table = Table(at, f"{header(at)} {component.name}", component.name, {}, [_part(shared), _part(component.settings)])
    return _setting(plugins, table, value, path)


def _group(component: Component, path: Path) -> Found:
    settings = {setting.name: setting for setting in (*component.settings, *GROUP_SETTINGS)}
    setting = settings.get(str(path[3]))
    if setting is None:
        known = did_you_mean(str(path[3]), settings) + f"a group takes: {', '.join(settings)}"
        raise Unreachable(f"{header(path[:3])} has no setting '{shown(str(path[3]))}'", known)
    return Found(setting.annotation, REQUIRED, path, REQUIRED)


def _setting(plugins: Plugins, table: Table, value: Any, path: Path) -> Found:
    name = str(path[len(table.path)])
    setting = table.settings.get(name)
    if setting is None:
        near = nearest(name, table.settings)
        cure = did_you_mean(name, table.settings) + table.accepts(near)
        raise Unreachable(f"{table.title} has no setting '{shown(name)}'", cure)
    held = value.get(name, setting.default) if isinstance(value, Mapping) else setting.default
    return _inside(plugins, setting, held, path, len(table.path) + 1)


def _inside(plugins: Plugins, setting: Setting, value: Any, path: Path, depth: int) -> Found:
    """Step into a setting's value, as far as the path goes."""
    whole, annotation = path[:depth], setting.annotation
    while True:
        bare, markers = split_annotated(annotation)
        if is_union(bare):
            annotation = next(part for part in get_args(bare) if part is not type(None))
            continue
        if depth == len(path):
            return Found(annotation, setting.default if depth == len(whole) else REQUIRED, whole, setting.default)
        nested = next((marker for marker in markers if isinstance(marker, Nested)), None)
        if nested is not None:
            added = ADDED.get(nested.adds, ()) if nested.adds else ()
            return _component(plugins, nested.kind, added, value, path, path[:depth])
        origin, args, part = get_origin(bare), get_args(bare), path[depth]
        if origin in (list, tuple):
            _, value = _item(value if isinstance(value, list | tuple) else (), path, depth, path[:depth])
            each = origin is list or args[-1] is Ellipsis
            annotation = args[0] if each else args[int(part)]
        elif origin is dict:
            annotation = args[1]
            value = value.get(part) if isinstance(value, Mapping) else None
        elif bare is Any:
            return Found(Any, REQUIRED, whole, setting.default)
        else:
            raise Unreachable(f"'{shown(dotted(path[:depth]))}' is one value; it has no '{shown(str(part))}'")
        depth += 1


def _item(items: Any, path: Path, depth: int, at: Path) -> tuple[Path, Any]:
    """The item of a list that the path names, with its path."""
    part = path[depth] if depth < len(path) else None
    if isinstance(part, int) and isinstance(items, list | tuple) and part < len(items):
        return (*at, part), items[part]
    if part is None:
        return at, items
    count = f"it has {len(items)}, counted from 0" if items and isinstance(items, list | tuple) else "it has none"
    raise Unreachable(f"'{shown(dotted(at))}' has no item '{shown(str(part))}'", count)


def _part(settings: Iterable[Setting]) -> Part:
    own = tuple(settings)
    return Part(own, model_of("settings", own))
