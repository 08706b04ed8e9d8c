"""The editor's schema takes every right recipe, also one that only changes a base, and sees wrong keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from trainkit.manager import Plugins
from trainkit.recipe import Recipe, fill_toml, json_schema

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SHIPPED = sorted((ROOT / "recipes").glob("*.toml"))


@pytest.fixture(scope="module")
def judge(plugins: Plugins) -> jsonschema.Draft202012Validator:
    schema = json_schema(plugins)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _keys(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        return set(schema).union(*map(_keys, schema.values())) if schema else set()
    return set().union(*map(_keys, schema)) if isinstance(schema, list) else set()


def test_nothing_is_required(plugins: Plugins) -> None:
    assert "required" not in _keys(json_schema(plugins))


def test_filled_recipe_is_right(judge: Any, load: Callable[..., Recipe], base: str) -> None:
    judge.validate(tomli.loads(base))
    judge.validate(tomli.loads(fill_toml(load(base))))


@pytest.mark.parametrize(
    "text",
    [
        'extends = "base.toml"\n[optimizer]\nlr = 0.2',
        'extends = ["a.toml", "p:b"]\ndrop = ["schedule.also"]\nrequires = ["x>=1"]',
        '[optimizer]\nuse = "trainkit_fake:sgd"\nmomentum = 1',
        '[optimizer]\nuse = "lookahead"\ninner = { use = "lookahead", inner = { use = "adam", betas = [0, 1] } }',
        '[optimizer]\nuse = "sgd"\n[[optimizer.group]]\nmatch = "x"\nmomentum = 0.5',
        '[data]\naugment = [{ use = "crop" }, { use = "flip" }]',
        '[schedule]\nwarmup = "1.5e3ba"',
        "[run]\ncompile = false\nchannels_last = true",
        "[loss]\nweights = { cat = 1 }",
        "",
    ],
)
def test_right(judge: Any, text: str) -> None:
    judge.validate(tomli.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "sed = 1",
        "seed = -1",
        "seed = true",
        "[optimzer]",
        '[optimizer]\nuse = "sdg"',
        '[optimizer]\nuse = "sgd"\nbetas = [0.9, 0.9]',
        '[optimizer]\nuse = "adam"\nbetas = [0.9]',
        '[optimizer]\nuse = "adam"\nbetas = [0.9, 2]',
        '[optimizer]\nuse = "sgd"\nlr = 0',
        '[optimizer]\nuse = "sgd"\nlr = "fast"',
        '[optimizer]\nuse = "sgd"\nbatch_size = 1',
        '[optimizer]\nuse = "lookahead"\ninner = { use = "sgd", group = [] }',
        '[optimizer]\nuse = "sgd"\n[[optimizer.group]]\nmatch = "x"\nbetas = 1',
        '[[optimizer]]\nuse = "sgd"',
        '[metric]\nuse = "top"',
        '[[metric]]\nuse = "top"\nkk = 1',
        '[data]\naugment = [{ use = "sgd" }]',
        '[schedule]\nwarmup = "2epochs"',
        "[run]\nduration = 3",
        "[run]\ncompile = true",
        "extends = 3",
        'drop = "schedule"',
    ],
)
def test_wrong(judge: Any, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        judge.validate(tomli.loads(text))


def test_help_is_there_for_editors(plugins: Plugins) -> None:
    schema = json_schema(plugins)
    branches = schema["properties"]["optimizer"]["anyOf"]
    (sgd,) = [branch for branch in branches if "sgd" in branch["properties"]["use"]["enum"]]
    assert sgd["description"] == "Stochastic gradient descent."
    assert sgd["properties"]["lr"]["description"] == "size of a step."
    assert sgd["properties"]["lr"]["default"] == 0.01


@pytest.fixture(scope="module")
def installed() -> Any:
    return jsonschema.Draft202012Validator(json_schema(Plugins()))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_recipe(installed: Any, file: Path) -> None:
    installed.validate(tomli.loads(file.read_text(encoding="utf-8")))
