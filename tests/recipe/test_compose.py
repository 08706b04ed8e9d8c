"""Bases, drop, overrides: who wins, and that every key remembers where it was written."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainkit.errors import RecipeError
from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.recipe import Recipe, load_recipe, origin_lines, packaged_recipes
from trainkit.recipe.bases import open_base
from trainkit.recipe.merge import Composed
from trainkit.recipe.positions import Source

Load = Callable[..., Recipe]


def test_precedence_default_bases_recipe_command_line(load: Load, base: str) -> None:
    second = "[optimizer]\nlr = 0.2\nmomentum = 0.2\nweight_decay = 0.2\n"
    text = 'extends = ["first.toml", "second.toml"]\n[optimizer]\nmomentum = 0.3\nweight_decay = 0.3\n'
    recipe = load(text, ["optimizer.weight_decay=0.4"], first=base, second=second)
    optimizer = recipe.tables["optimizer"]
    assert optimizer["nesterov"] is False
    assert (optimizer["lr"], optimizer["momentum"], optimizer["weight_decay"]) == (0.2, 0.3, 0.4)
    origin = recipe.origin("optimizer.weight_decay")
    assert str(origin.place) == "command line"
    assert [(value, str(place)) for value, place in origin.earlier] == [(0.3, "my.toml:4"), (0.2, "second.toml:4")]
    assert (origin.has_default, origin.default) == (True, 0.0)
    assert recipe.origin("optimizer.nesterov").place is None


def test_origin_line_reads_as_promised(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\n[optimizer]\nlr = 0.5\n', base=base)
    (line,) = [line for line in origin_lines(recipe) if line.startswith("optimizer.lr ")]
    assert line.split("    ")[0].strip() == "optimizer.lr = 0.5"
    assert line.endswith("    my.toml:3  (was 0.1, base.toml:15; default 0.01)")


def test_changed_use_starts_the_table_afresh(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\n[optimizer]\nuse = "adam"\n', base=base)
    assert recipe.tables["optimizer"]["lr"] == 0.001
    assert "momentum" not in recipe.tables["optimizer"]
    assert recipe.origin("optimizer.lr").place is None
    assert recipe.origin("optimizer.use").earlier[0][0] == "sgd"


def test_same_use_merges(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\n[optimizer]\nuse = "sgd"\nmomentum = 0.5\n', base=base)
    assert (recipe.tables["optimizer"]["lr"], recipe.tables["optimizer"]["momentum"]) == (0.1, 0.5)


def test_changed_use_of_a_base_does_not_forget_what_its_sibling_set(load: Load, base: str) -> None:
    other = 'extends = "older.toml"\n[optimizer]\nuse = "sgd"\n'
    recipe = load(
        'extends = ["first.toml", "other.toml"]\n',
        first=base,
        other=other,
        older='[optimizer]\nuse = "adam"\neps = 1.0\n',
    )
    assert recipe.tables["optimizer"]["momentum"] == 0.9


def test_lists_replace(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\n[[metric]]\nuse = "top"\nk = 3\n', base=base)
    assert recipe.tables["metric"] == [{"use": "top", "k": 3}]
    assert str(recipe.origin(("metric", 0, "k")).place) == "my.toml:4"


def test_bases_are_relative_to_the_file_that_names_them(load: Load, base: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one.toml").write_text('extends = "../root.toml"\nseed = 5\n')
    recipe = load('extends = "deep/one.toml"\n', root=base)
    assert recipe.tables["seed"] == 5
    assert str(recipe.origin("optimizer.lr").place) == "root.toml:15"


def test_drop_removes_what_a_base_set(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\ndrop = ["schedule.warmup", "metric"]\n', base=base)
    assert recipe.tables["schedule"]["warmup"] == "0ba"
    assert recipe.tables["metric"] == []
    assert recipe.origin("schedule.warmup").place is None


def test_drop_then_set_again(load: Load, base: str) -> None:
    recipe = load('extends = "base.toml"\ndrop = ["optimizer"]\n[optimizer]\nuse = "sgd"\n', base=base)
    assert recipe.tables["optimizer"]["momentum"] == 0.0


def test_drop_on_the_command_line(load: Load, base: str) -> None:
    assert load(base, ['drop=["metric"]']).tables["metric"] == []


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.lr=0.5", "optimizer.lr", 0.5),
        ("optimizer.lr = 1", "optimizer.lr", 1.0),
        ("schedule=constant", "schedule.use", "constant"),
        ("optimizer.use=adam", "optimizer.use", "adam"),
        ("optimizer=adam", "optimizer.use", "adam"),
        ("run.duration=3ep", "run.duration", "3ep"),
        ('run.duration="3ep"', "run.duration", "3ep"),
        ("metric.0.use=top", "metric.0.use", "top"),
        ("model.widths=[1, 2]", "model.widths", [1, 2]),
        ("run.compile=step", "run.compile", "step"),
        ('callback=[{use = "clip_norm", max_norm = 2}]', "callback.0.max_norm", 2.0),
        ("data.root=2026-01-01", "data.root", "2026-01-01"),
        ("data.root=a=b", "data.root", "a=b"),
        ("data.root=x\nseed=1", "data.root", "x\nseed=1"),
        ("data.root=", "data.root", None),
        ('loss.weights={"a.b" = 1}', 'loss.weights."a.b"', 1.0),
        ('loss.weights."a=b"=2', 'loss.weights."a=b"', 2.0),
        ("optimizer={momentum = 0.5}", "optimizer.lr", 0.1),
    ],
)
def test_override(load: Load, base: str, override: str, path: str, value: object) -> None:
    if value is None:
        with pytest.raises(RecipeError, match='root must be a path, got ""'):
            load(base, [override])
        return
    origin = load(base, [override]).origin(path)
    assert origin.value == value
    assert "{momentum" in override or str(origin.place) == "command line"


def test_order_of_overrides_matters_only_for_one_key(load: Load, base: str) -> None:
    for overrides in (["optimizer=adamw", "optimizer.lr=7"], ["optimizer.lr=7", "optimizer=adamw"]):
        assert load(base, overrides).tables["optimizer"]["lr"] == 7.0
    assert load(base, ["seed=1", "seed=2"]).tables["seed"] == 2


def test_changed_use_of_a_list_item_starts_it_afresh(load: Load, base: str) -> None:
    text = base + '[[callback]]\nuse = "clip_norm"\nmax_norm = 1\n[[callback]]\nuse = "clip_norm"\nmax_norm = 1\n'
    recipe = load(text, ["callback.0.use=clip_value", "callback.1.max_norm=2"])
    assert recipe.tables["callback"] == [{"use": "clip_value", "limit": 1.0}, {"use": "clip_norm", "max_norm": 2.0}]
    assert recipe.origin("callback.1.max_norm").earlier[0][0] == 1


def test_shared_base_twice_is_no_circle(load: Load, base: str) -> None:
    branch = 'extends = "root.toml"\n'
    recipe = load('extends = ["left.toml", "right.toml"]\n', root=base, left=branch + "seed = 1\n", right=branch)
    assert recipe.tables["seed"] == 17


def test_bases_without_end_are_refused(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {f"b{n}": f'extends = "b{n + 1}.toml"\n' for n in range(12)}
    with pytest.raises(RecipeError, match="more than 8 deep"):
        load('extends = "b0.toml"\n', b12="", **deep)
    many = {f"b{n}": "extends = [" + f'"b{n + 1}.toml", ' * 9 + "]\n" for n in range(7)}
    opened: list[str] = []
    module = sys.modules["trainkit.recipe.compose"]  # trainkit.recipe.compose is the function
    monkeypatch.setattr(module, "open_base", lambda base, *more: opened.append(base) or open_base(base, *more))
    with pytest.raises(RecipeError, match="more than 64 bases") as caught:
        load('extends = "b0.toml"\n', b7="seed = 1\n", **many)
    assert len(opened) == 63  # and the recipe itself
    assert len(caught.value.problems) == 1
    # Files that are not there are looked for no more often.
    opened.clear()
    with pytest.raises(RecipeError, match=r"'no\.toml' does not exist") as caught:
        load("extends = [" + '"no.toml", ' * 1000 + "]\n")
    assert len(opened) == len(caught.value.problems) == 63


@pytest.fixture
def package(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package that ships recipes and must not be imported."""
    folder = tmp_path / "site" / "trainkit_shipping"
    (folder / "recipes").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported to find a recipe')\n")
    (folder / "recipes" / "root.toml").write_text(base)
    (folder / "recipes" / "leaf.toml").write_text('extends = "root.toml"\nseed = 3\n')
    (folder / "recipes" / "escape.toml").write_text('extends = "../../../my.toml"\n')
    (folder / "recipes" / "named.toml").write_text('extends = "it is.toml"\n')
    (folder / "recipes" / "inner").mkdir()
    (folder / "recipes" / "inner" / "leaf.toml").write_text('extends = "../root.toml"\nseed = 4\n')
    (folder / "recipes" / "inner" / "twig.toml").write_text('extends = ["leaf.toml"]\n[optimizer]\nlr = 0.25\n')
    (folder / "recipes" / "inner" / "escape.toml").write_text('extends = "../../secret.toml"\n')
    (tmp_path / "site" / "secret.toml").write_text(base)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    return "trainkit_shipping"


def test_recipe_of_a_package(load: Load, package: str, plugins: Plugins) -> None:
    recipe = load(f'extends = "{package}:leaf"\n[optimizer]\nlr = 0.5\n')
    assert str(recipe.origin("seed").place) == "trainkit_shipping:leaf:2"
    assert str(recipe.origin("optimizer.lr").earlier[0][1]) == "trainkit_shipping:root:15"
    assert load_recipe(f"{package}:root", [], plugins).tables["seed"] == 17
    assert package not in sys.modules


def test_recipe_of_a_package_may_lie_in_a_folder(load: Load, package: str, plugins: Plugins) -> None:
    recipe = load(f'extends = "{package}:inner/twig"\n')
    assert (recipe.tables["seed"], recipe.tables["optimizer"]["lr"]) == (4, 0.25)
    assert str(recipe.origin("seed").place) == "trainkit_shipping:inner/leaf:2"
    assert str(recipe.origin("optimizer.lr").earlier[0][1]) == "trainkit_shipping:root:15"
    assert load_recipe(f"{package}:inner/leaf", [], plugins).tables["seed"] == 4
    with pytest.raises(RecipeError, match=f"did you mean '{package}:inner/twig'"):
        load(f'extends = "{package}:inner/twog"\n')


def test_recipe_of_a_package_stays_inside(load: Load, package: str) -> None:
    for name in ("escape", "inner/escape"):
        with pytest.raises(RecipeError, match="leaves the package's folder"):
            load(f'extends = "{package}:{name}"\n')
    with pytest.raises(RecipeError, match="'trainkit_shipping:it is' is no name of a packaged recipe"):
        load(f'extends = "{package}:named"\n')
    with pytest.raises(RecipeError, match="neither a file"):
        load(f'extends = "{package}:../secret"\n')
    with pytest.raises(RecipeError, match=f"did you mean '{package}:leaf'"):
        load(f'extends = "{package}:laef"\n')


def test_packaged_recipes_are_listed_by_distribution_too(load: Load, package: str, plugins: Plugins) -> None:
    plugins.plugins.append(Plugin("shipping", package, "trainkit-shipping", "1"))
    try:
        assert {f"{package}:leaf", f"{package}:root", f"{package}:inner/twig"} <= set(packaged_recipes(plugins))
        assert load('extends = "trainkit-shipping:leaf"\n').tables["seed"] == 3
    finally:
        plugins.plugins.pop()


def test_laying_over_does_not_change_what_is_laid() -> None:
    source = Source("a.toml", "x = {y = 1}\n", tables={"x": {"y": [1]}})
    over, first, second = Composed("r"), Composed("r"), Composed("r")
    over.put(source, source.tables)
    first.lay(over)
    second.put(source, {"x": {"z": 2}})
    second.lay(first)
    assert over.tables == {"x": {"y": [1]}}
    assert set(over.marks) == {("x",), ("x", "y"), ("x", "y", 0)}
    assert len(over.marks["x",]) == 1


def test_environment_changes_nothing(load: Load, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "LR", "9")
    recipe = load(base, ["data.root=$LR/${LR}"])
    assert recipe.tables["data"]["root"] == "$LR/${LR}"


@pytest.mark.parametrize("name", ["trainkit_robust:fast", "trainkit_fresh:fast", "lab:fast"])
def test_the_recipe_of_a_package_that_is_not_installed_is_not_taken_for_a_slip_of_the_pen(load, name):
    """That other packages are called trainkit_something too makes them no nearer."""
    with pytest.raises(RecipeError) as caught:
        load(f'extends = "{name}"\n')
    (problem,) = caught.value.problems
    assert problem.environment
    assert f"no package '{name.partition(':')[0]}' is installed; install it" in str(problem)
    assert len(str(problem)) < 400


def test_a_misspelt_package_is_a_slip_of_the_pen(load):
    with pytest.raises(RecipeError) as caught:
        load('extends = "trainkti:mlp_digits"\n')
    (problem,) = caught.value.problems
    assert not problem.environment
    assert "did you mean 'trainkit:mlp_digits'?" in str(problem)
