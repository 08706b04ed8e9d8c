"""From ``use`` to a component: the one that is meant, or a problem that says what there is."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trainkit.component import Component
from trainkit.errors import Place, Problem
from trainkit.manager import Plugins
from trainkit.recipe.text import did_you_mean, nearest, plural, shown, shown_value


def find_component(
    plugins: Plugins, kind: str, use: Any, place: Place, lacking: bool = False
) -> tuple[Component | None, list[Problem]]:
    """Look a component up.

    Args:
        plugins: where to look.
        kind: what kind of component the table names.
        use: what the recipe says.
        place: where it says so.
        lacking: whether a distribution that the recipe requires is not installed; a component that nobody supplies
            is then no problem of its own.

    Returns:
        The component, and what is wrong; a component whose library is missing comes with a problem.
    """
    if not isinstance(use, str):
        cure = f"installed {plural(kind)}: {installed_names(plugins, kind)}"
        return None, [Problem(place, f"use must be the name of {a_kind(kind)}, got {shown_value(use)}", cure)]
    found = plugins.find(kind, use)
    if not found:
        return None, _unknown(plugins, kind, use, place, lacking)
    if len(found) > 1:
        full = [f"{plugins.owner(component).package}:{component.name}" for component in found]
        if len(set(full)) < len(full):  # one package with several plugins
            full = [f"{component.plugin} ({plugins.owner(component).distribution})" for component in found]
        cure = "write " + " or ".join(f"use = {shown_value(name)}" for name in full)
        return None, [Problem(place, f"{len(found)} plugins supply {a_kind(kind)} named '{shown(use)}'", cure)]
    component = found[0]
    problems = []
    for library, how in component.missing_libraries.items():
        message = f"{kind} '{component.name}' needs the library '{library}', which is not installed"
        problems.append(Problem(place, message, f"install it with: {how}", environment=True))
    return component, problems


def _unknown(plugins: Plugins, kind: str, use: str, place: Place, lacking: bool) -> list[Problem]:
    known = plugins.components(kind)
    if lacking:  # also where the name is near another: 'adan' of a plugin that is not there is no slip for 'adam'
        return []
    full = [f"{plugins.owner(component).package}:{name}" for name, found in known.items() for component in found]
    names = [*known, *full] if ":" in use else list(known)
    near = nearest(use, names)
    cure = did_you_mean(use, names) + f"installed {plural(kind)}: {installed_names(plugins, kind)}"
    for plugin in plugins.broken:
        cure += f"\n{shown(plugin.error.splitlines()[0], 300)}"
    if near is None:
        elsewhere = [other for other in _kinds_with(plugins, use) if other != kind]
        if elsewhere:
            cure += f"\n'{shown(use)}' is {a_kind(elsewhere[0])}, not {a_kind(kind)}"
        else:
            cure += (
                "\na component of another package is there once that is installed; one of your own joins with -p MODULE"
            )
    # With a plugin that does not load, a name that is like no other is likely to be that plugin's.
    broken = near is None and bool(plugins.broken)
    return [Problem(place, f"no {kind} named '{shown(use)}'", cure, environment=broken)]


def _kinds_with(plugins: Plugins, name: str) -> list[str]:
    return sorted({c.kind for plugin in plugins.plugins for c in plugin.components if c.name == name})


def installed_names(plugins: Plugins, kind: str) -> str:
    """The installed components of a kind in one line; those that share a name in their long form.

    Those of a bridge to a library, which have a prefix in common, are counted, not named.
    """
    names, prefixes = [], Counter[str]()
    for name, found in plugins.components(kind).items():
        if ":" in name:
            prefixes[name.partition(":")[0]] += len(found)
        elif len(found) == 1:
            names.append(name)
        else:
            names.extend(f"{plugins.owner(component).package}:{name}" for component in found)
    return ", ".join([*names, *(f"{count} of {prefix}:..." for prefix, count in prefixes.items())]) or "none"


def a_kind(kind: str) -> str:
    """The kind with its article."""
    if kind == "data":
        return "data"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
