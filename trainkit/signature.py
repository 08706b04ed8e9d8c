"""A typed function read as a schema: its keyword-only parameters are settings, its docstring their help."""

from __future__ import annotations

import builtins
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from trainkit.settings import Setting, describe_type

_ARGS_SECTION = re.compile(r"^(?:Args|Settings):[ \t]*$", re.MULTILINE)
_ARG_LINE = re.compile(r"^(\s+)(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


@functools.lru_cache(1024)
def read_help(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Take a Google-style docstring apart: its first paragraph, and the help of each argument."""
    text = inspect.cleandoc(docstring or "")
    first = " ".join(text.split("\n\n", 1)[0].split())
    helps: dict[str, str] = {}
    if (section := _ARGS_SECTION.search(text)) is not None:
        current, indent = "", ""
        for line in text[section.end() :].splitlines()[1:]:
            if line and not line[0].isspace():
                break
            match = _ARG_LINE.match(line)
            if match and (not indent or match[1] == indent):
                indent, current = match[1], match[2]
                helps[current] = match[3]
            elif current and line.strip():
                helps[current] = f"{helps[current]} {line.strip()}".strip()
    return first, helps


def read_settings(function: Callable[..., Any]) -> tuple[Setting, ...]:
    """Read the keyword-only parameters of a typed function as settings.

    Raises:
        TypeError: for a parameter that is neither given by the core (before ``/``) nor a setting (after ``*``),
            has no annotation, or has a type that is not on the closed list.
    """
    _, helps = read_help(function.__doc__)
    parameters = _parameters(function)
    resolved = _resolve(function, parameters)
    settings = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"put {parameter.name!r} before '/' (given by the core) or after '*' (read from the recipe)"
            )
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty:
            raise TypeError(f"setting {parameter.name!r} has no annotation: its type is what a recipe may write")
        annotation = resolved.get(parameter.name, annotation)
        try:
            describe_type(annotation)
        except TypeError as error:
            raise TypeError(f"setting {parameter.name!r}: {error}") from None
        settings.append(Setting(parameter.name, annotation, parameter.default, helps.get(parameter.name, "")))
    return tuple(settings)


def read_given(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters before ``/``: what the factory asks the core for."""
    return tuple(p.name for p in _parameters(function) if p.kind is inspect.Parameter.POSITIONAL_ONLY)


class _Parameter(NamedTuple):
    """What is read here of an `inspect.Parameter`, which takes longer to make than to read."""

    name: str
    kind: Any
    annotation: Any
    default: Any


def _parameters(function: Callable[..., Any]) -> Collection[_Parameter | inspect.Parameter]:
    if not isinstance(function, types.FunctionType) or function.__dict__:
        return inspect.signature(function).parameters.values()  # wrapped, or with a signature of its own
    code = function.__code__
    before = code.co_posonlyargcount
    if before != code.co_argcount or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return inspect.signature(function).parameters.values()  # which is refused, with the name of the first
    hints, defaults, empty = function.__annotations__, function.__kwdefaults__ or {}, inspect.Parameter.empty
    found = []
    for place, name in enumerate(code.co_varnames[: before + code.co_kwonlyargcount]):
        kind = inspect.Parameter.POSITIONAL_ONLY if place < before else inspect.Parameter.KEYWORD_ONLY
        found.append(_Parameter(name, kind, hints.get(name, empty), defaults.get(name, empty)))
    return found


def _resolve(function: Callable[..., Any], parameters: Iterable[_Parameter | inspect.Parameter]) -> dict[str, Any]:
    """What the annotations of settings that are texts mean where the function stands.

    What the core gives may be annotated with names that type checkers alone know. The texts stand in the plugin's own
    source, never in a recipe.
    """
    names = getattr(function, "__globals__", {})
    resolved: dict[str, Any] = {}
    left: dict[str, str] = {}
    for parameter in parameters:
        text = parameter.annotation
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or not isinstance(text, str):
            continue
        found = names.get(text) if text in names else getattr(builtins, text, None)
        if found is None or isinstance(found, str):
            left[parameter.name] = text
        else:
            resolved[parameter.name] = found
    if left:
        holder = type("holder", (), {"__annotations__": left, "__module__": function.__module__})
        resolved |= typing.get_type_hints(holder, globalns=names or None, include_extras=True)
    return resolved
