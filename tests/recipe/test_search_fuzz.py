"""Whatever stands in ``[search]``: a recipe, or problems that say where; never another error, and never for long."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import recipe_from_text, search_of, to_toml, trial_recipe

NAMES = st.sampled_from(
    [
        "optimizer", "optimizer.lr", "optimizer.use", "optimizer.betas.0", "optimizer.group.0.lr", "optimizer.rest.lr",
        "optimizer#0.lr", "run", "run.duration", "run.microbatch", "data.augment", "data.augment.0.padding", "callback",
        "callback.0", "callback.0.max_norm", "metric.use", "model.widths", "model.widths.1", "loss.weights.a", "seed",
        "schedule", "schedule.warmup", "schedule.react.0.use", "nothing", "nothing.0", "0", "#1", "a#1.b", "search.use",
        "optimizer.use.x", "optimizer.lr.0",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.booleans(),
    st.integers(-10, 100),
    st.just(10**400),
    st.sampled_from([0.0, 0.1, 0.5, 1.0, -1.5, 1e308, 5e-324]),
    st.sampled_from(["sgd", "adam", "2ep", "10ep", "0.5dur", "log", "", "\x00", "val.loss", "optimizer.lr"]),
)
RANGES = st.fixed_dictionaries(
    {},
    optional={
        "low": VALUES,
        "high": VALUES,
        "scale": st.sampled_from(["log", "logit", "linear"]) | VALUES,
        "step": VALUES,
        "choices": st.lists(VALUES, max_size=3) | VALUES,
        "when": st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2), max_size=2) | VALUES,
        "use": VALUES,
    },
)
TABLES = st.dictionaries(st.sampled_from(["use", "lr", "betas", "momentum", "inner"]), VALUES | RANGES, max_size=3)
ENTRIES = RANGES | st.lists(VALUES | TABLES, max_size=3) | st.fixed_dictionaries(
    {"choices": st.lists(TABLES, min_size=1, max_size=3)}
)  # fmt: skip
CONSTRAINTS = st.fixed_dictionaries(
    {},
    optional={
        "setting": NAMES,
        "sum": st.lists(NAMES, max_size=2) | VALUES,
        "at_most": VALUES | NAMES,
        "below": VALUES | NAMES,
        "factor": VALUES,
    },
)
SEARCHES = st.fixed_dictionaries(
    {"space": st.dictionaries(NAMES, ENTRIES, max_size=4) | VALUES},
    optional={
        "use": st.sampled_from(["random", "rungs", "weigh"]),
        "executor": VALUES,
        "objective": VALUES,
        "objectives": st.lists(VALUES, max_size=2),
        "start": st.lists(st.dictionaries(NAMES, VALUES | TABLES, max_size=2), max_size=2),
        "constraint": st.lists(CONSTRAINTS, max_size=2),
        "fail": st.dictionaries(st.sampled_from(["nan", "oom", "error", "x"]), VALUES, max_size=2),
    },
)
SEED_TEXT = """
[[callback]]
use = "clip_norm"
max_norm = 1.0
[[optimizer.group]]
match = "a"
lr = 0.1
"""


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(search=SEARCHES)
@example(search={"space": {"callback": [[], [{"use": "clip_norm", "max_norm": {"low": 0.1, "high": 1.0}}]]}})
@example(search={"space": {"run": {"choices": [{"duration": "1ep"}, {"duration": "2ep"}]}}})
@example(search={"space": {"data.batch_size": list(range(1, 1500))}})
@example(search={"space": {f"data.a{n}": [1, 2] for n in range(300)}})
def test_whatever_is_written(base_text: str, plugins: Plugins, search: dict[str, Any]) -> None:
    text = base_text + SEED_TEXT + to_toml({"search": search})
    try:
        recipe = recipe_from_text(text, "fuzz.toml", [], plugins)
    except RecipeError as error:
        assert all(str(problem.place).startswith("fuzz.toml") for problem in error.problems)
        return
    space = search_of(recipe).space
    for share in (0.0, 0.3, 1.0):
        point = space.at([share] * len(space))
        try:
            assert "search" not in trial_recipe(recipe, point).tables
        except RecipeError as error:
            assert error.problems
