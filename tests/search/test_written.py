"""The recipe of a trial: in the process that checked it, it is not read and checked again, and nobody can tell."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

from trainkit.recipe import Recipe, Written, fill_toml, load_recipe, recipe_from_text, search_of, trial_recipe
from trainkit.trial_run import open_plugins

RECIPE = """
recipe = 1
seed = 1
logger = []
[run]
duration = "2ep"
[data]
use = "digits"
[[data.augment]]
use = "flip"
[model]
use = "mlp"
widths = [4]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
[[optimizer.group]]
match = "*.bias"
lr_scale = 2.0
[[schedule.react]]
use = "plateau"
monitor = "val.loss"
[[callback]]
use = "clip_norm"
max_norm = 1.0
[search]
use = "random"
[search.space]
"optimizer.lr" = { low = 1e-3, high = 0.3, scale = "log" }
"model.widths.0" = { low = 2, high = 8 }
"""


def written(tmp_path: Path) -> Written:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "recipe.toml", [], open_plugins())
    assert search_of(recipe).space.dimensions
    return Written(trial_recipe(recipe, {"optimizer.lr": 0.02, "model.widths.0": 5}))


def all_keys(recipe: Recipe) -> list[tuple[str | int, ...]]:
    return [*recipe.tables.composed.marks, ("run", "precision"), ("optimizer", "nesterov")]


def test_is_what_reading_and_checking_its_text_gives(tmp_path: Path) -> None:
    text = written(tmp_path)
    quick = recipe_from_text(text, "trial 3", [], open_plugins())
    whole = recipe_from_text(str(text), "trial 3", [], open_plugins())
    assert quick.tables == whole.tables
    assert list(quick.tables) == list(whole.tables)
    assert fill_toml(quick) == fill_toml(whole) == text
    assert list(quick.components) == list(whole.components)
    assert [c.factory for c in quick.components.values()] == [c.factory for c in whole.components.values()]
    assert (quick.order, quick.defaults, quick.path) == (whole.order, whole.defaults, whole.path)
    assert [p.name for p in quick.plugins_in_use()] == [p.name for p in whole.plugins_in_use()]
    assert all_keys(quick) == all_keys(whole)
    for key in all_keys(whole):
        assert quick.origin(key) == whole.origin(key)
        assert quick.tables.place(key) == whole.tables.place(key)


def test_changes_are_laid_over_the_text(tmp_path: Path) -> None:
    changed = recipe_from_text(written(tmp_path), "trial 3", ["optimizer.lr=0.5"], open_plugins())
    assert changed.tables["optimizer"]["lr"] == 0.5


def test_is_plain_text_elsewhere(tmp_path: Path) -> None:
    text = written(tmp_path)
    for other in (pickle.loads(pickle.dumps(text)), copy.deepcopy(text), copy.copy(text)):
        assert type(other) is str
        assert other == text
