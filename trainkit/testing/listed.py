"""Plugins that supply a component: installed ones, and one made up for what none of them lists."""

from __future__ import annotations

import functools
import sys
from types import ModuleType

from trainkit.component import Component
from trainkit.hookspecs import hookimpl
from trainkit.manager import Plugins
from trainkit.plugin import Plugin, load_plugin


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


def as_listed(component: Component) -> tuple[Plugins, Component]:
    """Plugins that supply the component, and the component as they have it: it knows whose it is."""
    plugins = plugins_of(component)
    namesakes = plugins.components(component.kind)[component.name]
    return plugins, next((part for part in namesakes if part is component), namesakes[0])


MADE_UP = "a test"  # in place of a distribution, of components that no plugin lists
_HELD: dict[int, tuple[Component, Plugins]] = {}  # with the component, so that no other gets its number


def _with(component: Component) -> Plugins:
    """The installed plugins and one of this component alone; installed namesakes of it are left out."""
    if id(component) not in _HELD:
        plugins = Plugins()
        plugins.load()
        for other in plugins.plugins:
            other.components = [
                part for part in other.components if (part.kind, part.name) != (component.kind, component.name)
            ]
        plugins.plugins.append(_own_plugin(component) or _made_up(component, len(_HELD)))
        _HELD[id(component)] = component, plugins
    return _HELD[id(component)][1]


def _own_plugin(component: Component) -> Plugin | None:
    """The plugin of the module that the component's factory comes from, if that lists it; with all its hooks."""
    name = str(getattr(component.factory, "__module__", "")).partition(".")[0]
    if not hasattr(sys.modules.get(name), "trainkit_components"):
        return None
    plugin = Plugin(name, name, name, "not installed")
    load_plugin(plugin)
    if not any((part.kind, part.name) == (component.kind, component.name) for part in plugin.components):
        return None
    return plugin


def _made_up(component: Component, number: int) -> Plugin:
    module = ModuleType(f"trainkit_held_{number}")
    module.trainkit_components = hookimpl(lambda: [component])  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    plugin = Plugin(module.__name__, module.__name__, MADE_UP, "not installed")
    load_plugin(plugin)
    return plugin
