"""The recipe that plugins are given: read like any table, copied into one that is free, and not to be changed."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from trainkit.recipe import FilledTables, to_toml
from trainkit.recipe.fixed import FixedTables
from trainkit.recipe.merge import Composed

TABLES: dict[str, Any] = {"seed": 3, "data": {"augment": [{"use": "flip", "at": [1, 2]}]}, "metric": [{"use": "ece"}]}


@pytest.fixture
def fixed() -> FixedTables:
    return FixedTables(FilledTables(TABLES, Composed("r.toml")))


def test_it_reads_like_any_table(fixed: FixedTables) -> None:
    assert fixed == TABLES
    assert json.loads(json.dumps(fixed)) == TABLES
    assert to_toml(fixed) == to_toml(TABLES)
    assert fixed.place(("seed",)).origin == "r.toml"


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda tables: pickle.loads(pickle.dumps(tables))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_free_down_to_the_last_list(fixed: FixedTables, copied: Any) -> None:
    free = copied(fixed)
    free["seed"] = 4
    free["data"]["augment"][0]["at"].append(3)
    assert free["data"]["augment"][0] == {"use": "flip", "at": [1, 2, 3]}
    assert fixed == TABLES
    assert [type(part) for part in (free, free["data"], free["data"]["augment"])] == [dict, dict, list]


MUTATORS = {
    dict: ("__setitem__", "__delitem__", "__ior__", "update", "pop", "popitem", "clear", "setdefault"),
    list: (
        *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "extend", "insert", "pop", "remove"),
        *("clear", "sort", "reverse"),
    ),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in MUTATORS.items() for name in names])
def test_whatever_would_change_it_is_refused(fixed: FixedTables, kind: type, name: str) -> None:
    parts = [fixed, fixed["data"]] if kind is dict else [fixed["metric"], fixed["data"]["augment"][0]["at"]]
    for part in parts:
        with pytest.raises(TypeError, match="not to be changed"):
            getattr(part, name)()
    # What else tables and lists have only reads.
    readers = {n for n in dir(kind) if n not in MUTATORS[kind] and not n.startswith("__")}
    assert (
        readers
        == {
            dict: {"copy", "fromkeys", "get", "items", "keys", "values"},
            list: {"copy", "count", "index"},
        }[kind]
    )
