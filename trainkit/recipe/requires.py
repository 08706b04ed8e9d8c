"""``requires``: distributions that a recipe needs, compared with what is installed."""

from __future__ import annotations

from typing import Any

from trainkit.errors import Problem
from trainkit.recipe.merge import Composed
from trainkit.recipe.text import shown


def check_requires(composed: Composed) -> list[Problem]:
    """Say which of the required distributions is missing or of another version, with the command that installs it."""
    written: Any = composed.tables.get("requires", [])
    if not isinstance(written, list):
        return []
    problems = []
    for number, text in enumerate(written):
        if isinstance(text, str) and (problem := _check(composed, number, text)) is not None:
            problems.append(problem)
    return problems


def _check(composed: Composed, number: int, text: str) -> Problem | None:
    import importlib.metadata

    from packaging.requirements import InvalidRequirement, Requirement

    place = composed.place(("requires", number))
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.url:
        # A requirement with an address would have the user install whatever a stranger's recipe points to.
        message = f"requires: '{shown(text)}' is not a distribution with a version"
        return Problem(place, message, 'such as requires = ["trainkit-lion>=0.2"]')
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    install = f"install it with: pip install '{requirement}'"
    try:
        version = importlib.metadata.version(requirement.name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return Problem(place, f"the recipe needs '{shown(text)}', which is not installed", install, environment=True)
    if requirement.specifier.contains(version, prereleases=True):
        return None
    message = f"the recipe needs '{shown(text)}', but {requirement.name} {version} is installed"
    return Problem(place, message, install, environment=True)
