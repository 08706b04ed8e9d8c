"""What the README and the docs show is true: recipes, settings, commands, links, and the names of modules."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import tomli

from trainkit import checkpoint
from trainkit.arguments import may_be_recipe, split_words
from trainkit.cli import main
from trainkit.clock import UNITS
from trainkit.errors import RecipeError, TrainkitError
from trainkit.manager import Plugins
from trainkit.menu import VERBS, first_positional
from trainkit.parsers import make_parser
from trainkit.recipe import json_schema, load_recipe, packaged_recipes, read
from trainkit.recipe.compose import MAX_DEPTH, MAX_LAYERS
from trainkit.run import Report
from trainkit.show import example_toml
from trainkit.tables import COMPONENT_TABLES

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
PAGES = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in FILES}
MODULES = sorted(file.relative_to(ROOT / "trainkit").as_posix() for file in (ROOT / "trainkit").rglob("*.py"))


def blocks(page: str, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """Indented or fenced lines that call trainkit, without their comments."""
    lines = re.findall(r"^ {4}((?:python -m )?trainkit .*)$", PAGES[page], re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in lines]


RECIPES = [
    pytest.param(page, text, id=f"{page}-{n}")
    for page in PAGES
    for n, text in enumerate(blocks(page, "toml"))
    if not text.startswith("[project")
]
COMMANDS = [pytest.param(line, id=f"{page}-{n}") for page in PAGES for n, line in enumerate(commands(page))]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("page", "text"), RECIPES)
def test_a_recipe_in_the_docs_is_right(page, text, tmp_path):
    shutil.copytree(ROOT / "recipes", tmp_path, dirs_exist_ok=True)
    joined = []
    for n, module in enumerate(blocks(page, "python")):
        if "trainkit_components" in module:
            file = (
                tmp_path / f"{re.sub(r'[^a-zA-Z0-9]', '_', tmp_path.name)}_{n}.py"
            )  # a name that no other test imports
            file.write_text(module, encoding="utf-8")
            joined.append(str(file))
    (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
    try:
        load_recipe(tmp_path / "shown.toml", [], Plugins(joined))
    except RecipeError as error:  # a plugin that a page is about is not installed: that, and nothing else, is wrong
        known = "requires" in text
        assert all(p.environment and (known or "needs the library" in p.message) for p in error.problems), error


def test_every_example_of_a_component_fits_the_schema(plugins):
    validator = jsonschema.Draft202012Validator(json_schema(plugins))
    own = [component for plugin in plugins.plugins for component in plugin.components]
    assert len(own) > 30
    for component in own:
        validator.validate(tomli.loads(example_toml(component)))


def test_tables_made_from_signatures_are_fresh(maker):
    page = PAGES["docs/recipes.md"]
    assert maker.with_settings(page) == page, "run: python docs/make_tables.py"


def test_every_table_and_unit_is_described(maker):
    page = PAGES["docs/recipes.md"]
    assert set(re.findall(r"<!-- settings: ([\w.]+) -->", page)) == set(maker.TABLES)
    for name, table in COMPONENT_TABLES.items():
        assert re.search(rf"^## .*{re.escape(f'[[{name}]]' if table.many else f'[{name}]')}", page, re.MULTILINE), name
    time = page.partition("### Time\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", time, re.MULTILINE) == list(UNITS)


def test_the_limits_of_a_recipe_are_the_ones_described():
    said = f"{read.MAX_BYTES // 1024} KiB, {read.MAX_KEYS} values, brackets nested {read.MAX_DEPTH} deep"
    layers = f"{MAX_LAYERS} layers of bases, {MAX_DEPTH} deep"
    assert said in PAGES["docs/recipes.md"]
    assert layers in PAGES["docs/recipes.md"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_on_the_way(module):
    assert f"`{module}`" in PAGES["docs/how-it-works.md"], f"say in docs/how-it-works.md what {module} is for"


def test_every_module_on_the_way_exists():
    named = re.findall(r"`([\w/]+\.py)`", PAGES["docs/how-it-works.md"])
    assert not set(named) - set(MODULES)


def test_the_readme_begins_with_its_two_commands():
    first, second = (block.strip() for block in blocks("README.md", "sh"))
    environment = "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e"
    assert first == f'{environment} ".[standard]" && python -m trainkit recipes/resnet_cosine.toml'
    assert second == f'{environment} ".[dev]" && pytest'


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_docs_names_a_verb_and_options_that_exist(line):
    words = shlex.split(line.removeprefix("python -m "))[1:]
    if words[0].startswith("--"):
        return
    place = first_positional(words)
    assert place is not None
    verb = words[place] if words[place] in VERBS else "run"
    if verb == words[place]:
        del words[place]
    else:
        assert may_be_recipe(words[place]) or words[place] in ("RECIPE", "RUN")
    try:
        make_parser(verb).parse_intermixed_args(words)
    except TrainkitError as error:
        pytest.fail(f"{line}: {error}")


def test_overrides_in_the_docs_are_right(plugins):
    tried = 0
    for page in PAGES:
        for line in commands(page):
            sources, overrides = split_words(shlex.split(line))
            recipe = next((word for word in sources if word.startswith("recipes/")), None)
            if recipe is not None:
                load_recipe(ROOT / recipe, overrides, plugins)
                tried += 1
    assert tried > 5


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", PAGES[page]):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs


@pytest.mark.parametrize("name", [name for name in packaged_recipes(Plugins()) if name.startswith("trainkit:")])
def test_a_recipe_of_trainkits_own_is_found_by_name_and_right(name, plugins, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(name, [], plugins).path == name


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    words = ["run", str(ROOT / "recipes" / "mlp_digits.toml"), "run.duration=2ep", "run.threads=1", "-q"]
    assert main([*words, "--run-dir", str(folder)]) == 0
    return folder


def test_every_file_of_a_run_is_described(finished):
    page = PAGES["docs/run-folder.md"]
    for path in finished.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in page
    environment = json.loads((finished / "environment.json").read_text(encoding="utf-8"))
    assert [key for key in environment if f"`{key}`" not in page] == []
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = [json.loads(line) for line in re.findall(r"^ {4}(\{\"step\".*)$", page, re.MULTILINE)]
    assert [list(line) for line in shown] == [list(line) for line in lines[:2]]


def test_every_key_of_the_report_is_described(finished):
    page = PAGES["docs/run-folder.md"].partition("## report.json")[2].partition("##")[0]
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    described = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    assert described == list(Report.__dataclass_fields__)
    # This run took its batches whole, on the CPU.
    assert list(report) == [key for key in described if key not in ("microbatch", "memory")]


def test_every_part_of_a_checkpoint_is_described(finished):
    page = PAGES["docs/run-folder.md"].partition("## Checkpoints")[2]
    newest = max((finished / "checkpoints").glob("step-*"))
    for path in newest.iterdir():
        assert f"`{path.name}`" in page
    tensors, state = checkpoint.load(newest)
    assert [key for key in state if f"`{key}`" not in page] == []
    assert {f"`{name.split('/')[0]}/" for name in tensors} <= set(re.findall(r"`\w+/", page))
    first, second = (newest / "MANIFEST").read_text(encoding="utf-8").splitlines()
    assert set(json.loads(first)) == {"files", "format", "step"}
    assert len(second) == 64


def test_the_hash_of_the_weights_is_what_the_docs_say(finished):
    (code,) = blocks("docs/run-folder.md", "python")
    scope = {}
    exec(code, scope)  # it is our own page
    newest = max((finished / "checkpoints").glob("step-*"))
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    assert scope["weights_sha256"](str(newest)) == report["weights_sha256"]


def test_the_filled_recipe_of_a_run_repeats_it(finished, tmp_path):
    assert main(["run", str(finished / "recipe.toml"), "-q", "--run-dir", str(tmp_path / "again")]) == 0
    first, second = (json.loads((folder / "report.json").read_text()) for folder in (finished, tmp_path / "again"))
    assert first["weights_sha256"] == second["weights_sha256"]
