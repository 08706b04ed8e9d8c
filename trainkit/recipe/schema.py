"""The JSON Schema of recipes for editors, covering every installed component.

It is relaxed: nothing is required, so that a recipe which only changes a base is not painted red; the strict judge is
``validate``. Each component is one branch of an ``anyOf``, which editors report better than ``oneOf`` and ``if``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from trainkit.component import KINDS, Component
from trainkit.inner_tables import ADDED, GROUP_SETTINGS
from trainkit.manager import Plugins
from trainkit.recipe.values import plain
from trainkit.settings import Between, DurationType, Nested, Setting, is_union, split_annotated
from trainkit.tables import COMPONENT_TABLES, RUN_SETTINGS, TOP_SETTINGS, table_of

_PLAIN = {bool: "boolean", int: "integer", float: "number"}
_DURATION = r"^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?(ep|ba|sp|tok|dur)$"


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """Make the schema (draft 2020-12) of recipes that these plugins can run."""
    definitions: dict[str, Any] = {}
    tables: dict[str, Any] = {"run": _object(RUN_SETTINGS, "How long the run is, and how it is executed.")}
    for kind in KINDS:
        # Inside other components: what the core adds to tables at the top is not there.
        definitions[kind] = _branches(plugins, kind, ())
    for name, kind in {"phase": "schedule", "also": "schedule", "react": "reaction", "rest": "optimizer"}.items():
        definitions[f"{kind}_{name}"] = _branches(plugins, kind, ADDED[name])
    for name, table in COMPONENT_TABLES.items():
        branches = _branches(plugins, table.kind, table.added) if table.added else {"$ref": f"#/$defs/{table.kind}"}
        tables[name] = {"type": "array", "items": branches} if table.many else branches
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trainkit recipe",
        "type": "object",
        "properties": {
            **_properties(TOP_SETTINGS),
            "extends": {
                "anyOf": [{"type": "string"}, texts],
                "description": "recipes to start from: files relative to this one, or package:name",
            },
            "drop": {**texts, "description": "keys that a base sets and this recipe removes"},
            **tables,
        },
        "additionalProperties": False,
        "$defs": definitions,
    }


def component_schema(plugins: Plugins, component: Component) -> dict[str, Any]:
    """The schema of the table that names a component, as it stands at the top of a recipe or inside another table."""
    table = table_of(component.kind)
    return _component(plugins, component, table.added if table is not None else ())


def _branches(plugins: Plugins, kind: str, shared: Iterable[Setting]) -> dict[str, Any]:
    found = [component for components in plugins.components(kind).values() for component in components]
    if not found:
        return {"type": "object"}
    return {"anyOf": [_component(plugins, component, tuple(shared)) for component in found]}


def _component(plugins: Plugins, component: Component, shared: tuple[Setting, ...]) -> dict[str, Any]:
    names = [component.name, f"{plugins.owner(component).package}:{component.name}"]
    own = {setting.name for setting in component.settings}
    settings = (*(setting for setting in shared if setting.name not in own), *component.settings)
    schema = _object(settings, component.help)
    schema["properties"] = {"use": {"enum": names, "description": component.help}, **schema["properties"]}
    if component.kind == "optimizer" and "group" in schema["properties"] and ":" in component.name:
        # A bridge brings so many that groups in full would double the schema.
        schema["properties"]["group"] = {"type": "array", "items": {"type": "object"}}
    elif component.kind == "optimizer" and "group" in schema["properties"] and "group" not in own:
        group = _object((*GROUP_SETTINGS, *component.settings), "Settings for some of the parameters.")
        loose = {**group, "additionalProperties": True}
        schema["properties"]["group"] = {"type": "array", "items": loose}
        # Beside a second optimizer a group may have that one's settings too; the second line says that there is one.
        strict = {"properties": {"group": {"items": group}}}
        schema["anyOf"] = [strict, {"not": {"properties": {"rest": False}}}]
    return schema


def _object(settings: Iterable[Setting], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": _properties(settings),
        "additionalProperties": False,
    }


def _properties(settings: Iterable[Setting]) -> dict[str, Any]:
    properties = {}
    for setting in settings:
        properties[setting.name] = _type(setting.annotation)
        if setting.full_help:
            properties[setting.name]["description"] = setting.full_help
        if not setting.required and setting.default not in (None, math.inf):  # for which JSON has no word
            properties[setting.name]["default"] = plain(setting.default)
    return properties


def _type(annotation: Any) -> dict[str, Any]:
    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            table = {"$ref": f"#/$defs/{marker.kind}_{marker.adds}" if marker.adds else f"#/$defs/{marker.kind}"}
            return {"anyOf": [{"type": "string"}, table]} if marker.by_name else table
        if isinstance(marker, DurationType):
            return {"type": "string", "pattern": _DURATION}
    origin, args = get_origin(bare), get_args(bare)
    if bare in _PLAIN:
        return {"type": _PLAIN[bare], **_limits(markers)}
    if is_union(bare):
        return _type(next(part for part in args if part is not type(None)))
    if origin is list:
        return {"type": "array", "items": _type(args[0])}
    if origin is tuple:
        if args[-1] is Ellipsis:
            return {"type": "array", "items": _type(args[0])}
        return {
            "type": "array",
            "prefixItems": [_type(arg) for arg in args],
            "minItems": len(args),
            "maxItems": len(args),
        }
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(args[1])}
    if args:  # Literal
        return {"enum": list(args)}
    return {"type": "string"} if bare is not Any else {}


def _limits(markers: Iterable[Any]) -> dict[str, float]:
    limits: dict[str, float] = {}
    for marker in markers:
        if isinstance(marker, Between):
            if marker.low is not None:
                limits["exclusiveMinimum" if marker.low_open else "minimum"] = marker.low
            if marker.high is not None:
                limits["exclusiveMaximum" if marker.high_open else "maximum"] = marker.high
    return limits
