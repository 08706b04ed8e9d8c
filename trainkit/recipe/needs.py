"""The distributions beside trainkit that a recipe needs, with the installed versions: what ``requires`` should name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trainkit.manager import Plugins
from trainkit.plugin import Plugin
from trainkit.recipe.filled import Recipe
from trainkit.recipe.requires import applies

_OWN = "trainkit"
_NOT_INSTALLED = "not installed"  # the version of what joined with -p
# Nothing older than what was installed is known to do; what pins or excludes versions stays as the user wrote it.
_LEAST = (">=", ">")
_EXACT = ("==", "===")


def requirements(recipe: Recipe) -> list[str]:
    """What the recipe requires, and every distribution that supplies its components, not older than what is installed.

    What supplies components without being installed, through ``-p``, is left out.
    """
    return with_least(recipe.tables.get("requires", []), in_use(recipe.plugins_in_use()))


def in_use(plugins: Iterable[Plugin]) -> dict[str, str]:
    """The distributions of plugins with their versions, trainkit's own apart, in the order of their names."""
    found = {plugin.distribution: plugin.version for plugin in plugins if plugin.version != _NOT_INSTALLED}
    return {name: version for name, version in sorted(found.items()) if name != _OWN}


def libraries(recipe: Recipe) -> dict[str, str]:
    """The distributions of the optional libraries that a recipe's components need, with their versions.

    Those of loggers are left out: a logger changes nothing of a run, which goes on without one that lacks its library.
    """
    import importlib.metadata

    parts = [component for component in recipe.components.values() if component.kind != "logger"]
    imported = sorted({name for component in parts for name in component.libraries})
    known = importlib.metadata.packages_distributions() if imported else {}
    names = [distribution for name in imported for distribution in known.get(name, ())[:1]]
    return {name: importlib.metadata.version(name) for name in names}


def shipping(package: str, plugins: Plugins) -> tuple[str, str] | None:
    """The distribution that ships the recipes of a package, and its version; nothing if it is not installed.

    Args:
        package: as in ``package:name``.
        plugins: the plugins of this process.
    """
    if package == _OWN:
        from trainkit import __version__

        return _OWN, __version__
    for plugin in plugins.plugins:
        if package in (plugin.package, plugin.distribution):
            return (plugin.distribution, plugin.version) if plugin.version != _NOT_INSTALLED else None
    import importlib.metadata

    names = importlib.metadata.packages_distributions().get(package, [])
    return (names[0], importlib.metadata.version(names[0])) if names else None


def shipped_by(package: str, plugins: Plugins) -> str:
    """What `shipping` finds, as it is said: ``trainkit-lion 0.2``; empty where it finds nothing."""
    return " ".join(shipping(package, plugins) or ())


def with_least(written: Iterable[str], installed: Mapping[str, str]) -> list[str]:
    """Requirements that name each installed distribution, with its version as the least that will do.

    Args:
        written: requirements as a recipe has them.
        installed: distributions and their versions.
    """
    if not installed:
        return list(written)
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    least: dict[str, str] = {}
    for name, version in installed.items():
        try:
            least[name] = f">={Version(version).public}"
        except InvalidVersion:  # of an old package; any version is better than none
            least[name] = ""
    found: list[str] = []
    by_name: dict[str, str] = {canonicalize_name(name): name for name in least}
    for text in written:
        try:
            requirement = Requirement(text)
            counts = applies(requirement)
        except ValueError:  # which the check of the recipe tells
            found.append(text)
            continue
        bound = least[by_name.pop(name)] if counts and (name := canonicalize_name(requirement.name)) in by_name else ""
        kept = [part for part in requirement.specifier if part.operator not in _LEAST]
        if bound and not any(part.operator in _EXACT for part in kept):
            requirement.specifier = SpecifierSet(",".join([*map(str, kept), bound]))
            text = str(requirement)
        found.append(text)
    return found + [f"{name}{least[name]}" for name in by_name.values()]
