"""Which components are held to contracts: those of the distributions that the options name, or of the project."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import pytest

from trainkit.component import Component
from trainkit.testing.build import installed


def selected(config: pytest.Config, kind: str) -> list[Component]:
    """The components of one kind (``""`` for all) that the options select.

    Raises:
        pytest.UsageError: if a distribution that is named supplies no component.
    """
    names = tuple(config.getoption("--trainkit-dist")) or _project(config.rootpath)
    return [one for one in _components(names) if kind in ("", one.kind)]


@functools.cache
def _components(names: tuple[str, ...]) -> list[Component]:
    plugins = installed()
    known = {_plain(plugin.distribution) for plugin in plugins.plugins}
    for name in names:
        if _plain(name) not in known:
            raise pytest.UsageError(
                f"--trainkit-dist {name}: no installed distribution of that name has a plugin; installed: "
                f"{', '.join(sorted(known))}"
            )
    wanted = [plugin for plugin in plugins.plugins if _plain(plugin.distribution) in map(_plain, names)]
    for plugin in wanted:
        if plugin.error:
            raise pytest.UsageError(plugin.error)
    return [component for plugin in wanted for component in plugin.components]


def _project(root: Path) -> tuple[str, ...]:
    """The distribution of the project whose tests run.

    Raises:
        pytest.UsageError: if there is none.
    """
    file = root / "pyproject.toml"
    try:
        return (str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"]),)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise pytest.UsageError(
            f"{file} does not say which distribution this is ({error}); name it with --trainkit-dist"
        ) from None


def _plain(name: str) -> str:
    """A distribution's name as installers compare it."""
    return name.lower().replace("_", "-").replace(".", "-")
