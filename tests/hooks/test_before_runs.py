"""Hooks that are called before and above runs, where no run is needed to see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainkit import RecipeError, hookimpl
from trainkit.ensemble.telling import tell_plugins as tell_of_ensemble
from trainkit.hooking import new_hook_manager
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.run import Report
from trainkit.search.closing import tell_plugins
from trainkit.space import Space
from trainkit.trial import Objective, Study

RECIPE = """\
recipe = 1
[run]
duration = "1ep"
[data]
use = "synthetic"
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
[[callback]]
use = "checking_callback"
size = 3
"""
PLUGIN = """\
from trainkit import Component, hookimpl, problem_at
calls = []

def checking_callback(*, size: int = 1):
    '''Do nothing.'''

@hookimpl
def trainkit_components():
    calls.append("components")
    return [Component("callback", checking_callback)]

@hookimpl
def trainkit_check_recipe(recipe):
    calls.append(recipe["callback"][0]["size"] if recipe["callback"] else "unused")
    if recipe["optimizer"]["lr"] > 1:
        return [problem_at(recipe, "optimizer.lr", "lr is too high for this callback", "lower it")]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / f"checking_{tmp_path.name}.py"
    file.write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return file


def calls_of(plugin: Path) -> list[object]:
    import sys

    return sys.modules[plugin.stem].calls  # type: ignore[no-any-return]


def test_trainkit_components(plugin: Path) -> None:
    """Called once for each process, however often components are asked for; what it lists can be found."""
    plugins = Plugins([str(plugin)])
    for _ in range(3):
        plugins.load()
        assert [c.name for c in plugins.find("callback", "checking_callback")] == ["checking_callback"]
    assert calls_of(plugin) == ["components"]


def test_trainkit_check_recipe(plugin: Path) -> None:
    """Called once for each recipe that uses the plugin, with the filled tables; its problems know their place."""
    plugins, recipe = Plugins([str(plugin)]), plugin.parent / "recipe.toml"
    load_recipe(recipe, [], plugins)
    assert calls_of(plugin) == ["components", 3]
    with pytest.raises(RecipeError) as raised:
        load_recipe(recipe, ["optimizer.lr=2.0"], plugins)
    assert [(p.message, p.cure) for p in raised.value.problems] == [("lr is too high for this callback", "lower it")]
    assert raised.value.problems[0].place.origin.startswith("command line")
    calls_of(plugin).clear()
    load_recipe(recipe, ['drop=["callback"]'], plugins)
    assert calls_of(plugin) == [], "a plugin that the recipe does not use is not asked"


def test_trainkit_check_recipe_waits_until_each_table_is_right(plugin: Path) -> None:
    """A plugin never sees a table that its component has refused."""
    plugins, recipe = Plugins([str(plugin)]), plugin.parent / "recipe.toml"
    with pytest.raises(RecipeError):
        load_recipe(recipe, ["callback.0.size=true"], plugins)
    assert calls_of(plugin) == ["components"]


def test_trainkit_trial_end() -> None:
    """Called for each trial that is over, with its number and report; every plugin hears of it."""
    heard: list[tuple[str, int, str]] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def trainkit_trial_end(self, trial: int, report: Report) -> None:
            heard.append((self.name, trial, report.status))

    manager = new_hook_manager()
    manager.register(Listener("a"))
    manager.register(Listener("b"))
    report = Report("stopped", "early", 3, 1.0, 0.5, {}, None, "")
    manager.hook.trainkit_trial_end(trial=4, report=report)
    assert sorted(heard) == [("a", 4, "stopped"), ("b", 4, "stopped")]


def test_trainkit_study_end(tmp_path: Path) -> None:
    """Called when a search is over, on the modules of all plugins; what one raises is told, and the others go on."""
    for name, act in (("fails", "raise RuntimeError('no ink')"), ("writes", "(study.folder / 'seen').touch()")):
        (tmp_path / f"{name}.py").write_text(
            "from trainkit import hookimpl\n"
            f"@hookimpl\ndef trainkit_study_end(study):\n    if study.searcher == 'none':\n        {act}\n",
            encoding="utf-8",
        )
    plugins = Plugins([str(tmp_path / "fails.py"), str(tmp_path / "writes.py")])
    told: list[str] = []
    tell_plugins(Study(tmp_path, "none", Space(()), (Objective("val.loss"),), 1, 0), plugins, told.append)
    assert (tmp_path / "seen").exists()
    assert len(told) == 1
    assert "in hook trainkit_study_end: RuntimeError: no ink" in told[0]


def test_trainkit_ensemble_end(tmp_path: Path) -> None:
    """Called when an ensemble is measured, on the modules of all plugins; what one raises is told, others go on."""
    for name, act in (("breaks", "raise RuntimeError('no ink')"), ("draws", "(folder / report['task']).touch()")):
        (tmp_path / f"{name}.py").write_text(
            "from trainkit import hookimpl\n"
            f"@hookimpl\ndef trainkit_ensemble_end(folder, report):\n    if 'task' in report:\n        {act}\n",
            encoding="utf-8",
        )
    plugins = Plugins([str(tmp_path / "breaks.py"), str(tmp_path / "draws.py")], ["reports"])  # it wants a whole report
    told: list[str] = []
    tell_of_ensemble(tmp_path, {"task": "binary"}, plugins, told.append)
    assert (tmp_path / "binary").exists()
    assert len(told) == 1
    assert "in hook trainkit_ensemble_end: RuntimeError: no ink" in told[0]
