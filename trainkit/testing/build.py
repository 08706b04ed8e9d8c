"""A component in the tiny recipe, and what it builds there."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import tomli_w

from trainkit.clock import Clock
from trainkit.component import Component
from trainkit.dataset import DataSpec
from trainkit.hookspecs import hookimpl
from trainkit.instantiate import Builder
from trainkit.manager import Plugins
from trainkit.plugin import Plugin, load_plugin
from trainkit.protocols import silent
from trainkit.recipe import Recipe, recipe_from_text
from trainkit.tables import INSIDE, WITHIN, table_of
from trainkit.testing.tiny import TINY
from trainkit.testing.tiny import table_of as example_table

SPEC = DataSpec(
    input_shape=(6,),
    task="classification",
    outputs=3,
    classes=("a", "b", "c"),
    class_counts=(20, 20, 20),
    sizes={"train": 60, "val": 10, "test": 10},
    fingerprint="0" * 64,
)


@functools.cache
def installed() -> Plugins:
    """The installed plugins, all imported; one set for all contracts of a process."""
    plugins = Plugins()
    plugins.load()
    return plugins


def plugins_of(component: Component) -> Plugins:
    """Plugins that supply the component: the installed ones, with one more where none of them lists it."""
    listed = installed()
    if any(part is component for plugin in listed.plugins for part in plugin.components):
        return listed
    return _with(component)


_HELD: dict[int, tuple[Component, Plugins]] = {}  # with the component, so that no other gets its number


def _with(component: Component) -> Plugins:
    if id(component) not in _HELD:
        plugins = Plugins()
        plugins.load()
        module = ModuleType(f"trainkit_held_{len(_HELD)}")
        module.trainkit_components = hookimpl(lambda: [component])  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        plugin = Plugin(module.__name__, module.__name__, "held to its contracts", "not installed")
        load_plugin(plugin)
        plugins.plugins.append(plugin)
        _HELD[id(component)] = component, plugins
    return _HELD[id(component)][1]


def tables_of(component: Component, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The tables of the tiny recipe that name a component where its kind belongs.

    Args:
        component: the component.
        settings: the settings; ``None`` takes those of its example, with times of 1, 2, 3 ... updates.
    """
    table = example_table(component) if settings is None else {"use": component.name, **settings}
    kind = component.kind
    if kind in INSIDE:
        outer, key = INSIDE[kind]
        return {outer: {**TINY[outer], key: [table]}}
    if kind in WITHIN:
        outer, key = WITHIN[kind]
        return {outer: {**SEARCH, key: table}}
    if kind == "searcher":
        return {"search": {**SEARCH, **table}}
    found = table_of(kind)
    assert found is not None, f"no table of a recipe names a {kind}"
    return {found.name: [table] if found.many else table}


SEARCH: dict[str, Any] = {
    "use": "random",
    "trials": 2,
    "space": {"optimizer.lr": {"low": 0.001, "high": 0.1, "scale": "log"}},
}


def path_of(kind: str) -> tuple[str | int, ...]:
    """Where `tables_of` puts a component of a kind."""
    if kind in INSIDE:
        return (*INSIDE[kind], 0)
    if kind in WITHIN:
        return WITHIN[kind]
    found = table_of(kind)
    assert found is not None
    return (found.name, 0) if found.many else (found.name,)


def recipe_of(component: Component, settings: Mapping[str, Any] | None = None, **tables: Any) -> Recipe:
    """The tiny recipe with a component in it, checked.

    Args:
        component: the component.
        settings: as `tables_of`.
        tables: more tables, in the place of the recipe's own.

    Raises:
        RecipeError: if they make no recipe.
    """
    whole = {**TINY, **tables_of(component, settings), **tables}
    text = tomli_w.dumps({name: table for name, table in whole.items() if table is not None})
    return recipe_from_text(
        text, f"the tiny recipe with {component.kind} '{component.name}'", [], plugins_of(component)
    )


def made(component: Component, settings: Mapping[str, Any] | None = None, *, updates: int = 12, **given: Any) -> Any:
    """Build a component that needs no more than the data's description, from its example or from settings.

    Args:
        component: the component.
        settings: as `tables_of`.
        updates: length of the run, in epochs of 3 updates.
        given: what the core gives its factory, such as ``params``, beside ``data_spec``, which is `SPEC`.

    Raises:
        RecipeError: if the component refuses its settings.
        PluginDefect: if it raises anything else.
    """
    recipe = recipe_of(component, settings)
    builder = Builder(recipe, recipe.plugins, silent)
    builder.clock = Clock(batches_per_epoch=3, samples_per_update=16, total_updates=updates)
    return builder.make(*path_of(component.kind), **{"data_spec": SPEC, **given})
