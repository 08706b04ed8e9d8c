"""What a right recipe becomes, and the checks that no golden text shows."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.errors import Exit, Place, PluginDefect, Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe, named_tables, problem_at
from trainkit.recipe.needs import with_least
from trainkit.tables import COMPONENT_TABLES

Load = Callable[..., Recipe]


def test_every_default_is_filled_in(load: Load, base: str) -> None:
    tables = load(base).tables
    assert tables["run"]["evaluate_every"] == "1ep"
    assert tables["run"]["threads"] is None
    assert tables["data"] | {"root": None, "augment": [], "shuffle": True, "batch_size": 64} == tables["data"]
    unset = {"weights": None, "head": None, "rename": None}
    assert tables["model"] == {"use": "resnet", "depth": 8, "widths": [16, 32, 64], "norm": "batch", **unset}
    assert tables["logger"] == [{"use": "curves"}]
    assert set(tables) == {"recipe", "seed", "requires", "run", *COMPONENT_TABLES} - {"search", "ensemble"}


def test_defaults_of_two_recipes_are_not_one_object(load: Load, base: str) -> None:
    first, second = load(base), load(base)
    first.tables["model"]["widths"].append(0)
    assert second.tables["model"]["widths"] == [16, 32, 64]


def test_whole_number_passes_for_a_number(load: Load, base: str) -> None:
    lr = load(base, ["optimizer.lr=1"]).tables["optimizer"]["lr"]
    assert (lr, type(lr)) == (1.0, float)


def test_schedule_may_be_left_to_its_default(load: Load, base: str) -> None:
    recipe = load(base.replace('use = "cosine"\n', ""))
    assert recipe.tables["schedule"] == {
        "use": "constant",
        "warmup": "2ep",
        "warmup_start": None,
        "warmup_shape": "linear",
        "warmup_mode": "prefix",
        "cooldown": "0ba",
        "multiply": [],
        "react": [],
        "also": [],
    }
    assert recipe.components["schedule",].name == "constant"


def test_components_are_found_at_every_depth(load: Load, base: str) -> None:
    text = base.replace(
        'use = "sgd"\nlr = 0.1\nmomentum = 0.9', 'use = "lookahead"\n[optimizer.inner]\nuse = "lookahead"'
    )
    text += '[[data.augment]]\nuse = "crop"\n[[data.augment]]\nuse = "flip"\n'
    recipe = load(text)
    names = {path: component.name for path, component in recipe.components.items()}
    assert names["data", "augment", 0] == "crop"
    assert names["data", "augment", 1] == "flip"
    assert names["optimizer", "inner"] == "lookahead"
    assert names["optimizer", "inner", "inner"] == "sgd"  # a default that is itself a component
    assert recipe.tables["optimizer"]["inner"]["inner"]["lr"] == 0.01
    assert "group" not in recipe.tables["optimizer"]["inner"]
    assert [plugin.name for plugin in recipe.plugins_in_use()] == ["trainkit_fake"]


def test_group_takes_the_optimizers_settings_and_fills_in_none(load: Load, base: str) -> None:
    text = base.replace("momentum = 0.9", 'momentum = 0.9\n[[optimizer.group]]\nmatch = "head.*"\nlr = 1')
    assert load(text).tables["optimizer"]["group"] == [{"match": "head.*", "lr_scale": 1.0, "lr": 1.0}]


def test_component_by_its_long_name(load: Load, base: str) -> None:
    recipe = load(base, ["optimizer=trainkit_fake:sgd", "optimizer.lr=3"])
    assert recipe.tables["optimizer"]["use"] == "trainkit_fake:sgd"
    assert recipe.components["optimizer",].name == "sgd"


def test_ambiguous_name_is_settled_by_its_long_name(
    base: str, fake_plugins: Callable[..., Plugins], tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(base)
    plugins = fake_plugins("trainkit_fake", "trainkit_rival")
    recipe = load_recipe(tmp_path / "r.toml", ['callback=[{use = "trainkit_rival:early_stop"}]'], plugins)
    assert recipe.tables["callback"][0]["patience"] == 3
    assert [plugin.name for plugin in recipe.plugins_in_use()] == ["trainkit_fake", "trainkit_rival"]


def test_order_of_hooks_follows_before_and_is_otherwise_as_written(load: Load, base: str) -> None:
    names = ["every_one", "clip_norm", "early_stop", "clip_value", "clip_norm"]
    text = base + "".join(
        f'[[callback]]\nuse = "{name}"\n' + ("max_norm = 1\n" if name == "clip_norm" else "") for name in names
    )
    recipe = load(text)
    assert [path for path in recipe.order if path[0] == "callback"] == [("callback", n) for n in (0, 2, 3, 1, 4)]
    assert recipe.order[-1] == ("logger", 0)


def test_default_logger_that_cannot_be_is_a_note(
    base: str, fake_plugins: Callable[..., Plugins], tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(base)
    plugins = fake_plugins("trainkit_fake")
    fake = plugins.plugins[0]
    whole = fake.components
    try:
        fake.components = [component for component in whole if component.kind != "logger"]
        recipe = load_recipe(tmp_path / "r.toml", [], plugins)
        assert recipe.tables["logger"] == []
        assert recipe.notes == [f"logger '{name}' is left out: it is not installed" for name in ("curves", "report")]
        with pytest.raises(RecipeError, match="no logger named 'curves'"):
            load_recipe(tmp_path / "r.toml", ['logger=[{use = "curves"}]'], plugins)
    finally:
        fake.components = whole


def test_plugins_own_check_is_asked_only_of_plugins_in_use_and_after_all_else(load: Load, base: str) -> None:
    bad = base.replace('use = "sgd"\nlr = 0.1\nmomentum = 0.9', 'use = "adam"\nlr = 10')
    with pytest.raises(RecipeError, match=r"my.toml:15: adam with lr 10.0 diverges"):
        load(bad)
    with pytest.raises(RecipeError) as caught:
        load(bad, ["seed=-1"])
    assert len(caught.value.problems) == 1


def test_failing_check_names_the_plugin(load: Load, base: str) -> None:
    with pytest.raises(PluginDefect) as caught:
        load(base, ["model.norm=raise"])
    assert "plugin 'trainkit_fake'" in str(caught.value)
    assert "in hook trainkit_check_recipe: RuntimeError: the check itself is broken" in str(caught.value)


def test_check_that_gives_no_problems_but_something_else_names_the_plugin(load: Load, base: str) -> None:
    with pytest.raises(PluginDefect, match=r"plugin 'trainkit_fake'.*gave \['lr is wrong'\], not a list of problems"):
        load(base, ["model.norm=garbage"])


def test_tables_and_their_places_reach_another_process(load: Load, base: str) -> None:
    tables = pickle.loads(pickle.dumps(load(base).tables))
    assert tables == load(base).tables
    assert problem_at(tables, "optimizer.lr", "no").place == Place("my.toml", 15)
    assert problem_at(copy.deepcopy(tables), "optimizer.lr", "no").place == Place("my.toml", 15)


def test_problem_at_knows_file_and_line(load: Load, base: str) -> None:
    tables = load(base, ["metric.0.use=top"]).tables
    assert problem_at(tables, "optimizer.lr", "no").place == Place("my.toml", 15)
    assert problem_at(tables, "metric.0.use", "no").place.source == "metric.0.use=top"
    assert problem_at(tables, ("metric", 0, "k"), "no").place == Place("my.toml", 11)
    assert problem_at({}, "optimizer.lr", "no", "yes") == Problem(Place("recipe"), "no", "yes")


def test_only_lacking_parts_make_it_a_matter_of_the_machine(load: Load, base: str) -> None:
    lacking = base + '[[callback]]\nuse = "needs_more"\n'
    with pytest.raises(RecipeError) as caught:
        load(lacking)
    assert caught.value.exit_code is Exit.ENVIRONMENT
    with pytest.raises(RecipeError) as caught:
        load(lacking, ["seed=-1"])
    assert caught.value.exit_code is Exit.RECIPE


def test_requirements_that_are_met(load: Load, base: str) -> None:
    recipe = load('requires = ["pluggy>=1", "PyTest", "nowhere; python_version < \'3\'"]\n' + base)
    assert len(recipe.tables["requires"]) == 3


@pytest.mark.parametrize(
    "marker",
    ["python_version ~= 'abc'", "extras == 'a'", "dependency_groups == 'a'"],
    ids=["compared", "extra", "group"],
)
def test_a_marker_that_cannot_be_read_is_one_problem(load: Load, base: str, marker: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(f'requires = ["pluggy>=1; {marker}"]\n' + base)
    (problem,) = caught.value.problems
    assert (problem.place.line, problem.environment) == (1, False)
    assert "in a way that cannot be read" in problem.message
    assert with_least([f"x; {marker}"], {"x": "1.0"}) == [f"x; {marker}", "x>=1.0"]


def test_a_version_of_thousands_of_digits_is_one_problem(load: Load, base: str) -> None:
    for text in ("pluggy>=" + "1" * 5000, "nobody-has>=" + "1" * 5000):
        with pytest.raises(RecipeError, match="is not a distribution with a version"):
            load(f'requires = ["{text}"]\n' + base)


def test_the_command_that_installs_carries_nothing_of_a_marker(load: Load, base: str) -> None:
    marker = "python_version != \\\"3' ; touch PWNED ; '\\\""
    with pytest.raises(RecipeError) as caught:
        load(f'requires = ["nobody-has[b,a]>=1; {marker}"]\n' + base)
    (problem,) = caught.value.problems
    assert problem.cure == "install it with: pip install 'nobody-has[a,b]>=1'"


def test_a_figure_of_a_metric_can_be_monitored(load: Load, base: str) -> None:
    for figure in ("val.loss", "train.loss", "val.accuracy", "train.accuracy"):
        assert load(base, [f"run.monitor={figure}"]).tables["run"]["monitor"] == figure


@pytest.mark.parametrize("key", ["evaluate_every", "log_every", "save_every"])
def test_fraction_of_the_run_is_a_time_but_nothing_is_not(load: Load, base: str, key: str) -> None:
    assert load(base, [f"run.{key}=0.1dur"]).tables["run"][key] == "0.1dur"
    with pytest.raises(RecipeError, match="longer than nothing"):
        load(base, [f"run.{key}=0ba"])


def test_checking_a_recipe_does_not_import_torch(base: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(base)
    code = (
        "import sys, trainkit.recipe as r, trainkit.manager as m\n"
        "assert 'pydantic' not in sys.modules, 'pydantic is for those who check'\n"
        f"p = m.Plugins(modules=[{str(Path(__file__).parent / 'plugins' / 'trainkit_fake.py')!r}])\n"
        "p.plugins = p.plugins[-1:]\n"
        f"r.fill_toml(r.load_recipe({str(tmp_path / 'r.toml')!r}, [], p)); r.json_schema(p)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tables_that_name_a_component_are_found_at_any_depth_with_their_keys():
    inner = {"use": "adamw", "group": [{"match": "head.*"}]}
    table = {"use": "muon", "rest": inner, "wrap": [{"use": "sam"}, {"use": "lookahead", "of": {"use": "x"}}], "lr": 1}
    found = list(named_tables(table, "optimizer"))
    keys = ["optimizer", "optimizer.rest", "optimizer.wrap.0", "optimizer.wrap.1", "optimizer.wrap.1.of"]
    assert [key for key, _ in found] == keys
    assert found[0][1] is table
    assert found[1][1] is inner
    assert list(named_tables({"lr": 1}, "optimizer")) == []
