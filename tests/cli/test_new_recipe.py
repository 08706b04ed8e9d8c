"""Recipes made of other recipes: copies that run where they are put, and short ones that extend."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trainkit.manager import Plugins
from trainkit.recipe import packaged_recipes, recipe_from_text
from trainkit.reuse import new_recipe

SCHEDULE = """
from trainkit import Component, Schedule, hookimpl

def downhill() -> Schedule:
    '''Go down in a line.'''
    return lambda t, T, events: 1 - t / (T + 1)

@hookimpl
def trainkit_components():
    return [Component("schedule", downhill)]
"""
DOWN = """\
#:schema x.json
# Down, as in the paper.
extends = ["../whole.toml", "near.toml"]   # two

[schedule]
use = "downhill"
"""


@pytest.fixture
def shipped(recipe, recipe_package, tmp_path) -> None:
    """Install a package with a schedule and recipes that extend each other by their places."""
    whole = (tmp_path / recipe).read_text(encoding="utf-8")
    near = '[optimizer]\nuse = "sgd"\nlr = 0.2\n'
    recipe_package("trainkit_down", {"whole": whole, "deep/down": DOWN, "deep/near": near}, "0.3", SCHEDULE)


def test_a_copy_runs_in_another_project(trainkit, shipped, tmp_path):
    outcome = trainkit("new-recipe", "--from", "trainkit_down:deep/down", "--out", "project/mine.toml")
    assert (outcome.code, outcome.out) == (0, "")
    assert (tmp_path / "project" / "mine.toml").read_text(encoding="utf-8") == (
        "#:schema x.json\n"
        "# A copy of trainkit_down:deep/down of trainkit-down 0.3.\n"
        "# Down, as in the paper.\n"
        'requires = ["trainkit-down>=0.3"]\n'
        'extends = ["trainkit_down:whole", "trainkit_down:deep/near"]   # two\n'
        "\n"
        "[schedule]\n"
        'use = "downhill"\n'
    )
    assert trainkit("run", "project/mine.toml", "--run-dir", "a").code == 0


def test_a_copy_means_what_the_packaged_recipe_means(trainkit, shipped):
    trainkit("new-recipe", "--from", "trainkit_down:deep/down", "--out", "mine.toml")
    assert trainkit("fill", "mine.toml").out == trainkit("fill", "trainkit_down:deep/down").out


def test_a_recipe_that_extends_it_is_short_and_right(trainkit, shipped):
    outcome = trainkit("new-recipe", "--from", "trainkit_down:deep/down", "--derive")
    assert outcome.out == (
        "# Extends trainkit_down:deep/down of trainkit-down 0.3; `trainkit fill` shows all that it stands for.\n"
        "recipe = 1\n"
        'extends = "trainkit_down:deep/down"\n'
        'requires = ["trainkit-down>=0.3"]\n'
        "\n"
        "# What is written here counts more, key by key, such as:\n"
        "# [run]\n"
        '# duration = "2ep"\n'
        "# [data]\n"
        "# batch_size = 16\n"
        "# [model]\n"
        '# use = "linear"\n'
        "# [optimizer]\n"
        '# use = "sgd"\n'
        "# lr = 0.2\n"
    )
    Path("mine.toml").write_text(outcome.out, encoding="utf-8")
    assert trainkit("fill", "mine.toml").out == trainkit("fill", "trainkit_down:deep/down").out


def test_a_recipe_whose_base_went_with_its_package_says_what_to_install(trainkit, shipped, recipe, tmp_path):
    trainkit("new-recipe", "--from", "trainkit_down:deep/down", "--derive", "--out", "mine.toml")
    (tmp_path / "ours.toml").write_text('extends = ["mine.toml", "nowhere.toml"]\n', encoding="utf-8")
    for part in (tmp_path / "site").glob("trainkit_down*"):
        shutil.rmtree(part)
    del sys.modules["trainkit_down"]
    outcome = trainkit("run", "mine.toml")
    assert outcome.code == 3
    assert outcome.err.splitlines() == [
        "mine.toml:4: the recipe needs 'trainkit-down>=0.3', which is not installed",
        '    requires = ["trainkit-down>=0.3"]',
        "  install it with: pip install 'trainkit-down>=0.3'",
        "1 problem; nothing was run.",
    ]
    outcome = trainkit("validate", "ours.toml")
    assert (outcome.code, outcome.err.count("pip install")) == (2, 1)
    assert "'nowhere.toml' does not exist" in outcome.err
    assert outcome.err.endswith("2 problems; nothing was run.\n")


@pytest.mark.parametrize("joined", [(), ("-p", "./trainkit_folder")], ids=["on the path", "named with -p"])
def test_what_ships_recipes_and_is_not_installed_is_not_required(trainkit, recipe, tmp_path, monkeypatch, joined):
    # Requiring it by name would have the user install whatever has that name elsewhere.
    folder = tmp_path / "trainkit_folder" / "recipes"
    folder.mkdir(parents=True)
    shutil.copy(tmp_path / recipe, folder / "whole.toml")
    (folder.parent / "__init__.py").write_text("def trainkit_components(): return []\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for derive in ((), ("--derive",)):
        made = trainkit("new-recipe", "--from", "trainkit_folder:whole", "--json", *derive, *joined).json
        assert (made["requires"], "requires" in tomllib.loads(made["recipe"])) == ([], False)
        assert made["recipe"].partition("trainkit_folder:whole")[2].startswith((".\n", ";"))
    Path("mine.toml").write_text('extends = "trainkit_folder:whole"\n', encoding="utf-8")
    assert trainkit("lock", "mine.toml", *joined).code == 0
    assert tomllib.loads(Path("mine.lock").read_text(encoding="utf-8"))["shipped"] == {}
    assert trainkit("validate", "mine.toml", "--locked", *joined).code == 0
    monkeypatch.delitem(sys.modules, "trainkit_folder", raising=False)


def test_every_recipe_of_ours_can_be_copied_and_extended():
    plugins = Plugins()
    for name in packaged_recipes(plugins):
        for derive in (False, True):
            made = new_recipe(name, None, derive, plugins, print)
            tables = tomllib.loads(made.text)
            assert ":" in tables.get("extends", ":")
            assert (made.requires, "requires" in tables) == ([], False)
            recipe_from_text(made.text, name, [], plugins)


def test_bases_beside_a_file_are_found_from_the_new_place(trainkit, recipe, tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "mine.toml").write_text('extends = "../small.toml"\nseed = 5\n', encoding="utf-8")
    (tmp_path / "far" / "off").mkdir(parents=True)
    outcome = trainkit("new-recipe", "--from", "lab/mine.toml", "--out", "far/off")
    assert outcome.code == 0
    assert "recipe written to far/off/mine.toml" in outcome.err
    copy = tomllib.loads((tmp_path / "far" / "off" / "mine.toml").read_text(encoding="utf-8"))
    assert copy == {"extends": "../../small.toml", "seed": 5}
    assert trainkit("validate", "far/off/mine.toml").code == 0
    assert tomllib.loads(trainkit("new-recipe", "--from", "lab/mine.toml").out)["extends"] == "small.toml"
    derived = trainkit("new-recipe", "--from", "lab/mine.toml", "--derive", "--out", "far/b.toml", "--json").json
    assert tomllib.loads(derived["recipe"])["extends"] == "../lab/mine.toml"
    assert derived["out"] == "far/b.toml"


def test_bases_are_found_from_a_folder_that_a_link_leads_to(trainkit, recipe, tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "small.toml"\n', encoding="utf-8")
    (tmp_path / "far" / "off").mkdir(parents=True)
    (tmp_path / "near").symlink_to("far/off")
    (tmp_path / "here").symlink_to(".")
    assert trainkit("new-recipe", "--from", "mine.toml", "--out", "near/a.toml").code == 0
    assert trainkit("new-recipe", "--from", "here/mine.toml", "--derive", "--out", "near/b.toml").code == 0
    assert trainkit("validate", "near/a.toml", "near/b.toml").code == 0
    assert tomllib.loads((tmp_path / "near" / "a.toml").read_text(encoding="utf-8"))["extends"] == "../../small.toml"


def test_what_its_bases_require_is_not_lost(trainkit, recipe, tmp_path):
    text = (tmp_path / recipe).read_text(encoding="utf-8")
    (tmp_path / recipe).write_text(f'requires = ["pluggy>=1"]\n{text}', encoding="utf-8")
    (tmp_path / "mine.toml").write_text('extends = "small.toml"\n', encoding="utf-8")
    assert tomllib.loads(trainkit("new-recipe", "--from", "mine.toml").out)["requires"] == ["pluggy>=1"]


def test_a_recipe_that_is_not_whole_is_copied_and_says_what_it_lacks(trainkit, tmp_path):
    (tmp_path / "half.toml").write_text('# To be completed.\nseed = 1\n[data]\nuse = "csv"\n', encoding="utf-8")
    outcome = trainkit("new-recipe", "--from", "half.toml")
    assert outcome.code == 0
    assert outcome.out.startswith("# A copy of half.toml.\n# To be completed.\nseed = 1\n")
    assert "note: half.toml" in outcome.err
    assert trainkit("new-recipe", "--from", "half.toml", "-q").err == ""


def test_a_recipe_that_is_not_whole_requires_what_it_names_all_the_same(trainkit, recipe, recipe_package, tmp_path):
    whole = (tmp_path / recipe).read_text(encoding="utf-8").replace("lr = 0.1", "")
    recipe_package("trainkit_down", {"half": f'{whole}[schedule]\nuse = "downhill"\n'}, "0.3", SCHEDULE)
    outcome = trainkit("new-recipe", "--from", "trainkit_down:half")
    assert "needs 'lr', which is missing" in outcome.err
    assert tomllib.loads(outcome.out)["requires"] == ["trainkit-down>=0.3"]


def test_nothing_is_written_over(trainkit, recipe, tmp_path):
    before = (tmp_path / recipe).read_bytes()
    for out in (recipe, "."):
        outcome = trainkit("new-recipe", "--from", recipe, "--out", out)
        assert outcome.code == 2
        assert "there is a file already" in outcome.err
    assert (tmp_path / recipe).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "--from"),
        (("--from", "trainkit:mlp_digit"), 2, "did you mean 'trainkit:mlp_digits'"),
        (("--from", "trainkit_of_nobody:x"), 3, "no package 'trainkit_of_nobody' is installed"),
        (("--from", "nothing.toml"), 2, "there is no such file"),
        (("--from", "mlp_digits"), 2, "`trainkit list recipes` names those that are installed"),
        (("--from", "-"), 2, "name a recipe file"),
        (("--from", "a.pack"), 2, "name a recipe file"),
        (("--from", "trainkit:mlp_digits", "--out", "mine.txt"), 2, "a recipe's name ends in .toml"),
        (("--from", "trainkit:mlp_digits", "--out", "small.toml/mine.toml"), 3, "cannot be written"),
    ],
)
def test_what_cannot_be_done(trainkit, recipe, words, code, said):
    outcome = trainkit("new-recipe", *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err


def test_what_cannot_be_named_is_not_listed(trainkit, recipe_package):
    recipe_package("trainkit_named", {"deep/a-b_1": "seed = 1\n", "with blank": "seed = 1\n", "v1.5": "seed = 1\n"})
    listed = [name for name in trainkit("list", "recipes").out.splitlines() if name.startswith("trainkit_named")]
    assert listed == ["trainkit_named:deep/a-b_1"]
    assert "installed recipes: trainkit_named:deep/a-b_1\n" in trainkit("validate", "trainkit_named:none").err


def test_recipes_are_listed_and_a_slip_of_the_pen_finds_them(trainkit):
    assert "trainkit:mlp_digits" in trainkit("list", "recipes").out.splitlines()
    outcome = trainkit("list", "recipe")
    assert (outcome.code, outcome.out) == (2, "")
    assert "did you mean 'recipes'?" in outcome.err
    assert "recipes" not in trainkit("describe", "recipe", "sgd").err


def test_torch_is_not_imported_for_it():
    code = (
        "import sys; from trainkit.cli import main; main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'tomlkit' in sys.modules)"
    )
    words = ("new-recipe", "--from", "trainkit:optimizers/adamw", "--derive")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
