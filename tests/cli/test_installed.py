"""What is installed, shown: list, describe, hooks, plugins, schema, doctor."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from trainkit.component import KINDS
from trainkit.hooking import hook_names
from trainkit.manager import Plugins

INSTALLED = Plugins()
COMPONENTS = [(kind, name) for kind in KINDS for name in INSTALLED.components(kind)]
# That each component can be described is among the contracts that it is held to; here it is the command.
FIRST = [(kind, next(iter(INSTALLED.components(kind)))) for kind in KINDS]


def test_list_shows_kind_name_and_help(trainkit):
    lines = trainkit("list").out.splitlines()
    assert lines[0].split() == ["kind", "name", "what", "it", "is"]
    bare = {(kind, name) for kind, name in COMPONENTS if ":" not in name}
    assert {tuple(line.split()[:2]) for line in lines[1:]} == bare | {("optimizer", "kozistr:...")}
    assert sum("128 more: trainkit list optimizer" in line for line in lines) == 1


def test_list_of_one_kind_names_what_bridges_bring_last(trainkit):
    names = [line.split()[1] for line in trainkit("list", "optimizer").out.splitlines()[1:]]
    assert set(names) == {name for kind, name in COMPONENTS if kind == "optimizer"}
    assert [":" in name for name in names] == sorted(":" in name for name in names)


def test_list_of_one_kind_as_json(trainkit):
    found = trainkit("list", "optimizer", "--json").json
    assert {component["kind"] for component in found["components"]} == {"optimizer"}
    sgd = next(component for component in found["components"] if component["name"] == "sgd")
    assert sgd["distribution"] == "trainkit"
    assert sgd["missing"] == {}
    assert found["broken"] == []


def test_list_of_a_kind_without_components(trainkit):
    assert trainkit("list", "searcher", "--without", "searchers").out == "no searcher is installed\n"


def test_list_recipes(trainkit):
    assert "trainkit:mlp_digits" in trainkit("list", "recipes").out.splitlines()
    assert "trainkit:mlp_digits" in trainkit("list", "recipes", "--json").json["recipes"]


@pytest.mark.parametrize(("kind", "name"), FIRST, ids=lambda value: value)
def test_describe_shows_a_table_ready_to_paste(trainkit, kind, name):
    outcome = trainkit("describe", kind, name, "--json")
    assert outcome.code == 0
    table = tomllib.loads(outcome.json["toml"])
    while isinstance(table, dict | list) and "use" not in table:
        table = table[0] if isinstance(table, list) else next(iter(table.values()))
    assert table["use"] == name
    assert Path(outcome.json["source"].rpartition(":")[0]).is_file()


def test_describe_says_everything_about_sgd(trainkit):
    text = trainkit("describe", "optimizer", "sgd").out
    for part in (
        "optimizer sgd",
        "lr            required  number above 0",
        "settings of every [optimizer] table",
        "no_decay",
        "elementwise",
        'use = "sgd"',
        "Source:",
        "plugin  optimizers (trainkit ",
        "trainkit_optimizers/descent.py:",
    ):
        assert part in text
    assert "Args:" not in text


@pytest.mark.parametrize(
    ("kind", "name", "setting", "said", "rest"),
    [
        ("model", "mlp", "dropout", "May change when a run is continued.", "settings must stay as they were, but for"),
        ("optimizer", "rmsprop", "centered", "Must stay as it was when a run is continued.", "compared with the check"),
        ("callback", "ema", "", "", "when a run is continued: settings may change\n"),
    ],
)
def test_describe_says_what_may_change_in_a_continued_run(trainkit, kind, name, setting, said, rest):
    lines = trainkit("describe", kind, name).out
    marked = [line.split()[0] for line in lines.splitlines() if "when a run is continued." in line]
    assert marked == ([setting] if said else [])
    assert said in lines
    assert rest in lines


def test_describe_has_the_rule_of_every_setting_as_json(trainkit):
    told = trainkit("describe", "optimizer", "rmsprop", "--json").json
    rules = {setting["name"]: setting["resume"] for setting in told["settings"]}
    assert {name for name, rule in rules.items() if rule != "checked"} == {"centered"}
    assert rules["centered"] == "fixed"
    assert {setting["name"]: setting["resume"] for setting in told["table_settings"]}["wrap"] == "fixed"
    data = trainkit("describe", "data", "synthetic", "--json").json["table_settings"]
    rules = {setting["name"]: setting["resume"] for setting in data}
    assert (rules["workers"], rules["shuffle"], rules["batch_size"]) == ("restart", "fixed", "checked")


def test_describe_takes_package_and_name(trainkit):
    assert trainkit("describe", "optimizer", "trainkit_optimizers:sgd").code == 0


def test_hooks_are_listed_in_the_order_of_a_run(trainkit):
    lines = trainkit("hooks").out.splitlines()[1:]
    assert [line.split("(")[0] for line in lines] == hook_names()
    assert "optimizers" in lines[0]


def test_hooks_as_json_name_the_plugins_that_implement_them(trainkit):
    first = trainkit("hooks", "--json").json["hooks"][0]
    assert first["hook"] == "trainkit_components()"
    assert "optimizers" in first["plugins"]


def test_plugins_are_listed_with_their_state(trainkit):
    lines = trainkit("plugins").out.splitlines()
    assert lines[0].split() == ["plugin", "distribution", "version", "components", "state", "path"]
    assert all(line.split()[-2] == "ok" and Path(line.split()[-1]).is_file() for line in lines[1:])
    assert {p["name"] for p in trainkit("plugins", "--json").json["plugins"]} >= {"optimizers", "schedules"}


def test_schema_is_written_or_printed(trainkit, tmp_path):
    printed = trainkit("schema").json
    assert printed["$schema"].startswith("https://json-schema.org/")
    outcome = trainkit("schema", "--out", "recipe.schema.json")
    assert outcome.out == ""
    assert json.loads((tmp_path / "recipe.schema.json").read_text(encoding="utf-8")) == printed
    assert trainkit("schema", "--out", "recipe.schema.json", "--json").json == {"out": "recipe.schema.json"}


def test_schema_into_a_folder_that_is_not_there(trainkit):
    outcome = trainkit("schema", "--out", "nowhere/schema.json")
    assert outcome.code == 3
    assert "nowhere/schema.json: cannot be written: No such file" in outcome.err


def test_a_missing_library_is_listed_with_the_command_that_installs_it(trainkit, tmp_path):
    (tmp_path / "needy.py").write_text(
        "from trainkit import Component, hookimpl\n"
        "def needy():\n    '''Need something.'''\n"
        "@hookimpl\n"
        "def trainkit_components():\n"
        "    return [Component('callback', needy, libraries={'no_such_library': 'pip install no-such'})]\n",
        encoding="utf-8",
    )
    assert "[missing no_such_library: pip install no-such]" in trainkit("list", "callback", "-p", "needy").out
