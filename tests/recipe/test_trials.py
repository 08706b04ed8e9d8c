"""From a point to the recipe of its trial: what is laid where, that it is checked, and that it reads back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, base_point, fill_toml, recipe_from_text, search_of, trial_recipe

Load = Callable[..., Recipe]

SPACE = """
[[callback]]
use = "clip_norm"
max_norm = 1.0
[search]
[search.space]
"callback.0.max_norm" = { low = 0.1, high = 10.0, scale = "log" }
"data.batch_size" = [32, 64]
"run.duration" = { low = "2ep", high = "20ep", step = "2ep" }
seed = { low = 0, high = 10 }
optimizer = { choices = [
    { use = "sgd", lr = { low = 1e-3, high = 1, scale = "log" }, nesterov = true },
    { use = "adamw", lr = { low = 1e-4, high = 1e-2, scale = "log" } },
    { use = "adam" },
    { use = "lookahead", inner = { use = "adam", betas = { choices = [[0.9, 0.99], [0.8, 0.99]] } } },
] }
"optimizer.betas.0" = { low = 0.8, high = 0.95, when = { "optimizer.use" = "adam" } }
"model.widths.1" = { low = 8, high = 64, scale = "log" }
"data.augment" = { choices = [[], [{ use = "flip" }, { use = "crop", padding = { low = 1, high = 8 } }]] }
"schedule.use" = ["cosine", "constant"]
"schedule.end" = { low = 0.0, high = 0.5, when = { "schedule.use" = "cosine" } }
"""


@pytest.fixture
def searched(load: Load, base: str) -> Recipe:
    return load(base + SPACE)


def drawn(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    draw, space = random.Random(1), search_of(recipe).space
    return [space.at([draw.random() for _ in space.dimensions]) for _ in range(count)]


def test_the_recipe_as_written_is_a_trial(searched: Recipe, load: Load, base: str) -> None:
    plain = load(base + SPACE.partition("[search]")[0]).tables
    assert trial_recipe(searched, {}).tables == plain
    assert trial_recipe(searched, base_point(searched, search_of(searched).space)).tables == plain
    assert "search" not in plain


def test_every_value_gets_to_its_place(searched: Recipe) -> None:
    space = search_of(searched).space
    for point in drawn(searched, 60):
        assert space.holds(point)
        tables = trial_recipe(searched, point).tables
        optimizer, choice = tables["optimizer"], point["optimizer"]
        assert tables["callback"][0]["max_norm"] == point["callback.0.max_norm"]
        assert tables["data"]["batch_size"] == point["data.batch_size"]
        assert tables["run"]["duration"] == point["run.duration"]
        assert tables["seed"] == point["seed"]
        assert tables["model"]["widths"] == [16, point["model.widths.1"], 64]
        assert optimizer["use"] == choice["use"]
        if choice["use"] == "sgd":  # as the recipe's own, so that its momentum stays
            expected = (point["optimizer#0.lr"], 0.9, True)
            assert (optimizer["lr"], optimizer["momentum"], optimizer["nesterov"]) == expected
        elif choice["use"] == "adamw":
            assert (optimizer["lr"], optimizer["weight_decay"]) == (point["optimizer#1.lr"], 0.01)
        elif choice["use"] == "adam":
            assert (optimizer["lr"], optimizer["betas"]) == (0.001, [point["optimizer.betas.0"], 0.999])
        else:
            assert optimizer["inner"]["betas"] == point["optimizer#3.inner.betas"]
        assert [one["use"] for one in tables["data"]["augment"]] == [one["use"] for one in point["data.augment"]]
        if point["data.augment"]:
            assert tables["data"]["augment"][1]["padding"] == point["data.augment#1.1.padding"]
        assert tables["schedule"]["use"] == point["schedule.use"]
        assert tables["schedule"].get("end") == point.get("schedule.end")


def test_a_trials_recipe_reads_back(searched: Recipe, plugins: Plugins) -> None:
    for point in drawn(searched, 30):
        trial = trial_recipe(searched, point)
        again = recipe_from_text(fill_toml(trial), "recipe.toml", [], plugins)
        assert again.tables == trial.tables
        assert again.components == trial.components


def test_a_value_knows_where_it_was_written(searched: Recipe) -> None:
    trial = trial_recipe(searched, {"data.batch_size": 32})
    place = trial.origin("data.batch_size").place
    assert place is not None
    assert str(place) == "my.toml:27"
    assert place.source == '"data.batch_size" = [32, 64]'


def test_changes_win_and_may_be_any_setting(searched: Recipe) -> None:
    point = {"run.duration": "20ep", "data.batch_size": 32}
    tables = trial_recipe(searched, point, {"run.duration": "1ep", "run.threads": 1, "logger": []}).tables
    assert (tables["run"]["duration"], tables["run"]["threads"], tables["logger"]) == ("1ep", 1, [])
    assert tables["data"]["batch_size"] == 32


def test_the_searched_recipe_stays_as_it_was(searched: Recipe) -> None:
    before = fill_toml(searched)
    marks = {path: list(marks) for path, marks in searched.tables.composed.marks.items()}
    for point in drawn(searched, 20):
        trial_recipe(searched, point, {"run.threads": 1})
    assert fill_toml(searched) == before
    assert searched.tables.composed.marks == marks


def test_values_that_do_not_fit_together_are_said(load: Load, base: str) -> None:
    recipe = load(base + '[search.space]\n"optimizer.use" = ["sgd", "lbfgs"]\n"run.compile" = [false, "step"]\n')
    with pytest.raises(RecipeError) as caught:
        trial_recipe(recipe, {"optimizer.use": "lbfgs", "run.compile": "step"})
    assert str(caught.value).splitlines()[:2] == [
        'my.toml:22: [optimizer] lbfgs computes the loss again within a step, which compile = "step" cannot follow',
        '    "run.compile" = [false, "step"]',
    ]


def test_every_value_is_checked_also_where_the_space_was_not_asked(searched: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"\[optimizer\] sgd lr must be a number above 0, got -1.0"):
        trial_recipe(searched, {"optimizer.lr": -1.0})
    with pytest.raises(RecipeError, match=r"\[optimizer\] sgd has no setting 'lrr'"):
        trial_recipe(searched, {"optimizer.lrr": 1.0})
    with pytest.raises(RecipeError, match=r"\[\[callback\]\] has no item '7'"):
        trial_recipe(searched, {"callback.7.max_norm": 1.0})
