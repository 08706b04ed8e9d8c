"""A recipe as plugins are given it: its tables, which nobody can change by mistake."""

from __future__ import annotations

from typing import Any, NoReturn

from trainkit.recipe.filled import FilledTables

_WHY = "the recipe of a run is not to be changed: what runs would not be what was checked and recorded"


def _refuse(self: object, *arguments: object, **named: object) -> NoReturn:
    raise TypeError(_WHY)


class _FixedTable(dict[str, Any]):
    """A table; copies of it are plain ones."""

    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: _plain(value) for key, value in self.items()}

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class _FixedList(list[Any]):
    """A list; copies of it are plain ones."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = extend = insert = pop = remove = clear = sort = (
        reverse
    ) = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [_plain(value) for value in self]

    def __reduce__(self) -> Any:
        return list, (list(self),)


class FixedTables(FilledTables):
    """The tables of a recipe, with their places in its files."""

    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse

    def __init__(self, tables: FilledTables) -> None:
        super().__init__({key: _fixed(value) for key, value in tables.items()}, lambda: tables.composed)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: _plain(value) for key, value in self.items()}

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def _fixed(value: Any) -> Any:
    if isinstance(value, dict):
        return _FixedTable({key: _fixed(part) for key, part in value.items()})
    return _FixedList(map(_fixed, value)) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
