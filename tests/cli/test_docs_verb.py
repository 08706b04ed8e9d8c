"""``trainkit docs``: where the pages lie, and the page of a component."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import tomli

from trainkit import pages
from trainkit.cli import main
from trainkit.component import Component
from trainkit.kinds import CAPABILITIES
from trainkit.manager import Plugins
from trainkit.pages import component_page, markdown, page_file, recipes_by_component
from trainkit.show import example_toml

PLUGIN = '''
from trainkit import Component, Schedule, hookimpl

def made(*, a: float = 1.5, b: int | None = None, c: str) -> Schedule:
    """Rise as ``t ** a``, or t * a | b.

    It has a second paragraph, about 2 * 3 * 4.

    Args:
        a: exponent.
    """
    return lambda t, T, events=(): 1.0

@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("schedule", made, "our:../made", example={"c": "x"}, capabilities={"jumps": True},
                      exempt={"finite_everywhere": "it has a pole"})]
'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A plugin whose component has an odd name, and a cache folder of its own."""
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    module = tmp_path / "lab_of_pages.py"
    module.write_text(PLUGIN, encoding="utf-8")
    yield module
    sys.modules.pop("lab_of_pages", None)


def test_all_pages_are_listed_with_their_titles(capsys):
    assert main(["docs", "--json"]) == 0
    listed = {one["page"]: one for one in json.loads(capsys.readouterr().out)["pages"]}
    assert listed["recipes"]["title"] == "Recipes"
    assert all(Path(one["file"]).read_text(encoding="utf-8").startswith(f"# {one['title']}") for one in listed.values())


@pytest.mark.parametrize("word", ["recipes", "recipes.md"])
def test_one_page_is_its_path_alone(word, capsys):
    assert main(["docs", word]) == 0
    file = capsys.readouterr().out.strip()
    assert Path(file).read_text(encoding="utf-8").startswith("# Recipes")


def test_plugins_are_not_looked_at_for_what_is_no_component(capsys):
    pages.show_docs(lambda: pytest.fail("plugins were asked for"), ["recipes"], as_json=False)
    pages.show_docs(lambda: pytest.fail("plugins were asked for"), [], as_json=True)
    assert "recipes.md" in capsys.readouterr().out


def test_the_page_of_a_component_says_what_its_signature_says(lab, tmp_path, capsys):
    assert main(["docs", "schedule", "our:../made", "-p", str(lab), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    file = Path(found["file"])
    assert file.is_relative_to(tmp_path / "cache" / "docs"), "the name leads nowhere else"
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# our:../made\n")
    assert "Rise as `t ** a`, or t \\* a | b." in text
    assert "about 2 \\* 3 \\* 4" in text
    assert "| `a` | number | `1.5` | exponent" in text
    assert "| `b` | integer, or unset | unset | " in text
    assert "| `c` | text | required | " in text
    assert f"`jumps`: {CAPABILITIES['jumps']}." in text
    assert "`finite_everywhere`: it has a pole" in text
    for link in [part.partition(")")[0] for part in text.split("](")[1:]]:
        assert Path(link.partition("#")[0]).is_absolute()


def test_links_of_a_page_lead_to_folders_of_any_name(lab, tmp_path, monkeypatch, capsys):
    docs = tmp_path / "my (own) pages"
    docs.mkdir()
    for name in ("getting-started", "components", "recipes", "testing"):
        (docs / f"{name}.md").touch()
    monkeypatch.setattr(pages, "FOLDERS", (docs,))
    assert main(["docs", "schedule", "our:../made", "-p", str(lab)]) == 0
    text = Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]*?)(?:#\w+)?\)", text)
    assert len(links) == 4
    assert all(Path(unquote(link)).is_file() for link in links)


def test_the_page_is_written_anew_each_time(lab, capsys):
    words = ["docs", "schedule", "our:../made", "-p", str(lab)]
    assert main(words) == 0
    file = Path(capsys.readouterr().out.strip())
    first = file.read_text(encoding="utf-8")
    file.write_text("of an older signature", encoding="utf-8")
    assert main(words) == 0
    assert file.read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipies"], "no page named 'recipies'\n  did you mean 'recipes'?"),
        (["optimizer"], "trainkit docs optimizer NAME"),
        (["optimizer", "sdg"], "did you mean 'sgd'?"),
        (["optimiser", "sgd"], "did you mean 'optimizer'?"),
        (["a", "b", "c"], "docs takes a kind and a name"),
    ],
)
def test_what_is_not_there_is_one_message(words, said, capsys):
    assert main(["docs", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["docs"], ["describe"], ["describe", "--source"]], ids=" ".join)
def test_a_name_that_is_not_there_is_no_list_of_all_that_bridges_bring(words, capsys):
    assert main([*words, "optimizer", "adamww"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'adamw'?" in said
    assert " of kozistr:..." in said
    assert said.count("kozistr") == 1


def test_a_cache_folder_that_cannot_be_written_is_one_message(tmp_path, monkeypatch, capsys):
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    assert main(["docs", "optimizer", "sgd"]) == 3
    said = capsys.readouterr().err
    assert "cannot be made" in said
    assert "\n  set TRAINKIT_CACHE to a folder that can be written\n" in said


def test_pages_that_are_not_installed_are_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pages, "FOLDERS", (tmp_path,))
    assert main(["docs", "recipes"]) == 3
    assert "install trainkit again" in capsys.readouterr().err


def test_torch_is_not_imported_for_a_page():
    program = "import sys; from trainkit.cli import main; main(['docs', 'optimizer', 'lion'])"
    code = f"{program}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_every_component_of_ours_has_a_page_of_its_own():
    plugins = Plugins()
    plugins.load()
    files: set[str] = set()
    for plugin in plugins.plugins:
        for component in plugin.components:
            file = f"{plugin.package}/{page_file(component)}"
            assert file not in files
            files.add(file)
            text = component_page(component, plugin, "..")
            assert text.count("```toml") == 1
            block = text.partition("```toml\n")[2].partition("```")[0]
            assert tomli.loads(block) == tomli.loads(example_toml(component))
            assert all(f"| `{setting.name}` |" in text for setting in component.settings)


def test_recipes_are_found_by_what_they_name_at_any_depth():
    recipes = {
        "one": {
            "data": {"use": "digits", "augment": [{"use": "flip"}]},
            "optimizer": {"use": "muon", "rest": {"use": "adamw"}, "wrap": [{"use": "sam"}]},
            "schedule": {"use": "cosine", "also": [{"use": "linear", "react": [{"use": "plateau"}]}]},
            "search": {"use": "random", "executor": {"use": "lanes"}, "space": {"optimizer.use": ["sgd"]}},
        },
        "two": {"optimizer": {"use": "adamw"}, "metric": [{"use": "accuracy"}, {"use": "accuracy"}]},
        "three": {"ensemble": {"use": "distil", "of": {"use": "seeds"}, "executor": "processes"}},
    }
    found = recipes_by_component(recipes)
    assert found["optimizer", "adamw"] == ["one", "two"]
    assert found["metric", "accuracy"] == ["two"]
    assert {("augmentation", "flip"), ("wrapper", "sam"), ("schedule", "linear"), ("reaction", "plateau")} <= set(found)
    assert {("searcher", "random"), ("executor", "lanes")} <= set(found)
    assert {("ensembler", "seeds"), ("executor", "processes")} <= set(found)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("``a * b`` times c * d", r"`a * b` times c \* d"),
        ("``x`` < 3 and `y <z>`", r"`x` \< 3 and `y <z>`"),
        (r"\*args", r"\*args"),
    ],
)
def test_docstring_text_becomes_markdown(text, shown):
    assert markdown(text) == shown


def test_a_component_outside_of_any_recipe_table_has_a_page():
    component = Component("executor", Plugins().find("executor", "serial")[0].factory)
    assert page_file(component) == "executor/serial.md"
