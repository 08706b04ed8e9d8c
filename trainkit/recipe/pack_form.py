"""The form of a pack: its every value is looked at before it is believed, since it may be a stranger's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from trainkit.files import Unfit
from trainkit.forms import cut

FORMAT = 1
MAX_PACK = 4 * 1024**2  # bytes
MAX_BASES = 64
MAX_LISTED = 200  # overrides, requirements, versions, splits, files
MAX_LINE = 4096  # characters of one of these
MAX_TOLD = 16 * 1024  # characters of all overrides, and of all requirements: messages show them
MAX_FILLED = 256 * 1024  # characters of the filled recipe, which has more to say than a recipe
MAX_NAME = 200  # characters
_KEYS = {"pack", "recipe", "bases", "overrides", "requires", "environment", "data", "filled", "sha256"}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_form(body: Mapping[str, Any]) -> None:
    """Hold that a JSON object is of the form that `trainkit.recipe.packed.Pack.as_json` writes.

    Raises:
        Unfit: naming what is of another form.
    """
    _keys(body, _KEYS, "it")
    if type(body["pack"]) is not int or body["pack"] != FORMAT:
        raise Unfit(f"its format is {cut(body['pack'])}, not {FORMAT}")
    _digest(body["sha256"], "sha256")
    _text(body["recipe"], "the recipe", "name")
    _name(body["recipe"]["name"])
    _text(body["filled"], "the filled recipe")
    if len(body["filled"]["text"]) > MAX_FILLED:
        raise Unfit(f"the filled recipe has more than the {MAX_FILLED:,} characters that it may have")
    for name, table in _few(body["bases"], "bases", MAX_BASES).items():
        _text(table, f"base '{cut(_name(name))}'")
    for what in ("overrides", "requires"):
        if sum(map(len, _lines(body[what], what))) > MAX_TOLD:
            raise Unfit(f"'{what}' has more than the {MAX_TOLD:,} characters that it may have")
    environment = _few(body["environment"], "environment")
    for table in ({**environment, "plugins": ""}, _few(environment.get("plugins"), "plugins")):
        _each(table, _line, "version")
    _data(body["data"])


def _data(data: Any) -> None:
    _keys(data, {"fingerprint", "sizes", "files"}, "data")
    if data["fingerprint"] != "":
        _digest(data["fingerprint"], "fingerprint of the data")
    _each(_few(data["sizes"], "sizes"), _count, "size")
    for key, table in _few(data["files"], "files").items():
        _keys(table, {"bytes", "sha256"}, f"file '{cut(key)}'")
        _count(table["bytes"], f"length of '{cut(key)}'")
        _digest(table["sha256"], f"sha256 of '{cut(key)}'")


def _keys(table: Any, known: set[str], what: str) -> None:
    if not isinstance(table, dict):
        raise Unfit(f"{what} must be a table, and is {cut(table)}")
    if lacking := sorted(known - table.keys()):
        raise Unfit(f"{what} has no '{lacking[0]}'")
    if strange := sorted(table.keys() - known):
        raise Unfit(f"{what} has '{cut(strange[0])}', which no pack has")


def _text(table: Any, what: str, *more: str) -> None:
    _keys(table, {"text", "sha256", *more}, what)
    _encodable(table["text"], f"text of {what}")
    _digest(table["sha256"], f"sha256 of {what}")


def _name(value: Any) -> str:
    if not _line(value, "name of a recipe").isprintable() or not 0 < len(value) <= MAX_NAME:
        raise Unfit(f"the name of a recipe is {cut(value)}")
    return str(value)


def _line(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_LINE:
        raise Unfit(f"the {what} is {cut(value)}")
    return _encodable(value, what)


def _encodable(value: Any, what: str) -> str:
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError:  # half a character, which JSON can write and no file can hold
        pass
    raise Unfit(f"the {what} is {cut(value)}, not text")


def _digest(value: Any, what: str) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise Unfit(f"the {what} must be 64 hexadecimal digits, and is {cut(value)}")


def _lines(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_LISTED:
        raise Unfit(f"{what} must be a list of at most {MAX_LISTED} texts, and is {cut(value)}")
    return [_line(item, f"item of {what}") for item in value]


def _few(value: Any, what: str, most: int = MAX_LISTED) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit(f"{what} must be a table, and is {cut(value)}")
    if len(value) > most:
        raise Unfit(f"{what} has {len(value)} values, and may have {most}")
    for key in value:
        _line(key, f"key of {what}")
    return value


def _each(table: Mapping[str, Any], look: Callable[[Any, str], Any], what: str) -> None:
    for key, value in table.items():
        look(value, f"{what} of '{cut(key)}'")


def _count(value: Any, what: str) -> None:
    if type(value) is not int or not 0 <= value < 2**63:
        raise Unfit(f"the {what} is {cut(value)}, not a whole number")
