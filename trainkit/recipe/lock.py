"""Lock files: what a recipe's bases and distributions were, kept beside it, so that a later run can be held to them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from trainkit.errors import Place, Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.compose import extended
from trainkit.recipe.filled import Recipe
from trainkit.recipe.merge import Composed
from trainkit.recipe.needs import libraries, shipped_by, shipping
from trainkit.recipe.positions import Source
from trainkit.recipe.read import read_file
from trainkit.recipe.sources import base_hashes, bases_of, lasting_name
from trainkit.recipe.text import shown
from trainkit.recipe.write import to_toml

SUFFIX = ".lock"
FORMAT = 1
_CORE = ("trainkit", "torch", "numpy")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What is locked comes back as a command: a lock file of somebody else's must not have the user install an address.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9.!_-]+|sha256:[0-9a-f]+")
_SHIPPED = re.compile(rf"{_NAME.pattern}(?: [A-Za-z0-9.!+_-]+)?")
_FILES = "sha256:"  # of a module named with -p, which has no version


@dataclass(frozen=True)
class Lock:
    """What is locked.

    Args:
        bases: SHA-256 of each base, by `lasting_name`.
        shipped: for each base that a package ships, the distribution and its version, such as ``trainkit-lion 0.2``.
        distributions: the version of each distribution in use; of a module named with ``-p``, a hash of its files.
    """

    bases: Mapping[str, str]
    shipped: Mapping[str, str]
    distributions: Mapping[str, str]

    def as_toml(self, name: str) -> str:
        """The lock file's text.

        Args:
            name: the recipe as its user calls it.
        """
        head = (
            f"# Written by `trainkit lock {shown(shlex.quote(name))}`; --locked refuses what is not as it was then.\n"
        )
        tables = {"bases": self.bases, "shipped": self.shipped, "distributions": self.distributions}
        return head + to_toml({"lock": FORMAT, **{key: dict(table) for key, table in tables.items()}})


def lock_of(recipe: Recipe) -> Lock:
    """What there is to lock of a checked recipe."""
    composed, plugins = recipe.tables.composed, recipe.plugins
    shipped = {}
    for source in bases_of(composed).values():
        # One whose version is none can be neither installed nor read again.
        if source.package and _SHIPPED.fullmatch(ships := shipped_by(source.package, plugins)):
            shipped[lasting_name(source, composed)] = ships
    return Lock(base_hashes(composed), shipped, dict(sorted(_in_use(recipe).items())))


def lock_file(composed: Composed) -> FilePath:
    """Where the lock file of a recipe lies: beside it.

    Raises:
        RecipeError: if the recipe lies in no file of the user's.
    """
    own = composed.sources[0]
    if own.pack is not None:
        cure = "it holds its bases itself and is held to their SHA-256: leave --locked out"
        raise RecipeError([Problem(Place(own.name), "a pack has no lock file", cure)])
    if own.package:
        again = f"trainkit new-recipe --from {shown(shlex.quote(own.name))} --derive --out FILE"
        cure = f"lock one of your own that extends it: {again}"
        raise RecipeError([Problem(Place(own.name), "a packaged recipe has no lock file", cure)])
    if own.file is None:
        raise RecipeError([Problem(Place(own.name), "has no lock file", "name a recipe file")])
    return own.file.with_suffix(SUFFIX)


def check_locked(composed: Composed, plugins: Plugins) -> None:
    """Hold a recipe to its lock file, before it is checked: what has changed may be why it is not right any more.

    Raises:
        RecipeError: with a problem for each base that is another one, and one for all distributions.
    """
    lock, told = read_lock(composed), set[str]()
    if problems := [*_bases(composed, lock, plugins, told), *_installed(composed, lock, told)]:
        raise RecipeError(problems)


def check_installed(source: Source) -> None:
    """Hold what is installed to the lock file of a recipe that cannot be put together, as a base went with its package.

    Raises:
        RecipeError: with one problem for all distributions that are not those of the lock file.
    """
    composed = Composed(source.name, sources=[source])
    if problems := [*_installed(composed, read_lock(composed), set())]:
        raise RecipeError(problems)


def check_in_use(recipe: Recipe) -> None:
    """Hold what a checked recipe uses to its lock file.

    Raises:
        RecipeError: if it uses a distribution or module that was not locked, or not as it is.
    """
    composed = recipe.tables.composed
    locked = read_lock(composed).distributions
    said = []
    for name, version in _in_use(recipe).items():
        if name not in locked:
            said.append(f"{name} {version} is in use, and not locked")
        elif version.startswith(_FILES) and locked[name] != version:
            said.append(f"the files of {name} have changed: {version}, locked is {locked[name]}")
    if said:
        place = Place(_shown_lock(composed))
        cure = f"lock what is there, with the same key=value and -p: {_again(composed)}"
        raise RecipeError([Problem(place, "\n  ".join(said), cure)])


def _in_use(recipe: Recipe) -> dict[str, str]:
    """Distributions in use: those of plugins, of libraries that components need, of shipped bases, of the core."""
    versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
    composed = recipe.tables.composed
    for source in bases_of(composed).values():
        if source.package and (found := shipping(source.package, recipe.plugins)) is not None:
            versions[found[0]] = found[1]
    for name in (*_CORE, *libraries(recipe)):
        if (version := _version(name)) is not None:
            versions[name] = version
    return {name: _public(version) for name, version in versions.items() if _VERSION.fullmatch(_public(version))}


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _public(version: str) -> str:
    """A version without what a builder has added, such as ``+cpu``: a lock holds on machines of every kind."""
    return version if version.startswith(_FILES) else version.partition("+")[0]


# ------------------------------------------------------------ comparing


def _bases(composed: Composed, lock: Lock, plugins: Plugins, told: set[str]) -> Iterator[Problem]:
    """Find bases that are not those of the lock; ``told`` takes the distributions that are named as the reason."""
    now, file = base_hashes(composed), _shown_lock(composed)
    for source in bases_of(composed).values():
        name = lasting_name(source, composed)
        if now[name] == lock.bases.get(name):
            continue
        place = _place(source, composed)
        if name not in lock.bases:
            yield Problem(place, f"the base '{shown(name)}' is not in {file}", f"lock it too: {_again(composed)}")
            continue
        message = f"the base '{shown(name)}' is not the one that was locked"
        cure = f"its SHA-256 is {now[name]}\nlocked is      {lock.bases[name]}\n"
        was, ships = lock.shipped.get(name, ""), shipped_by(source.package, plugins) if source.package else ""
        distribution, _, version = was.rpartition(" ")
        if other := bool(ships and distribution and was != ships):
            told.add(distribution)
            message += f"; {ships} ships it, locked is that of {shown(was)}"
            cure += f"install what was locked: pip install '{shown(distribution)}=={shown(version)}'\nor "
        elif ships:
            message += f"; {ships} ships it"
        yield Problem(place, message, f"{cure}lock what is there: {_again(composed)}", environment=other)
    for name in lock.bases.keys() - now.keys():
        message = f"the base '{shown(name)}' is locked, and nothing extends it any more"
        yield Problem(Place(file), message, f"lock what is there: {_again(composed)}")


def _installed(composed: Composed, lock: Lock, told: set[str]) -> Iterator[Problem]:
    said, install = [], []
    for name, version in sorted(lock.distributions.items()):
        if name in told or version.startswith(_FILES):
            continue
        found = _version(name)
        if found is not None and _public(found) == version:
            continue
        there = "it is not installed" if found is None else f"{found} is installed"
        said.append(f"{shown(name)} {shown(version)} is locked, and {there}")
        install.append(f"'{shown(name)}=={shown(version)}'")
    if said:
        cure = f"install what was locked: pip install {' '.join(install)}\nor lock what is there: {_again(composed)}"
        yield Problem(Place(_shown_lock(composed)), "\n  ".join(said), cure, environment=True)


def _place(base: Source, composed: Composed) -> Place:
    """Where a recipe says that it extends a base."""
    for source in composed.sources:
        folder = source.file.parent if source.file is not None else FilePath()
        for number, name in enumerate(extended(source)):
            beside = base.file is not None and os.path.normpath(folder / name) == os.path.normpath(base.file)
            if beside or name == base.name:
                return source.place(("extends", number))
    return composed.sources[0].place(("extends",))


def _again(composed: Composed) -> str:
    return f"trainkit lock {shown(shlex.quote(composed.name))}"


# ------------------------------------------------------------ reading


def read_lock(composed: Composed) -> Lock:
    """Read the lock file of a recipe.

    Raises:
        RecipeError: if there is none, or it is of another form.
    """
    file, name = lock_file(composed), _shown_lock(composed)
    # One that is not understood is never written over: it may be of another program, or lie in pieces after a merge.
    anew = f"if it is the lock file of this recipe, remove it and write it anew: {_again(composed)}"
    try:
        tables = read_file(file, name).tables
    except FileNotFoundError:
        message = "there is no such lock file"
        raise RecipeError([Problem(Place(name), message, f"write it: {_again(composed)}")]) from None
    except RecipeError as error:
        raise RecipeError([replace(problem, cure=anew) for problem in error.problems]) from None
    version = tables.get("lock")
    if type(version) is int and version > FORMAT:
        message = f"the lock file has format {version}; this trainkit reads formats up to {FORMAT}"
        raise RecipeError([Problem(Place(name), message, "install a newer trainkit")])
    found: list[Any] = [tables.get(key) for key in ("bases", "shipped", "distributions")]
    fits = zip(found, (_DIGEST, _SHIPPED, _VERSION), strict=True)
    right = version == FORMAT and all(_is_texts(table, form) for table, form in fits)
    if not right or not all(_NAME.fullmatch(name) or text.startswith(_FILES) for name, text in found[2].items()):
        raise RecipeError([Problem(Place(name), "not a lock file that trainkit has written", anew)])
    return Lock(*found)


def _is_texts(value: Any, form: re.Pattern[str]) -> bool:
    if not isinstance(value, dict):
        return False
    return all(isinstance(text, str) and form.fullmatch(text) for text in value.values())


def _shown_lock(composed: Composed) -> str:
    return os.path.splitext(composed.name)[0] + SUFFIX
