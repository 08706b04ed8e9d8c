"""The closed list of types a recipe value can have, read from the signatures of typed functions.

``bool int float str Path Duration Literal list[T] tuple[T, ...] dict[str, T] T | None
Annotated[T, Between(a, b)]`` and nested components, ``Annotated[Any, Nested("optimizer")]``.
An int passes for a float, a bool never for a number, no string is ever converted.
"""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin

from trainkit.clock import DURATION_EXAMPLES, Span

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Between:
    """Limits of a number, both included unless opened: ``Annotated[float, Between(0, 1)]``.

    Args:
        low: smallest value; ``None`` for no limit.
        high: largest value; ``None`` for no limit.
        low_open: whether ``low`` itself is refused.
        high_open: whether ``high`` itself is refused.
    """

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __str__(self) -> str:
        low = None if self.low is None else f"{self.low:g}"
        high = None if self.high is None else f"{self.high:g}"
        if low is not None and high is not None and not (self.low_open or self.high_open):
            return f"from {low} to {high}"
        parts = []
        if low is not None:
            parts.append(f"above {low}" if self.low_open else f"at least {low}")
        if high is not None:
            parts.append(f"below {high}" if self.high_open else f"at most {high}")
        return " and ".join(parts)

    def holds(self, value: float) -> bool:
        """Say whether ``value`` lies within the limits."""
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        return not (self.high is not None and (value > self.high or (self.high_open and value == self.high)))


@dataclass(frozen=True)
class Nested:
    """A setting that is a component of its own: a table with its own ``use``.

    Args:
        kind: the kind of component the table names.
        deferred: hand the factory a function that builds the component when called with what the core
            would give, instead of the built component; for composites that split what they are given.
    """

    kind: str
    deferred: bool = False


class DurationType:
    """Marks a setting as a duration; the factory receives it as a whole number of updates."""


# A recipe writes "5ep"; the core turns it into updates before it calls the factory. Signatures may therefore
# both default to text (``every: Duration = "1ep"``) and compute with a number (``t / every``): hence Any.
Duration: TypeAlias = Annotated[Any, DurationType()]
Period: TypeAlias = Annotated[Any, DurationType(), Between(1)]  # at least one update
Fraction: TypeAlias = Annotated[float, Between(0, 1)]
Positive: TypeAlias = Annotated[float, Between(0, None, low_open=True)]
NonNegative: TypeAlias = Annotated[float, Between(0)]
PositiveInt: TypeAlias = Annotated[int, Between(1)]
NonNegativeInt: TypeAlias = Annotated[int, Between(0)]

REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Setting:
    """One value that a recipe may write: its name, type, default and help line."""

    name: str
    annotation: Any
    default: Any = REQUIRED
    help: str = ""

    @property
    def required(self) -> bool:
        """Whether the recipe must write it."""
        return self.default is REQUIRED

    @property
    def type_text(self) -> str:
        """The type in a user's words, such as ``number from 0 to 1``."""
        return describe_type(self.annotation)

    @property
    def nested(self) -> Nested | None:
        """The nested component this setting is, or that its list or optional holds."""
        return find_nested(self.annotation)

    def __str__(self) -> str:
        if self.required:
            return f"{self.name}: {self.type_text} (required)"
        return f"{self.name}: {self.type_text} = {show_value(self.default)}"


def show_value(value: Any) -> str:
    """Show a value as TOML would write it; ``unset`` for ``None``, which TOML lacks."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Path):
        text = str(value)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {show_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return str(value)


def split_annotated(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the bare type and its markers: ``Annotated[float, Between(0, 1)]`` gives ``float, (Between,)``."""
    if get_origin(annotation) is Annotated:
        bare, *markers = get_args(annotation)
        inner, inner_markers = split_annotated(bare)
        return inner, (*inner_markers, *markers)
    return annotation, ()


def is_union(annotation: Any) -> bool:
    """Whether the annotation is ``A | B`` or ``Optional[A]``."""
    return get_origin(annotation) in (types.UnionType, typing.Union)


def find_nested(annotation: Any) -> Nested | None:
    """Find the nested component in an annotation, also inside a list or an optional."""
    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            return marker
    if is_union(bare) or get_origin(bare) is list:
        for part in get_args(bare):
            if (found := find_nested(part)) is not None:
                return found
    return None


def is_duration(annotation: Any) -> bool:
    """Whether the setting, or its optional, is a duration."""
    bare, markers = split_annotated(annotation)
    if any(isinstance(marker, DurationType) for marker in markers):
        return True
    return is_union(bare) and any(is_duration(part) for part in get_args(bare))


def is_path(annotation: Any) -> bool:
    """Whether the setting, or its optional, is a path."""
    bare, _ = split_annotated(annotation)
    return bare is Path or (is_union(bare) and any(is_path(part) for part in get_args(bare)))


_PLAIN = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


def describe_type(annotation: Any) -> str:
    """Put a type into a user's words.

    Raises:
        TypeError: if the type is not on the closed list.
    """
    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            return f"{marker.kind} table with its own 'use'"
        if isinstance(marker, DurationType):
            return "duration"
    limits = " ".join(str(marker) for marker in markers if isinstance(marker, Between))
    if bare in _PLAIN:
        return f"{_PLAIN[bare]} {limits}".rstrip()
    origin, args = get_origin(bare), get_args(bare)
    if origin is Literal:
        return "one of " + ", ".join(show_value(arg) for arg in args)
    if is_union(bare):
        parts = [part for part in args if part is not type(None)]
        if len(parts) == 1 and len(args) == 2:
            return f"{describe_type(parts[0])}, or unset"
    if origin is list and len(args) == 1:
        return f"list of {describe_type(args[0])}"
    if origin is tuple and args:
        if args[-1] is Ellipsis:
            return f"list of {describe_type(args[0])}"
        return f"list of {len(args)}: " + ", ".join(describe_type(arg) for arg in args)
    if bare == dict[str, Any]:
        return "table"  # the core's own, checked by rules of its own
    if origin is dict and args[0] is str:
        return f"table of {describe_type(args[1])}"
    raise TypeError(
        f"{bare!r} is not a type that a setting can have: use bool, int, float, str, Path, Duration, Literal, "
        "list[T], tuple[T, ...], dict[str, T], T | None, Annotated[T, Between(a, b)] or Annotated[Any, Nested(kind)]"
    )


def _pydantic_type(annotation: Any) -> Any:
    """Translate a setting's type into the strict pydantic type that checks it."""
    from pydantic import BeforeValidator, Field, FiniteFloat, Strict

    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            return dict[str, Any]  # the component it names is checked with its own model
        if isinstance(marker, DurationType):
            return Annotated[str, BeforeValidator(_check_duration), Field(json_schema_extra={"format": "duration"})]
    limits = [marker for marker in markers if isinstance(marker, Between)]
    if bare is Path:
        return Annotated[str, Field(min_length=1), BeforeValidator(_check_path)]
    if bare in _PLAIN:
        checked: Any = FiniteFloat if bare is float else bare
        for limit in limits:
            field = Field(
                ge=None if limit.low_open else limit.low,
                gt=limit.low if limit.low_open else None,
                le=None if limit.high_open else limit.high,
                lt=limit.high if limit.high_open else None,
            )
            checked = Annotated[checked, field]
        return checked
    origin, args = get_origin(bare), get_args(bare)
    if origin is Literal:
        return Annotated[bare, BeforeValidator(_check_literal(args))]
    if is_union(bare):
        return _pydantic_type(next(part for part in args if part is not type(None))) | None
    if origin is list:
        return list[_pydantic_type(args[0])]  # type: ignore[misc]
    if origin is tuple:  # TOML has lists alone, so a list must pass for a tuple: of the outside only
        parts = tuple(arg if arg is Ellipsis else _pydantic_type(arg) for arg in args)
        return Annotated[tuple[parts], Strict(False)]  # type: ignore[valid-type]
    if bare == dict[str, Any]:
        return bare
    return dict[str, _pydantic_type(args[1])]  # type: ignore[misc]


def _check_duration(value: Any) -> Any:
    if isinstance(value, str):
        Span.parse(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"a bare number has no unit; write {DURATION_EXAMPLES}")
    return value


def _check_path(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot hold a NUL character")
    return value


def _check_literal(choices: tuple[Any, ...]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        # 1 == True in Python; in a recipe they are different words.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError("expected " + describe_type(Literal[choices]))
        return value

    return check


def settings_model(name: str, settings: typing.Iterable[Setting]) -> type[BaseModel]:
    """Make the strict pydantic model that checks a table: unknown keys refused, nothing converted."""
    from pydantic import ConfigDict, Field, create_model

    fields: dict[str, Any] = {}
    for setting in settings:
        default = ... if setting.required else setting.default
        # The alias carries the recipe's name: pydantic reserves some names (json, copy, model_...).
        fields[f"field_{setting.name}"] = (
            _pydantic_type(setting.annotation),
            Field(default, alias=setting.name, description=setting.help or None),
        )
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields)


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
