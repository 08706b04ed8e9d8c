"""``requires``: distributions that a recipe needs, compared with what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trainkit.errors import Place, Problem
from trainkit.recipe.merge import Composed
from trainkit.recipe.text import shown

if TYPE_CHECKING:
    from packaging.requirements import Requirement


# Nobody needs more, and a version of thousands of digits is more than Python reads.
_LONGEST = 1000


def check_requires(composed: Composed) -> list[Problem]:
    """Say which required distributions are missing or of another version, with one command that installs them."""
    written: Any = composed.tables.get("requires", [])
    if not isinstance(written, list):
        return []
    problems: list[Problem] = []
    lacking: list[_Lacking] = []
    for number, text in enumerate(written):
        if isinstance(text, str):
            found = _check(composed, number, text)
            if isinstance(found, Problem):
                problems.append(found)
            elif found is not None:
                lacking.append(found)
    if lacking:
        first, *others = lacking
        message = "".join([f"the recipe needs {first.said}", *(f"\n  and {other.said}" for other in others)])
        command = "pip install " + " ".join(_for_shell(one.requirement) for one in lacking)
        install = f"install {'them' if others else 'it'} with: {command}"
        problems.append(Problem(first.place, message, install, environment=True))
    return problems


def applies(requirement: Requirement) -> bool:
    """Whether a requirement is meant for this machine.

    Raises:
        ValueError: if its marker compares what cannot be compared, or asks for what is not known.
    """
    try:
        return requirement.marker is None or requirement.marker.evaluate()
    except KeyError as error:
        raise ValueError(f"nothing is known of {error}") from None


def _for_shell(requirement: Requirement) -> str:
    """A requirement as a word of a command. Its marker holds here, and could carry a stranger's quotes and commands."""
    import shlex

    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return shlex.quote(f"{requirement.name}{extras}{requirement.specifier}")


class _Lacking(NamedTuple):
    """A distribution that is not there as it is required."""

    place: Place
    requirement: Requirement
    said: str


def _check(composed: Composed, number: int, text: str) -> Problem | _Lacking | None:
    import importlib.metadata

    from packaging.requirements import InvalidRequirement, Requirement

    place = composed.place(("requires", number))
    requirement, meant = None, False
    try:
        requirement = Requirement(text) if len(text) <= _LONGEST else None
        meant = requirement is not None and applies(requirement)
    except (InvalidRequirement, RecursionError):  # thousands of brackets
        requirement = None
    except ValueError as error:
        said = f"requires: '{shown(text)}' says for which machines it is in a way that cannot be read"
        return Problem(place, f"{said}: {shown(str(error))}", "leave out what follows ';'")
    if requirement is None or requirement.url:
        # A requirement with an address would have the user install whatever a stranger's recipe points to.
        message = f"requires: '{shown(text)}' is not a distribution with a version"
        return Problem(place, message, 'such as requires = ["trainkit-lion>=0.2"]')
    if not meant:
        return None
    try:
        version = importlib.metadata.version(requirement.name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return _Lacking(place, requirement, f"'{shown(text)}', which is not installed")
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return _Lacking(place, requirement, f"'{shown(text)}', but {requirement.name} {version} is installed")
