"""What ``[ensemble]`` is in a recipe: filled as other tables are, no part of any single run, and checked with it."""

from __future__ import annotations

from collections.abc import Callable

import jsonschema
import pytest
import tomli

from trainkit.errors import RecipeError
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, ensemble_recipe, fill_toml, json_schema, search_of, trial_recipe

Load = Callable[..., Recipe]

ENSEMBLE = """
[ensemble]
use = "greedy"
rounds = 7
executor = "processes"
"""
SPACE = """
[search]
[search.space]
"optimizer.lr" = { low = 1e-4, high = 1, scale = "log" }
"""


def problems(load: Load, text: str, **more: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, **more)
    return [problem.message for problem in caught.value.problems]


def test_a_recipe_without_the_table_has_no_ensemble(load: Load, base: str) -> None:
    assert "ensemble" not in load(base).tables


def test_the_table_is_filled_as_others_are(load: Load, base: str) -> None:
    recipe = load(base + ENSEMBLE)
    assert recipe.tables["ensemble"] == {
        "use": "greedy",
        "calibrate": "temperature",
        "executor": {"use": "processes", "workers": 2},
        "test": True,
        "longer": False,
        "bootstrap": 1000,
        "bins": 15,
        "rounds": 7,
    }
    assert recipe.components["ensemble",].kind == "ensembler"
    assert recipe.components["ensemble", "executor"].kind == "executor"


def test_an_empty_table_trains_seeds(load: Load, base: str) -> None:
    assert load(base + "[ensemble]\n").tables["ensemble"]["use"] == "seeds"


def test_it_reads_back_and_fits_the_schema(load: Load, base: str, plugins: Plugins) -> None:
    text = base + SPACE + ENSEMBLE
    filled = fill_toml(load(text))
    assert load(filled).tables == load(text).tables
    validator = jsonschema.Draft202012Validator(json_schema(plugins))
    validator.validate(tomli.loads(text))
    validator.validate(tomli.loads(filled))


def test_no_single_run_has_it(load: Load, base: str) -> None:
    plain = load(base).tables
    assert trial_recipe(load(base + ENSEMBLE), {}).tables == plain
    both = load(base + SPACE + ENSEMBLE)
    trial = trial_recipe(both, {"optimizer.lr": 0.5}, {"seed": 18})
    assert {"search", "ensemble"}.isdisjoint(trial.tables)
    assert {path[0] for path in trial.components}.isdisjoint({"search", "ensemble"})
    assert (trial.tables["optimizer"]["lr"], trial.tables["seed"]) == (0.5, 18)


def test_a_winner_keeps_what_is_to_be_made_of_it(load: Load, base: str) -> None:
    both = load(base + SPACE + ENSEMBLE)
    winner = ensemble_recipe(both, {"optimizer.lr": 0.5})
    assert "search" not in winner.tables
    assert winner.tables["ensemble"] == both.tables["ensemble"]
    assert winner.tables["optimizer"]["lr"] == 0.5
    assert winner.components["ensemble", "executor"].name == "processes"
    assert load(fill_toml(winner)).tables == winner.tables
    assert winner.origin("ensemble.rounds").place == both.origin("ensemble.rounds").place
    assert trial_recipe(winner, {}).tables == trial_recipe(both, {"optimizer.lr": 0.5}).tables


def test_the_command_line_changes_it(load: Load, base: str) -> None:
    given = ["ensemble=seeds", "ensemble.members=3", "ensemble.executor.workers=4"]
    table = load(base + ENSEMBLE, given).tables["ensemble"]
    assert (table["use"], table["members"]) == ("seeds", 3)
    assert "rounds" not in table
    assert table["executor"] == {"use": "processes", "workers": 4}  # of the core: another ensembler keeps it
    assert "ensemble" not in load('extends = "base.toml"\ndrop = ["ensemble"]\n', base=base + ENSEMBLE).tables
    assert load(base, ["ensemble=greedy"]).tables["ensemble"]["rounds"] == 25


def test_durations_of_an_ensembler_have_no_clock(load: Load, base: str, plugins: Plugins) -> None:
    recipe = load(base + '[ensemble]\nuse = "seeds"\ncycle = "3ep"\nspread = ["1ep", "0.5dur"]\n')
    assert Builder(recipe, plugins, lambda *_: None).make("ensemble").given == (5, "3ep", ["1ep", "0.5dur"])


def test_a_search_does_not_vary_it(load: Load, base: str) -> None:
    (said,) = problems(load, base + SPACE + '"ensemble.rounds" = [1, 2]\n' + ENSEMBLE)
    assert "it says what is made of the trials when they are done" in said


def test_there_must_be_samples_to_choose_by(load: Load, base: str) -> None:
    text = base.replace('use = "digits"', 'use = "digits"\ntrain_on = "train+val"') + ENSEMBLE
    (said,) = problems(load, text)
    assert said == (
        '[data] train_on = "train+val" leaves [ensemble] no validation samples to choose members, weights and the '
        "temperature by"
    )


def test_its_settings_are_checked_with_all_others(load: Load, base: str) -> None:
    said = problems(load, base + "[ensemble]\nuse = 'greedy'\nround = 3\ntest = 1\nexecutor = 'nobody'\n")
    assert len(said) == 3
    assert any("greedy has no setting 'round'" in line for line in said)
    said = problems(load, base + "[ensemble]\nuse = 'greeedy'\n")
    assert said == ["no ensembler named 'greeedy'"]


def test_a_search_reads_it_as_nothing_of_its_own(load: Load, base: str) -> None:
    alone, both = load(base + SPACE), load(base + SPACE + ENSEMBLE)
    assert search_of(alone) == search_of(both)
