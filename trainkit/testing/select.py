"""Which components are held to contracts: those of the distributions that the options name, or of the project."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path

import pytest

from trainkit.component import Component
from trainkit.plugin import Plugin
from trainkit.testing.listed import installed


def selected(config: pytest.Config, kind: str) -> list[Component]:
    """The components of one kind (``""`` for all) that the options select.

    Raises:
        pytest.UsageError: if a distribution that is named supplies no component.
    """
    names = tuple(config.getoption("--trainkit-dist"))
    components = _named(names) if names else _of_the_project(config.rootpath / "pyproject.toml")
    return [one for one in components if kind in ("", one.kind)]


@functools.cache
def _named(names: tuple[str, ...]) -> list[Component]:
    found = []
    for name in names:
        if not (plugins := _plugins_of(name)):
            message = f"--trainkit-dist {name}: no installed distribution of that name has a plugin"
            raise pytest.UsageError(f"{message}; installed: {_installed()}")
        found.extend(_components(plugins))
    return found


@functools.cache
def _of_the_project(file: Path) -> list[Component]:
    """The components of the project whose tests run."""
    try:
        name = str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = (
            "there is no such file"
            if isinstance(error, FileNotFoundError)
            else "it cannot be read"
            if isinstance(error, OSError)
            else "it is no TOML"
            if isinstance(error, ValueError)
            else "it has no project.name"
        )
        raise pytest.UsageError(
            f"which distribution is meant? {file} does not say it, as {why}; add --trainkit-dist NAME, "
            f"one of: {_installed()}"
        ) from None
    if not (plugins := _plugins_of(name)):
        raise pytest.UsageError(
            f"{file}: the distribution '{name}' is not installed, or has no entry point in the group 'trainkit'; "
            f"pip install -e . in {file.parent}, again whenever entry points change"
        )
    return _components(plugins)


def _plugins_of(name: str) -> list[Plugin]:
    return [plugin for plugin in installed().plugins if _plain(plugin.distribution) == _plain(name)]


def _components(plugins: list[Plugin]) -> list[Component]:
    for plugin in plugins:
        if plugin.error:
            raise pytest.UsageError(plugin.error)
    found = [component for plugin in plugins for component in plugin.components]
    if not found:
        raise pytest.UsageError(f"{plugins[0]} lists no component: trainkit_components gives none")
    return found


def _installed() -> str:
    return ", ".join(sorted({_plain(plugin.distribution) for plugin in installed().plugins}))


def _plain(name: str) -> str:
    """A distribution's name as installers compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
