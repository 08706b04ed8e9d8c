"""The strict pydantic model of a table: unknown keys refused, nothing converted, every fault reported at once.

`accepted` holds the same rules for values that are plainly right: most recipes then need no pydantic, whose import and
models cost more than all the rest of a check.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from trainkit.clock import DURATION_EXAMPLES, Span
from trainkit.settings import (
    PLAIN_TYPES,
    Between,
    DurationType,
    Nested,
    Setting,
    describe_type,
    is_union,
    split_annotated,
)

if TYPE_CHECKING:
    from pydantic import BaseModel


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
    if bare in PLAIN_TYPES:
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


def settings_model(name: str, settings: Iterable[Setting]) -> type[BaseModel]:
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


def model_of(name: str, settings: tuple[Setting, ...]) -> Callable[[], type[BaseModel]]:
    """What makes the model when it is needed, once."""
    return functools.cache(lambda: settings_model(name, settings))


class Unsure(Exception):
    """A value is not plainly right: the model has to say whether it is, and what is wrong."""


def accepted(annotation: Any, value: Any) -> Any:
    """The value as the strict model gives it, if that is plain to see.

    Raises:
        Unsure: if it is wrong, or the model has to look.
    """
    bare, markers = split_annotated(annotation)
    for marker in markers:
        if isinstance(marker, Nested):
            return _text_keys(value)
        if isinstance(marker, DurationType):
            return _duration(value)
    if bare in PLAIN_TYPES:
        return _plain(bare, [marker for marker in markers if isinstance(marker, Between)], value)
    origin, args = get_origin(bare), get_args(bare)
    if origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in args):
            return value
        raise Unsure
    if is_union(bare):
        return accepted(next(part for part in args if part is not type(None)), value)
    if bare == dict[str, Any]:
        return _text_keys(value)
    if origin is dict:
        return {key: accepted(args[1], item) for key, item in _text_keys(value).items()}
    if type(value) is not list:
        raise Unsure
    if origin is list:
        return [accepted(args[0], item) for item in value]
    each = args[:1] * len(value) if args[-1] is Ellipsis else args
    if origin is not tuple or len(each) != len(value):
        raise Unsure
    return tuple(accepted(part, item) for part, item in zip(each, value, strict=True))


def _plain(bare: Any, limits: list[Between], value: Any) -> Any:
    kind: Any = type(value)
    if bare is float and kind is int and abs(value) < 2**53:
        value = float(value)
        kind = float
    if kind is not (str if bare is Path else bare):
        raise Unsure
    if kind is str:
        return _text(value, bare is Path)
    if kind is not bool and not (-(2**63) < value < 2**63 and all(limit.holds(value) for limit in limits)):
        raise Unsure
    if kind is float and not math.isfinite(value):
        raise Unsure
    return value


def _text(value: str, path: bool = False) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # of a command line that is not UTF-8
        raise Unsure from None
    if path and (not value or "\0" in value):
        raise Unsure
    return value


def _duration(value: Any) -> str:
    if type(value) is not str:
        raise Unsure
    try:
        Span.parse(value)
    except ValueError:
        raise Unsure from None
    return _text(value)


def _text_keys(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise Unsure
    for key in value:
        if type(key) is not str:
            raise Unsure
        _text(key)
    return dict(value)
