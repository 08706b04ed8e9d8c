"""Recipes of older formats, with formats that are made up here: read as the newest, shown, and written where asked."""

from __future__ import annotations

import functools
import os
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pytest

from trainkit.errors import RecipeError
from trainkit.recipe import check, migrate, parse_toml
from trainkit.recipe.edit import edited, with_top
from trainkit.settings import Between, NonNegativeInt
from trainkit.signature import read_settings

# Before format 2 the duration was called length, and before format 3 sgd was called momentum_sgd.
OLD = """\
# How it was done.
recipe = 1     # the first
seed = 3

[run]
length = "2ep" # short
threads = 1
[data]
use = "synthetic"
samples = 96
batch_size = 16
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "momentum_sgd"
lr = 0.1
"""
NEW = """\
# How it was done.
recipe = 3     # the first
seed = 3

[run]
threads = 1
duration = "2ep" # short
[data]
use = "synthetic"
samples = 96
batch_size = 16
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""
DIFF = """\
--- old.toml (format 1)
+++ old.toml (format 3)
@@ -1,10 +1,10 @@
 # How it was done.
-recipe = 1     # the first
+recipe = 3     # the first
 seed = 3
 
 [run]
-length = "2ep" # short
 threads = 1
+duration = "2ep" # short
 [data]
 use = "synthetic"
 samples = 96
@@ -14,5 +14,5 @@
 [loss]
 use = "cross_entropy"
 [optimizer]
-use = "momentum_sgd"
+use = "sgd"
 lr = 0.1
"""


def length_is_duration(tables: Any) -> None:
    if "length" in tables.get("run", {}):
        tables["run"]["duration"] = tables["run"].pop("length")


def sgd_has_momentum(tables: Any) -> None:
    if tables.get("optimizer", {}).get("use") == "momentum_sgd":
        tables["optimizer"]["use"] = "sgd"


def top(
    *,
    recipe: Annotated[int, Between(1, 3)] = 3,
    seed: NonNegativeInt = 0,
    requires: list[str] = [],  # noqa: B006 - a default of the schema, never changed
) -> None:
    """The top of a recipe of format 3.

    Args:
        recipe: the format.
        seed: the seed.
        requires: distributions.
    """


def test_every_format_has_a_step_to_the_next():
    assert set(migrate.STEPS) == set(range(migrate.FIRST, migrate.FORMAT_VERSION))


@pytest.fixture
def three_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two formats have come after the first."""
    for module in ("trainkit.tables", "trainkit.reuse", "trainkit.recipe.check", "trainkit.recipe.migrate"):
        monkeypatch.setattr(f"{module}.FORMAT_VERSION", 3)
    monkeypatch.setattr(migrate, "STEPS", {1: length_is_duration, 2: sgd_has_momentum})
    monkeypatch.setattr(check, "TOP_SETTINGS", read_settings(top))
    monkeypatch.setattr(check, "core_part", functools.cache(check.core_part.__wrapped__))


@pytest.fixture
def old(three_formats: None, tmp_path: Path) -> Path:
    """A recipe of the first format, in the folder one stands in."""
    (tmp_path / "old.toml").write_text(OLD, encoding="utf-8")
    return tmp_path / "old.toml"


# ------------------------------------------------------------ read


@pytest.mark.parametrize("verb", ["validate", "fill", "preview"])
def test_what_an_older_recipe_is_read_as_is_shown(trainkit, old, verb):
    outcome = trainkit(verb, "old.toml")
    assert outcome.code == 0
    assert outcome.err == (
        f"note: old.toml has format 1, and is read as format 3:\n{DIFF}"
        "to write it so: trainkit migrate old.toml --write\n"
    )
    assert old.read_text(encoding="utf-8") == OLD
    assert trainkit(verb, "old.toml", "-q").err == ""


def test_an_older_recipe_runs_and_its_folder_holds_the_newest_format(trainkit, old, tmp_path):
    assert trainkit("run", "old.toml", "--run-dir", "a", "run.length=3ep", "-q").code == 2
    assert trainkit("run", "old.toml", "--run-dir", "a", "run.duration=3ep", "-q").code == 0
    written = tomllib.loads((tmp_path / "a" / "recipe.toml").read_text(encoding="utf-8"))
    assert (written["recipe"], written["run"]["duration"], written["optimizer"]["use"]) == (3, "3ep", "sgd")


def test_a_run_of_an_older_format_goes_on(trainkit, old, tmp_path):
    trainkit("run", "old.toml", "--run-dir", "a", "-q")
    file = tmp_path / "a" / "recipe.toml"
    text = file.read_text(encoding="utf-8").replace("recipe = 3", "recipe = 1").replace("duration =", "length =")
    file.write_text(text.replace('"sgd"', '"momentum_sgd"'), encoding="utf-8")
    outcome = trainkit("resume", "a", "run.duration=3ep", "run.on_length_change=keep")
    assert outcome.code == 0
    assert "has format 1, and is read as format 3" in outcome.err
    changed = [line for line in outcome.err.splitlines() if line.startswith("note: the recipe has changed")]
    assert [line.split(" = ")[0].rpartition(" ")[2] for line in changed] == ["run.duration", "run.on_length_change"]
    assert trainkit("evaluate", "a").code == 0


def test_each_file_has_a_format_of_its_own(trainkit, old, tmp_path):
    (tmp_path / "new.toml").write_text('recipe = 3\nextends = "old.toml"\n[run]\nduration = "1ep"\n', encoding="utf-8")
    (tmp_path / "says_none.toml").write_text(
        'extends = ["new.toml", "old.toml"]\n[run]\nlength = "4ep"\n', encoding="utf-8"
    )
    assert '\nduration = "1ep"\n' in trainkit("fill", "new.toml").out
    outcome = trainkit("fill", "says_none.toml")
    assert '\nduration = "4ep"\n' in outcome.out
    assert outcome.err.count("note: old.toml has format 1") == 1
    assert '+recipe = 3\n extends = ["new.toml", "old.toml"]\n' in outcome.err
    assert "new.toml has" not in outcome.err


def test_problems_name_lines_of_the_text_that_was_shown(trainkit, old):
    old.write_text(OLD.replace("threads = 1", "threads = 0"), encoding="utf-8")
    outcome = trainkit("validate", "old.toml")
    assert outcome.code == 2
    assert "\nold.toml (as format 3):6: [run] threads must be" in outcome.err
    assert outcome.err.startswith("note: old.toml has format 1")


def test_text_of_a_folder_is_read_in_the_newest_format(old):
    assert parse_toml(OLD, "recipe.toml")["run"] == {"threads": 1, "duration": "2ep"}


def test_what_is_no_format_is_a_problem_of_the_recipe(trainkit, old):
    for written in ("true", '"1"', "0", "-1"):
        old.write_text(NEW.replace("recipe = 3", f"recipe = {written}"), encoding="utf-8")
        outcome = trainkit("validate", "old.toml")
        assert outcome.code == 2
        assert outcome.err.startswith("old.toml:2: recipe must be an integer from 1 to 3")
        for words in (("migrate", "old.toml"), ("migrate", "old.toml", "--write")):
            outcome = trainkit(*words)
            assert (outcome.code, outcome.out) == (2, "")
            assert outcome.err.startswith(f"old.toml:2: the recipe has format {written}, which is none\n")


# ------------------------------------------------------------ newer


def test_a_newer_format_is_one_message(trainkit, recipe, tmp_path):
    text = (tmp_path / recipe).read_text(encoding="utf-8")
    (tmp_path / recipe).write_text(text.replace("recipe = 1", "recipe = 2\nfuture = 3"), encoding="utf-8")
    said = [
        "small.toml:1: the recipe has format 2; this trainkit reads formats up to 1",
        "    recipe = 2",
        "  install a newer trainkit",
        "1 problem; nothing was run.",
    ]
    (tmp_path / "mine.toml").write_text('recipe = 1\nextends = "small.toml"\n', encoding="utf-8")
    for words in (("run", recipe), ("validate", "mine.toml"), ("fill", recipe), ("migrate", recipe)):
        outcome = trainkit(*words)
        assert (outcome.code, outcome.err.splitlines()) == (2, said)
    with pytest.raises(RecipeError, match="the recipe has format 2"):
        parse_toml("recipe = 2\n", "recipe.toml")


def test_a_newer_packaged_base_is_named_with_what_ships_it(trainkit, recipe_package, tmp_path):
    recipe_package("trainkit_ahead", {"far": "recipe = 2\nfuture = 3\n"}, "4.1")
    (tmp_path / "mine.toml").write_text('extends = "trainkit_ahead:far"\n', encoding="utf-8")
    outcome = trainkit("run", "mine.toml")
    assert outcome.code == 2
    place, message = outcome.err.splitlines()[0].split(": ")
    assert place == "trainkit_ahead:far:1"
    assert message == "the recipe has format 2; this trainkit reads formats up to 1; trainkit-ahead 4.1 ships it"
    assert outcome.err.endswith("\n1 problem; nothing was run.\n")


# ------------------------------------------------------------ migrate


def test_migrate_shows_the_difference_and_writes_nothing(trainkit, old):
    outcome = trainkit("migrate", "old.toml")
    assert (outcome.code, outcome.out) == (0, DIFF)
    assert outcome.err == "to write it so: trainkit migrate old.toml --write\n"
    assert old.read_text(encoding="utf-8") == OLD


def test_migrate_writes_the_file_and_leaves_comments_and_mode(trainkit, old, tmp_path):
    old.chmod(0o640)
    os.symlink("old.toml", tmp_path / "link.toml")
    outcome = trainkit("migrate", "link.toml", "--write")
    assert (outcome.code, outcome.err) == (0, "written to link.toml\n")
    assert old.read_text(encoding="utf-8") == NEW
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert (tmp_path / "link.toml").is_symlink()
    assert trainkit("validate", "old.toml").err == ""
    again = trainkit("migrate", "old.toml", "--write")
    assert (again.out, again.err) == ("", "old.toml has format 3, the newest: there is nothing to change\n")


def test_line_ends_stay_what_they_were(trainkit, old):
    old.write_bytes(OLD.replace("\n", "\r\n").encode())
    assert trainkit("migrate", "old.toml", "--write").code == 0
    assert old.read_bytes() == NEW.replace("\n", "\r\n").encode()


def test_migrate_as_json_and_with_older_bases(trainkit, old, tmp_path):
    (tmp_path / "new.toml").write_text('recipe = 3\nextends = "old.toml"\n', encoding="utf-8")
    facts = {"recipe": "new.toml", "from": 3, "to": 3, "diff": "", "older_bases": ["old.toml"], "written": False}
    assert trainkit("migrate", "new.toml", "--json").json == facts
    assert "note: its base old.toml has an older format too" in trainkit("migrate", "new.toml").err
    assert trainkit("migrate", "old.toml", "--json").json["diff"] == DIFF


def test_where_nothing_can_be_written_no_command_says_so(trainkit, old, recipe_package):
    recipe_package("trainkit_behind", {"old": OLD})
    outcome = trainkit("migrate", "trainkit_behind:old")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == DIFF.replace("old.toml", "trainkit_behind:old")
    assert trainkit("migrate", "trainkit_behind:old", "--write").code == 2


@pytest.mark.parametrize("wrong", ["run = 3\n", 'optimizer = "sgd"\n', "run = []\noptimizer = 1.5\n"])
def test_what_was_no_recipe_in_its_own_format_is_told_by_the_check(trainkit, old, wrong):
    old.write_text(wrong, encoding="utf-8")
    assert trainkit("migrate", "old.toml").code == 0
    outcome = trainkit("validate", "old.toml")
    assert outcome.code == 2
    assert "old.toml (as format 3):2: [" in outcome.err
    assert "must be a table" in outcome.err or "is one table" in outcome.err


def test_a_recipe_that_lies_in_no_file_of_ones_own_is_not_written(trainkit):
    outcome = trainkit("migrate", "trainkit:mlp_digits", "--write")
    assert outcome.code == 2
    assert "trainkit new-recipe --from trainkit:mlp_digits --out FILE copies it" in outcome.err
    assert trainkit("migrate", "trainkit:mlp_digits").code == 0


# ------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# head\n\n[run]\nx = 1\n", '# head\n\nnew = ["a"]\n[run]\nx = 1\n'),
        ("recipe = 1 # v\n[run]\n", 'recipe = 1 # v\nnew = ["a"]\n[run]\n'),
        ("# a\nseed = 1\n\nrecipe = 1\n[run]\n", '# a\nseed = 1\n\nrecipe = 1\nnew = ["a"]\n[run]\n'),
        ("new = [ # why\n  1,\n]\n[run]\n", 'new = ["a"]\n[run]\n'),
        ("run.x = 1\nx.y = [\n1]", 'new = ["a"]\nrun.x = 1\nx.y = [\n1]'),
        ("# only words", 'new = ["a"]\n# only words'),
        ('s = """\nrecipe = 1\n"""\n', 'new = ["a"]\ns = """\nrecipe = 1\n"""\n'),
    ],
)
def test_a_key_is_set_at_the_top_and_the_rest_stays(text, expected):
    assert with_top(text, {"new": ["a"]}) == expected


def test_where_comments_cannot_be_kept_the_meaning_is():
    text = "[a.b] # one\nx = 1\n[c]\ny = 2\n[a.d] # two\nz = 3\n"

    def change(tables: Any) -> None:
        tables["a"]["d"]["z"] = 4
        tables["a"]["e"] = {"w": 5}

    assert tomllib.loads(edited(text, change)) == {"a": {"b": {"x": 1}, "d": {"z": 4}, "e": {"w": 5}}, "c": {"y": 2}}


def test_a_text_in_which_nothing_changes_stays_to_the_last_byte():
    files = sorted((Path(__file__).parents[2] / "recipes").rglob("*.toml"))
    assert len(files) > 70
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert edited(text, lambda tables: None) == text
