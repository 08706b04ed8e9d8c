"""What ``[search]`` becomes: the space with its types and conditions, objectives, starting points, policies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import jsonschema
import pytest
import tomli

from trainkit.errors import RecipeError
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, SearchPlan, base_point, fill_toml, json_schema, origin_lines, search_of
from trainkit.space import Dimension, Limit
from trainkit.trial import Objective

Load = Callable[..., Recipe]

SPACE = """
[search]
trials = 8
executor = "processes"
[search.space]
"optimizer.lr" = { low = 1e-4, high = 1, scale = "log" }
"data.batch_size" = [32, 64]
"""


@pytest.fixture
def plan(load: Load, base: str) -> Callable[..., SearchPlan]:
    def plan(text: str, *overrides: str) -> SearchPlan:
        return search_of(load(base + text, overrides))

    return plan


def space(plan: Callable[..., SearchPlan], text: str) -> dict[str, Dimension]:
    return {dimension.name: dimension for dimension in plan(f"[search.space]\n{text}\n").space.dimensions}


def error(load: Load, text: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(text)
    return caught.value


def problems(load: Load, text: str) -> list[str]:
    return [problem.message for problem in error(load, text).problems]


def test_a_recipe_without_the_table_has_no_search(load: Load, base: str) -> None:
    recipe = load(base)
    assert "search" not in recipe.tables
    assert recipe.search is None
    with pytest.raises(ValueError, match=r"my.toml has no \[search\] table"):
        search_of(recipe)


def test_the_table_is_filled_as_others_are(load: Load, base: str) -> None:
    recipe = load(base + SPACE)
    table = recipe.tables["search"]
    assert (table["use"], table["trials"], table["take"]) == ("random", 8, "last")
    assert table["executor"] == {"use": "processes", "workers": 2}
    assert recipe.components["search",].name == "random"
    assert recipe.components["search", "executor"].kind == "executor"
    assert search_of(recipe).settings is table


def test_it_reads_back_and_fits_the_schema(load: Load, base: str, plugins: Plugins) -> None:
    text = base + SPACE + '"optimizer" = { choices = [{ use = "sgd", momentum = { low = 0.1, high = 0.9 } }] }\n'
    text = text.replace('"optimizer.lr" = { low = 1e-4, high = 1, scale = "log" }', "")
    recipe = load(text)
    filled = fill_toml(recipe)
    again = load(filled)
    assert again.tables == recipe.tables
    assert search_of(again) == search_of(recipe)
    validator = jsonschema.Draft202012Validator(json_schema(plugins))
    validator.validate(tomli.loads(text))
    validator.validate(tomli.loads(filled))


def test_the_filled_recipe_has_the_settings_in_their_order(load: Load, base: str) -> None:
    # What a searcher asks for depends on it: a study that goes on reads its space from its filled recipe.
    recipe = load(base + SPACE + '"optimizer.momentum" = { low = 0.1, high = 0.9 }\nseed = [1, 2]\n')
    again = search_of(load(fill_toml(recipe))).space
    assert again == search_of(recipe).space
    assert [one.name for one in again.dimensions] == ["optimizer.lr", "data.batch_size", "optimizer.momentum", "seed"]


def test_a_read_recipe_can_be_copied_and_sent(load: Load, base: str) -> None:
    plan = search_of(load(base + SPACE))
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert copy.deepcopy(plan) == plan


def test_the_command_line_changes_it(load: Load, base: str) -> None:
    recipe = load(
        base + SPACE,
        ["search=rungs", "search.trials=9", 'search.space."optimizer.lr".high=0.5', "search.executor.workers=4"],
    )
    table = recipe.tables["search"]
    assert (table["use"], table["trials"], table["over"]) == ("rungs", 9, {"use": "random"})
    assert table["space"]["optimizer.lr"] == {"low": 1e-4, "high": 0.5, "scale": "log"}
    assert table["executor"] == {"use": "processes", "workers": 4}
    assert recipe.components["search", "over"].name == "random"
    assert load(base + SPACE, ["search.executor=auto"]).tables["search"]["executor"] == {"use": "auto"}
    (line,) = [line for line in origin_lines(recipe) if line.startswith("search.executor.use")]
    assert line.endswith("my.toml:23")


def test_a_search_of_the_command_line_alone(load: Load, base: str) -> None:
    given = 'search={ executor = "processes", space = { "optimizer.lr" = [0.1, 0.2] } }'
    assert load(base, [given]).tables["search"]["executor"]["workers"] == 2


def test_another_searcher_keeps_what_is_the_cores_and_drops_what_was_its_own(load: Load, base: str) -> None:
    bases = {"base": base + SPACE.replace("[search]", '[search]\nuse = "rungs"\nfirst = "2ep"')}
    table = load('extends = "base.toml"\n[search]\nuse = "weigh"\n', **bases).tables["search"]
    assert (table["use"], table["trials"], "first" in table) == ("weigh", 8, False)
    assert set(table["space"]) == {"optimizer.lr", "data.batch_size"}


def test_bases_merge_key_by_key_and_a_range_replaces_choices(load: Load, base: str) -> None:
    over = """extends = "base.toml"
[search.space]
"optimizer.lr" = { choices = [0.1, 0.2] }
"data.batch_size" = { low = 8, high = 64, scale = "log" }
"model.depth" = [8, 14]
"""
    table = load(over, base=base + SPACE.replace("[32, 64]", "{ choices = [32, 64], when = {} }")).tables["search"]
    assert table["space"] == {
        "optimizer.lr": {"choices": [0.1, 0.2]},
        "data.batch_size": {"low": 8, "high": 64, "scale": "log"},
        "model.depth": [8, 14],
    }
    higher = 'extends = "base.toml"\n[search.space]\n"optimizer.lr" = { high = 0.5 }\n'
    assert load(higher, base=base + SPACE).tables["search"]["space"]["optimizer.lr"]["low"] == 1e-4


def test_drop_takes_it_away(load: Load, base: str) -> None:
    assert load('extends = "base.toml"\ndrop = ["search"]\n', base=base + SPACE).search is None
    fewer = 'extends = "base.toml"\ndrop = [\'search.space."optimizer.lr"\']\n'
    assert [one.name for one in search_of(load(fewer, base=base + SPACE)).space.dimensions] == ["data.batch_size"]


def test_types_follow_from_the_settings(plan: Callable[..., SearchPlan]) -> None:
    read = space(
        plan,
        """
"optimizer.lr" = { low = 1, high = 2 }
"data.batch_size" = { low = 16, high = 256, step = 16 }
"model.widths.1" = { low = 8, high = 64, scale = "log" }
"optimizer.momentum" = { choices = [0, 0.5, 1] }
"run.duration" = { low = "2ep", high = "20ep", step = "2ep" }
"run.evaluate_every" = { low = "0.5ep", high = "2ep" }
"schedule.warmup" = { low = "0.05dur", high = "1dur" }
"optimizer.nesterov" = [true, false]
"optimizer.lr_for_batch" = { low = 32, high = 64 }
seed = { low = 0, high = 9 }
""",
    )
    kinds = {name: (one.kind, one.low, one.high, one.step, one.unit) for name, one in read.items() if not one.choices}
    assert kinds == {
        "optimizer.lr": ("float", 1.0, 2.0, None, ""),
        "data.batch_size": ("int", 16.0, 256.0, 16.0, ""),
        "model.widths.1": ("int", 8.0, 64.0, None, ""),
        "run.duration": ("int", 2.0, 20.0, 2.0, "ep"),
        "run.evaluate_every": ("float", 0.5, 2.0, None, "ep"),
        "schedule.warmup": ("float", 0.05, 1.0, None, "dur"),
        "optimizer.lr_for_batch": ("int", 32.0, 64.0, None, ""),
        "seed": ("int", 0.0, 9.0, None, ""),
    }
    assert read["optimizer.momentum"].choices == (0.0, 0.5, 1.0)
    assert [type(choice) for choice in read["optimizer.momentum"].choices] == [float] * 3
    assert read["optimizer.nesterov"].choices == (True, False)
    assert read["model.widths.1"].scale == "log"


def test_ranges_inside_choices_become_dimensions_of_their_own(plan: Callable[..., SearchPlan]) -> None:
    read = space(
        plan,
        """
optimizer = { choices = [
    { use = "sgd", lr = { low = 0.01, high = 1, scale = "log" }, momentum = { choices = [0.8, 0.9] } },
    { use = "adamw", lr = { low = 1e-4, high = 1e-2, scale = "log" } },
    { use = "lookahead", inner = { use = "adam", lr = { low = 1e-4, high = 1e-2 } }, every = 3 },
] }
"optimizer.weight_decay" = { low = 0.0, high = 0.1, when = { "optimizer.use" = ["sgd", "adamw"] } }
"optimizer.inner.betas.1" = { low = 0.9, high = 0.99, when = { optimizer = "lookahead" } }
""",
    )
    assert read["optimizer"].choices == (
        {"use": "sgd"},
        {"use": "adamw"},
        {"use": "lookahead", "inner": {"use": "adam"}, "every": 3},
    )
    assert {name: dict(one.when) for name, one in read.items()} == {
        "optimizer": {},
        "optimizer#0.lr": {"optimizer": (0,)},
        "optimizer#0.momentum": {"optimizer": (0,)},
        "optimizer#1.lr": {"optimizer": (1,)},
        "optimizer#2.inner.lr": {"optimizer": (2,)},
        "optimizer.weight_decay": {"optimizer": (0, 1)},
        "optimizer.inner.betas.1": {"optimizer": (2,)},
    }


def test_choices_inside_choices(plan: Callable[..., SearchPlan]) -> None:
    read = space(
        plan,
        """
optimizer = { choices = [
    { use = "sgd" },
    { use = "lookahead", inner = { choices = [{ use = "adam" }, { use = "sgd", lr = { low = 0.1, high = 1.0 } }] } },
] }
""",
    )
    assert list(read) == ["optimizer", "optimizer#1.inner", "optimizer#1.inner#1.lr"]
    assert read["optimizer#1.inner#1.lr"].when == {"optimizer": (1,), "optimizer#1.inner": (1,)}


def test_dimensions_come_after_those_that_their_conditions_name(plan: Callable[..., SearchPlan]) -> None:
    read = space(
        plan,
        """
"optimizer.momentum" = { low = 0.1, high = 0.9, when = { "optimizer.use" = "sgd" } }
"optimizer.use" = ["sgd", "adamw"]
"data.batch_size" = { choices = [32, 64], when = { "optimizer.use" = ["sgd", "adamw"] } }
""",
    )
    assert list(read) == ["optimizer.use", "optimizer.momentum", "data.batch_size"]
    assert read["optimizer.momentum"].when == {"optimizer.use": (0,)}
    assert read["data.batch_size"].when == {"optimizer.use": (0, 1)}


def test_an_optimizer_without_the_recipes_other_settings_is_no_problem(plan: Callable[..., SearchPlan]) -> None:
    """The recipe's own momentum goes when another `use` starts the table afresh."""
    assert list(space(plan, '"optimizer.use" = ["sgd", "adam", "adamw"]')) == ["optimizer.use"]


@pytest.mark.parametrize(
    ("written", "objectives"),
    [
        ("", [Objective("val.loss", "min")]),
        ('objective = "val.accuracy"', [Objective("val.accuracy", "max")]),
        ('objective = "val.accuracy"\nmode = "min"', [Objective("val.accuracy", "min")]),
        ('objective = "val.accuracy.cats"', [Objective("val.accuracy.cats", "max")]),
        ('objective = "parameters"', [Objective("parameters", "min")]),
        (
            'use = "weigh"\nobjectives = ["val.accuracy", "seconds"]',
            [Objective("val.accuracy", "max"), Objective("seconds", "min")],
        ),
        (
            'use = "rungs"\nover = { use = "weigh" }\nobjectives = ["val.loss", "seconds"]\nmodes = ["max", "min"]',
            [Objective("val.loss", "max"), Objective("seconds", "min")],
        ),
    ],
)
def test_objectives(plan: Callable[..., SearchPlan], written: str, objectives: list[Objective]) -> None:
    assert plan(SPACE.replace("[search]", f"[search]\n{written}")).objectives == tuple(objectives)


def test_the_runs_own_monitor_is_the_objective_where_none_is_named(load: Load, base: str) -> None:
    text = base.replace("[run]", '[run]\nmonitor = "val.accuracy"') + SPACE
    assert search_of(load(text)).objectives == (Objective("val.accuracy", "max"),)
    wrong = problems(load, text.replace('"val.accuracy"', '"train.loss"'))
    assert wrong == [
        "[search] objective cannot be 'train.loss': it says how well a trial has learnt its samples by heart"
    ]


def test_policies_have_defaults(plan: Callable[..., SearchPlan]) -> None:
    read = plan(SPACE + '[search.fail]\nnan = "stop"\nerror = "worst"\n').fail
    assert read == {"nan": "stop", "oom": "worst", "timeout": "worst", "killed": "retry", "error": "worst"}


def test_constraints(plan: Callable[..., SearchPlan]) -> None:
    read = plan(
        SPACE
        + """
[[search.constraint]]
product = ["data.batch_size", "run.accumulate"]
at_most = 32
factor = 2
[[search.constraint]]
setting = "optimizer.lr"
below = "optimizer.momentum"
"""
    ).space
    assert read.limits == (
        Limit(("data.batch_size", "run.accumulate"), "product", "at_most", 32, 2.0),
        Limit(("optimizer.lr",), "sum", "below", "optimizer.momentum", 1.0),
    )
    assert read.fixed == {"run.accumulate": 1.0, "optimizer.momentum": 0.9}
    assert read.holds({"optimizer.lr": 0.5, "data.batch_size": 64})
    assert not read.holds({"optimizer.lr": 0.95, "data.batch_size": 64})


def test_a_constraint_over_a_setting_of_several_choices_is_one_for_each(plan: Callable[..., SearchPlan]) -> None:
    read = plan(
        """
[search.space]
optimizer = { choices = [
    { use = "sgd", lr = { low = 0.01, high = 1.0 } }, { use = "adamw", lr = { low = 0.01, high = 0.1 } }
] }
[[search.constraint]]
setting = "optimizer.lr"
at_most = 0.05
"""
    ).space
    assert [limit.terms for limit in read.limits] == [("optimizer#0.lr",), ("optimizer#1.lr",)]
    assert not read.holds({"optimizer": {"use": "sgd"}, "optimizer#0.lr": 0.5})
    assert read.holds({"optimizer": {"use": "adamw"}, "optimizer#1.lr": 0.05})


def test_ends_that_constraints_exclude_are_not_checked(plan: Callable[..., SearchPlan]) -> None:
    """Adam and a rate above 1 do not go together, which the constraint sees to."""
    text = """
[search.space]
optimizer = { choices = [{ use = "adam", lr = { low = 0.1, high = 4.0 } }, { use = "sgd" }] }
[[search.constraint]]
setting = "optimizer.lr"
below = 1
"""
    assert len(plan(text).space) == 2


def test_starting_points_are_made_whole(plan: Callable[..., SearchPlan]) -> None:
    read = plan(
        """
[search.space]
optimizer = { choices = [
    { use = "sgd", lr = { low = 0.01, high = 1, scale = "log" }, nesterov = true },
    { use = "adamw", lr = { low = 1e-4, high = 1e-2, scale = "log" } },
] }
"data.batch_size" = [32, 64]
"run.duration" = { low = "2ep", high = "10ep" }
[[search.start]]
optimizer = { use = "sgd", lr = 1, nesterov = true }
[[search.start]]
optimizer = { use = "adamw" }
"optimizer#1.lr" = 0.005
"data.batch_size" = 32
"run.duration" = "4ep"
[[search.start]]
"""
    )
    assert read.starts == (
        {
            "optimizer": {"use": "sgd", "nesterov": True},
            "optimizer#0.lr": 1.0,
            "data.batch_size": 64,
            "run.duration": "6ep",
        },
        {"optimizer": {"use": "adamw"}, "optimizer#1.lr": 0.005, "data.batch_size": 32, "run.duration": "4ep"},
        read.starts[2],
    )
    assert read.starts[2]["optimizer"] == {"use": "sgd", "nesterov": True}
    assert all(read.space.holds(point) for point in read.starts)


def test_a_starting_point_that_a_component_refuses(load: Load, base: str) -> None:
    """Each of its values is right beside the recipe's own; together they are not."""
    text = (
        base
        + """
[search.space]
"optimizer.use" = ["sgd", "lbfgs"]
"run.compile" = [false, "step"]
[[search.start]]
"optimizer.use" = "lbfgs"
"run.compile" = "step"
"""
    )
    (problem,) = error(load, text).problems
    assert problem.message == (
        '[[search.start]] [optimizer] lbfgs computes the loss again within a step, which compile = "step" cannot follow'
    )
    assert str(problem.place) == "my.toml:24"


def test_the_recipes_own_point(load: Load, base: str) -> None:
    text = (
        base
        + """
[search.space]
optimizer = { choices = [
    { use = "adamw" }, { use = "sgd", lr = { low = 0.01, high = 1, scale = "log" }, momentum = 0.9 }
] }
"data.batch_size" = [32, 64]
"run.duration" = { low = "2ep", high = "10ep" }
"optimizer.lr_for_batch" = { low = 32, high = 64 }
"model.widths.2" = { low = 8, high = 128 }
"""
    )
    recipe = load(text)
    plan = search_of(recipe)
    point = base_point(recipe, plan.space)
    assert point == {
        "optimizer": {"use": "sgd", "momentum": 0.9},
        "optimizer#1.lr": 0.1,
        "data.batch_size": 64,
        "run.duration": "20ep",
        "model.widths.2": 64,
    }
    assert not plan.space.holds(point)
    other = load(text, ["optimizer.momentum=0.8"])
    assert "optimizer" not in base_point(other, search_of(other).space)


def test_problems_of_the_space_come_with_those_of_the_recipe(load: Load, base: str) -> None:
    text = base.replace('use = "digits"', 'use = "digits"\nbatch_sise = 3') + SPACE.replace(
        '"optimizer.lr"', '"optimizer.lrr"'
    )
    found = problems(load, text)
    assert [message.split(":")[0] for message in found] == [
        "[data] digits has no setting 'batch_sise'",
        "[search.space] optimizer.lrr",
    ]


def test_a_searcher_is_given_durations_as_written(load: Load, base: str, plugins: Plugins) -> None:
    """A search has no clock: only the runs of its trials have one."""
    recipe = load(base + SPACE, ["search=rungs", "search.first=3ep"])
    over, first = Builder(recipe, plugins, lambda *_: None).make("search").given
    assert (over.given, first) == ((), "3ep")
