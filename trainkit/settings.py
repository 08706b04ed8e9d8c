"""The closed list of types a recipe value can have, read from the signatures of typed functions.

``bool int float str Path Duration Literal list[T] tuple[T, ...] dict[str, T] T | None
Annotated[T, Between(a, b)]`` and nested components, ``Annotated[Any, Nested("optimizer")]``.
An int passes for a float, a bool never for a number, no string is ever converted.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_origin

if TYPE_CHECKING:
    pass


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
        adds: the core's settings that the table takes beside the component's own (`trainkit.inner_tables.ADDED`). With
            ``phase`` that is ``length``, and the factory is handed a `Phase` of schedule and length.
        by_name: of the core's own settings: whether the component's name alone stands for a table with it.
    """

    kind: str
    deferred: bool = False
    adds: str = ""
    by_name: bool = False


ResumeRule: TypeAlias = Literal["fixed", "changeable", "restart", "checked"]


@dataclass(frozen=True)
class Resume:
    """What a continued run does where the setting has changed: ``Annotated[Fraction, Resume("changeable")]``.

    Without it the kind of the component decides: those of a model are fixed, an optimizer's and the data's are
    checked against the checkpoint, all others are changeable.

    Args:
        rule: ``fixed``: refused, since state in the checkpoint fits the old value alone. ``changeable``: the new value
            counts from there on. ``restart``: how a process carries the run out; the next one takes the new value, and
            numbers may be rounded otherwise. ``checked``: it is what the run has that is compared with the checkpoint,
            and ``run.on_conflict`` says what counts.
    """

    rule: ResumeRule


RESUME_TEXT: dict[ResumeRule, str] = {
    "fixed": "Must stay as it was when a run is continued.",
    "changeable": "May change when a run is continued.",
    "restart": "Each process of a run takes its own.",
    "checked": "Compared with the checkpoint when a run is continued.",
}


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
    def resume(self) -> ResumeRule | None:
        """What it says about being changed in a continued run; ``None`` leaves that to its kind."""
        return next((m.rule for m in split_annotated(self.annotation)[1] if isinstance(m, Resume)), None)

    @property
    def full_help(self) -> str:
        """The help line, and what the setting says itself about being changed when a run is continued."""
        if self.resume is None:
            return self.help
        return f"{self.help.rstrip('.')}. {RESUME_TEXT[self.resume]}".removeprefix(". ")

    @functools.cached_property
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


def duration_limits(annotation: Any) -> list[Between]:
    """The limits, in updates, of a duration or of its optional."""
    bare, markers = split_annotated(annotation)
    inside = get_args(bare) if is_union(bare) else ()
    own = [marker for marker in markers if isinstance(marker, Between)]
    return [*own, *(limit for part in inside for limit in duration_limits(part))]


def number_limits(annotation: Any, place: int = 0) -> list[Between]:
    """The limits of a number, of its optional, or of the number at ``place`` in a tuple."""
    bare, markers = split_annotated(annotation)
    own = [marker for marker in markers if isinstance(marker, Between)]
    parts = [part for part in get_args(bare) if part not in (type(None), Ellipsis)]
    if is_union(bare):
        return [*own, *number_limits(parts[0], place)]
    if get_origin(bare) is tuple:
        return [*own, *number_limits(parts[min(place, len(parts) - 1)])]
    return own


def durations_inside(annotation: Any) -> Any:
    """The annotation of the items, if the setting or its optional is a list or a table of durations; else ``None``."""
    bare, _ = split_annotated(annotation)
    if is_union(bare):
        return next((found for part in get_args(bare) if (found := durations_inside(part)) is not None), None)
    item = get_args(bare)[-1] if get_origin(bare) in (list, dict) else None
    return item if item is not None and is_duration(item) else None


def is_path(annotation: Any) -> bool:
    """Whether the setting, or its optional, is a path."""
    bare, _ = split_annotated(annotation)
    return bare is Path or (is_union(bare) and any(is_path(part) for part in get_args(bare)))


def is_tuple(annotation: Any) -> bool:
    """Whether the setting, or its optional, is a tuple, which TOML writes as a list."""
    bare, _ = split_annotated(annotation)
    return get_origin(bare) is tuple or (is_union(bare) and any(is_tuple(part) for part in get_args(bare)))


PLAIN_TYPES = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}


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
    if bare in PLAIN_TYPES:
        return f"{PLAIN_TYPES[bare]} {limits}".rstrip()
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
