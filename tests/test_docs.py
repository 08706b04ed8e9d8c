"""The docs say what the code does: hooks, verbs, options, exit codes, and the plugin that readers will copy."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from pathlib import Path

import pytest

import trainkit
from trainkit import hookspecs
from trainkit.cli import main
from trainkit.component import CAPABILITIES, GIVEN, OWNABLE
from trainkit.errors import Exit
from trainkit.hooking import hook_names
from trainkit.menu import OPTIONS, VERBS

DOCS = Path(__file__).parents[1] / "docs"
COMMAND_LINE = (DOCS / "command-line.md").read_text(encoding="utf-8")
HOOKS = (DOCS / "hooks.md").read_text(encoding="utf-8")
PLUGINS = (DOCS / "plugins.md").read_text(encoding="utf-8")


def words(text: str) -> str:
    """Text without markup and line breaks."""
    return " ".join(text.replace("`", "").split())


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_is_described_with_its_arguments(name):
    spec = getattr(hookspecs, name)
    heading = f"## `{name}({', '.join(inspect.signature(spec).parameters)})`\n"
    assert heading in HOOKS
    section = HOOKS.split(heading)[1].split("\n## ")[0]
    first, called = (inspect.getdoc(spec) or "").split("\n\n")[:2]
    assert words(first) in words(section)
    assert words(called) in words(section)
    arguments = (inspect.getdoc(spec) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    for told in re.split(r"^    (?=\w+: )", arguments, flags=re.MULTILINE):
        assert words(told).rstrip(".") in words(section)
    assert spec.trainkit_spec["firstresult"] == ("*First result.*" in section)


def test_hooks_stand_in_the_order_of_a_run():
    assert re.findall(r"^## `(trainkit_\w+)", HOOKS, re.MULTILINE) == hook_names()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_described_with_what_it_takes(verb):
    takes = VERBS[verb][0].replace("|", r"\|")
    assert f"| `{f'{verb} {takes}'.strip()}` |" in COMMAND_LINE


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_described(option):
    assert all(f"`{form}`" in COMMAND_LINE for form in option.split(", "))


@pytest.mark.parametrize("code", Exit, ids=lambda code: code.name)
def test_every_exit_code_is_described(code):
    assert f"\n| {code.value} | " in COMMAND_LINE


@pytest.mark.parametrize("kind", GIVEN)
def test_what_each_kind_may_ask_for(kind):
    names = ", ".join(f"`{name}`" for name in GIVEN[kind]) or "nothing"
    assert f"| `{kind}` | {names} |" in PLUGINS


@pytest.mark.parametrize("word", [*CAPABILITIES, *OWNABLE])
def test_every_capability_is_named(word):
    assert f"`{word}`" in PLUGINS


def test_the_two_lines_of_packaging():
    (packaging,) = [block for block in blocks(PLUGINS, "toml") if "entry-points" in block]
    assert tomllib.loads(packaging) == {"project": {"entry-points": {"trainkit": {"my_lab": "my_lab"}}}}
    assert len(packaging.splitlines()) == 2


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The plugin and the recipe of docs/plugins.md in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(PLUGINS, "python")
    (recipe,) = [block for block in blocks(PLUGINS, "toml") if "recipe = 1" in block]
    (tmp_path / "my_lab.py").write_text(code, encoding="utf-8")
    (tmp_path / "my_recipe.toml").write_text(recipe, encoding="utf-8")
    yield tmp_path
    __import__("sys").modules.pop("my_lab", None)


def test_the_plugin_of_the_docs_trains_and_is_measured_again(lab, capsys):
    assert main(["my_recipe.toml", "-p", "./my_lab.py", "--run-dir", "run", "run.threads=1", "-q"]) == 0
    report = json.loads((lab / "run" / "report.json").read_text(encoding="utf-8"))
    capsys.readouterr()
    assert main(["evaluate", "run", "-p", "my_lab", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["metrics"]
    assert measured["loss"] == pytest.approx(report["metrics"]["test.loss"], rel=1e-6)
    lines = [json.loads(line) for line in (lab / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["lr/0"] for line in lines if line["split"] == "train"]
    assert rates[0] < 0.1
    assert rates[-1] < rates[0], "the triangle has fallen again"


def test_the_commands_of_the_docs_work(lab, capsys):
    commands = re.findall(r"^    trainkit (.*)$", PLUGINS, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        smoke = ["--smoke", "-q"] if command.startswith("my_recipe") else []
        assert main([*command.split(), *smoke]) == 0, capsys.readouterr().err
    assert "Rise in a straight line" in capsys.readouterr().out


def test_the_page_of_public_names_has_each_once():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = [name for block in blocks(page, "api") for name in block.split()]
    told = re.findall(r"^(?:\| )?`(\w+)` (?:is|decorates|\|)", page, re.MULTILINE)
    assert sorted([name for name in listed if name != "testing.*"] + told) == trainkit.__all__
    assert "testing.*" in listed


def test_every_page_is_in_the_menu_of_the_site():
    menus = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    listed = [line for menu in menus for line in menu.splitlines() if line and not line.startswith(":")]
    pages = {file.stem for file in DOCS.glob("*.md")} - {"index"}
    assert sorted(page for page in listed if "/" not in page) == sorted(pages)
    assert all((DOCS.parent / f"{page.partition('/')[2]}.md").is_file() for page in listed if "/" in page)
