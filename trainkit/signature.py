"""A typed function read as a schema: its keyword-only parameters are settings, its docstring their help."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from trainkit.settings import Setting, describe_type

_ARGS_SECTION = re.compile(r"^(?:Args|Settings):[ \t]*$", re.MULTILINE)
_ARG_LINE = re.compile(r"^(\s+)(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


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
    signature = inspect.signature(function)
    _, helps = read_help(function.__doc__)
    settings = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(
                f"put {parameter.name!r} before '/' (given by the core) or after '*' (read from the recipe)"
            )
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty:
            raise TypeError(f"setting {parameter.name!r} has no annotation: its type is what a recipe may write")
        if isinstance(annotation, str):
            # Only settings are resolved: what the core gives may be annotated with names that type checkers alone know.
            # The text stands in the plugin's own source, never in a recipe.
            holder = type("holder", (), {"__annotations__": {"it": annotation}, "__module__": function.__module__})
            annotation = typing.get_type_hints(
                holder, globalns=getattr(function, "__globals__", None), include_extras=True
            )["it"]
        try:
            describe_type(annotation)
        except TypeError as error:
            raise TypeError(f"setting {parameter.name!r}: {error}") from None
        settings.append(Setting(parameter.name, annotation, parameter.default, helps.get(parameter.name, "")))
    return tuple(settings)


def read_given(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters before ``/``: what the factory asks the core for."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY)
