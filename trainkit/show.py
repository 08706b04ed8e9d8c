"""What is installed: ``describe``, ``hooks``, ``plugins``."""

from __future__ import annotations

import importlib.util
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainkit import hookspecs
from trainkit.arguments import near
from trainkit.component import CAPABILITIES, KINDS, Component
from trainkit.console import aligned, emit, emit_json, emit_table
from trainkit.errors import UsageError, printable
from trainkit.hooking import hook_names
from trainkit.inner_tables import ADDED
from trainkit.listing import known_kind, spoken, summary
from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.recipe.text import plural
from trainkit.settings import Setting, show_value
from trainkit.tables import INSIDE, WITHIN, table_of

_WITH_WORKERS = {
    True: "repeatable; the same seed gives the same study, with any number of workers",
    False: "not repeatable, as results come in another order each time; with batch = N in [search] they are",
}


def show_component(plugins: Plugins, names: Sequence[str], as_json: bool) -> None:
    """Show one component as a user needs it to write a table.

    Raises:
        UsageError: if the words are not a kind and a name of an installed component.
    """
    from trainkit.changes import BY_KIND_TEXT, kind_rule, rule_for

    component = find_component(plugins, names, "describe")
    owner = plugins.owner(component)
    table = table_of(component.kind)
    shared = table.added if table is not None else ()
    own = {setting.name for setting in component.settings}
    shared = tuple(setting for setting in shared if setting.name not in own)
    if as_json:
        emit_json(
            summary(component.name, component, owner, component.missing_libraries)
            | {
                "settings": [
                    _setting(setting) | {"resume": rule_for(component.kind, setting)} for setting in component.settings
                ],
                "table_settings": [
                    _setting(setting) | {"resume": rule_for(component.kind, setting, True)} for setting in shared
                ],
                "capabilities": component.capabilities,
                "owns": component.owns,
                "example": component.example,
                "toml": example_toml(component),
                "source": component.origin,
            }
        )
        return
    lines = [f"{component.kind} {component.name}", *(f"  {line}".rstrip() for line in _doc(component))]
    lines += ["", "settings", *(_settings(component.settings) or ["  none"])]
    if shared:
        lines += [
            "",
            f"settings of every [{table.name if table is not None else component.kind}] table",
            *_settings(shared),
        ]
    for setting in shared:
        if setting.nested is not None and setting.nested.kind == component.kind and setting.nested.adds:
            within = ADDED[setting.nested.adds]
            lines += ["", f"in [{component.kind}.{setting.name}], besides its own", *_settings(within)]
    if traits := _traits(component):
        lines += ["", "traits", *aligned(traits, "  ")]
    lines += ["", "example", *(f"  {line}".rstrip() for line in example_toml(component).splitlines()), ""]
    lines += aligned([("source", component.origin), ("plugin", f"{owner.name} ({owner.distribution} {owner.version})")])
    if component.kind == "searcher":
        repeatable = bool(component.capabilities.get("repeatable"))
        lines.append(f"studies with several workers: {_WITH_WORKERS[repeatable]}")
    if component.settings:
        others = any(setting.resume is not None for setting in component.settings)
        said = BY_KIND_TEXT[kind_rule(component.kind)] + (", but for those that say otherwise" if others else "")
        lines.append(f"when a run is continued: {said}")
    lines += [f"missing {library}: {how}" for library, how in component.missing_libraries.items()]
    emit(printable("\n".join(lines)))


def show_source(plugins: Plugins, names: Sequence[str], as_json: bool) -> None:
    """Print the code of a component's factory, where it lies, and who supplies it.

    Raises:
        UsageError: if the words are not a kind and a name of an installed component, or its code is in no file.
    """
    component = find_component(plugins, names, "describe")
    owner = plugins.owner(component)
    try:
        code = inspect.getsource(inspect.unwrap(component.factory))
    except (OSError, TypeError):
        raise UsageError(
            f"{component.kind} '{component.name}' has no source file that could be shown\n"
            f"  it is supplied by {owner}: {component.origin}"
        ) from None
    if as_json:
        plugin = {"plugin": owner.name, "distribution": owner.distribution, "version": owner.version}
        emit_json({"kind": component.kind, "name": component.name, "source": component.origin, **plugin, "code": code})
        return
    emit(printable(f"# {component.origin}\n# {owner}\n") + textwrap.dedent(code))


def show_hooks(plugins: Plugins, as_json: bool) -> None:
    """List every hook in the order a run calls them, and the plugin modules that implement it."""
    rows = []
    for name in hook_names():
        spec = getattr(hookspecs, name)
        by = [plugin.name for plugin in plugins.plugins if plugin.module is not None and hasattr(plugin.module, name)]
        first = spoken((inspect.getdoc(spec) or "").split("\n", 1)[0])
        rows.append((f"{name}({', '.join(inspect.signature(spec).parameters)})", first, by))
    if as_json:
        emit_json({"hooks": [{"hook": hook, "help": first, "plugins": by} for hook, first, by in rows]})
    else:
        emit_table(
            ("hook", "what it does", "in modules of"), [(hook, first, ", ".join(by)) for hook, first, by in rows]
        )


def show_plugins(plugins: Plugins, as_json: bool) -> None:
    """List the plugins with their state."""
    if as_json:
        listed = [
            {
                "name": plugin.name,
                "module": plugin.module_name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "components": len(plugin.components),
                "kinds": _kinds(plugin),
                "path": _path(plugin),
                "error": plugin.error,
            }
            for plugin in plugins.plugins
        ]
        emit_json({"plugins": listed})
        return
    rows = [
        (
            *(p.name, p.distribution, p.version),
            ", ".join(f"{count} {plural(kind) if count > 1 else kind}" for kind, count in _kinds(p).items()),
            p.error.splitlines()[0] if p.error else "ok",
            _path(p),
        )
        for p in plugins.plugins
    ]
    emit_table(("plugin", "distribution", "version", "components", "state", "path"), rows)


def _kinds(plugin: Plugin) -> dict[str, int]:
    """How many components of each kind it supplies."""
    counts = Counter(component.kind for component in plugin.components)
    return {kind: counts[kind] for kind in KINDS if kind in counts}


def _path(plugin: Plugin) -> str:
    """The file of its package; empty where there is none."""
    if plugin.module is not None:
        return str(getattr(plugin.module, "__file__", None) or "")
    try:
        spec = importlib.util.find_spec(plugin.package)  # which imports nothing of a package at the top
    except (ImportError, ValueError):
        return ""
    return str(spec.origin or "") if spec is not None else ""


def example_toml(component: Component) -> str:
    """The component's example as a table that can be pasted into a recipe."""
    values = {"use": component.name, **component.example}
    if component.kind in INSIDE:
        return "\n".join(_toml(INSIDE[component.kind], values, True))
    if component.kind in WITHIN:
        return "\n".join(_toml(WITHIN[component.kind], values, False))
    table = table_of(component.kind)
    if table is None:
        return "\n".join(_toml((component.kind,), values, False))
    lines = _toml((table.name,), values, table.many)
    if component.kind == "searcher":  # which needs something to vary
        lines += ["", f"[{table.name}.space]", '"optimizer.lr" = { low = 0.001, high = 0.1, scale = "log" }']
    return "\n".join(lines)


def _toml(path: tuple[str, ...], table: Mapping[str, Any], many: bool) -> list[str]:
    """Lines of a table: its values first, then the tables inside it under headers of their own."""
    name = ".".join(path)
    lines = [f"[[{name}]]" if many else f"[{name}]"]
    inner: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping) and "use" in value:
            inner += ["", *_toml((*path, key), value, False)]
        elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                inner += ["", *_toml((*path, key), item, True)]
        else:
            lines.append(f"{key} = {show_value(value)}")
    return lines + inner


def find_component(plugins: Plugins, names: Sequence[str], verb: str) -> Component:
    """The component that the words of a verb name.

    Raises:
        UsageError: if the words are not a kind and a name of an installed component.
    """
    if len(names) != 2:
        kinds = [kind for kind in KINDS if names and plugins.find(kind, names[0])] or ["optimizer"]
        name = names[0] if names and plugins.find(kinds[0], names[0]) else "sgd"
        raise UsageError(f"{verb} takes a kind and a name, such as: trainkit {verb} {kinds[0]} {name}")
    kind, name = known_kind(names[0]), names[1]
    found = plugins.find(kind, name)
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"{plugins.owner(component).package}:{component.name}" for component in found)
        raise UsageError(f"several plugins have a {kind} named '{name}'; write one of {choices}")
    known = list(plugins.components(kind))
    broken = "".join(f"\n  {plugin.error}" for plugin in plugins.broken)
    from trainkit.recipe.find import installed_names

    shown = installed_names(plugins, kind)
    raise UsageError(f"no {kind} named '{name}'\n  {near(name, known)}installed: {shown}{broken}")


def _setting(setting: Setting) -> dict[str, Any]:
    required = {} if setting.required else {"default": setting.default}
    return {
        "name": setting.name,
        "type": setting.type_text,
        "required": setting.required,
        "help": setting.help,
        **required,
    }


def _settings(settings: Sequence[Setting]) -> list[str]:
    rows = [
        (
            setting.name,
            "required" if setting.required else show_value(setting.default),
            setting.type_text,
            spoken(setting.full_help),
        )
        for setting in settings
    ]
    return aligned(rows, "  ")


def _doc(component: Component) -> list[str]:
    """The docstring without its list of arguments, which the settings show."""
    text = inspect.cleandoc(component.factory.__doc__ or "no help")
    text = re.sub(r"(?m)^(?:Args|Settings):[ \t]*\n(?:(?:[ \t]+.*)?(?:\n|\Z))+", "", text)
    return spoken(text).rstrip().splitlines()


def _traits(component: Component) -> list[tuple[str, str]]:
    rows = [
        (word if value is True else f"{word} = {show_value(value)}", CAPABILITIES[word])
        for word, value in component.capabilities.items()
    ]
    rows += [(f"owns {thing}", "no other component of the recipe may own it") for thing in component.owns]
    for word, names in (("before", component.before), ("after", component.after), ("conflicts", component.conflicts)):
        if names:
            rows.append((word, ", ".join(names)))
    return rows
