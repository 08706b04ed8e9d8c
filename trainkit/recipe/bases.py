"""Finding recipes by name: a file beside the one that extends it, or one that a package ships. Nothing is imported."""

from __future__ import annotations

import importlib.util
import os
import posixpath
import re
from pathlib import Path as FilePath

from trainkit.errors import Place, Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.packed import PACKAGED, SUFFIX, is_pack, read_pack
from trainkit.recipe.positions import Source
from trainkit.recipe.read import read_file, read_stdin
from trainkit.recipe.text import did_you_mean, nearest, shown

_MOST_NAMED = 12  # recipes in a message


def open_recipe(name: str, plugins: Plugins) -> Source:
    """Read the recipe that a user named: a file, a pack, ``package:name``, or ``-`` for standard input.

    Raises:
        RecipeError: if there is none, or it cannot be read.
    """
    if name == "-":
        return read_stdin()
    file = FilePath(name)
    try:
        return read_pack(name).source() if is_pack(name) else read_file(file, name)
    except FileNotFoundError:
        pass
    if PACKAGED.fullmatch(name):
        return _read_packaged(name, Place(name), plugins)
    ending = SUFFIX if is_pack(name) else ".toml"
    known = [_beside(name, found) for found in _files(file.parent, ending)]
    cure = _near_file(name, known) + "`trainkit list recipes` names those that are installed"
    raise RecipeError([Problem(Place(name), "there is no such file", cure)])


def open_base(base: str, source: Source, place: Place, plugins: Plugins) -> Source:
    """Read what ``extends`` names.

    Args:
        base: the name as the recipe writes it.
        source: the recipe that extends it.
        place: where it says so.
        plugins: the installed plugins, whose packages may ship recipes.

    Raises:
        RecipeError: if there is none, or it cannot be read.
    """
    if source.pack is not None:
        return source.pack.base(base, source, place)
    if PACKAGED.fullmatch(base):
        return _read_packaged(base, place, plugins)
    folder = source.file.parent if source.file is not None else FilePath()
    said = f"extends: '{shown(base)}'"
    if "\0" in base or os.path.isabs(base) or not base.endswith(".toml") or base.startswith("~"):
        cure = 'write a .toml file relative to this one, such as "base.toml", or "package:name"'
        raise RecipeError([Problem(place, f"{said} is neither a file beside this one nor package:name", cure)])
    if source.package:
        within = posixpath.dirname(source.name.partition(":")[2])
        name = posixpath.normpath(posixpath.join(within, base.removesuffix(".toml")))
        if name.startswith(".."):
            raise RecipeError([Problem(place, f"{said} leaves the package's folder of recipes", "name a file in it")])
        return _read_packaged(f"{source.package}:{name}", place, plugins)
    # A link of any name would show lines of what it leads to in messages: it must lead to a recipe too.
    if not os.path.realpath(folder / base).endswith(".toml"):
        raise RecipeError([Problem(place, f"{said} is a link to what is no .toml file", "put the recipe in its place")])
    try:
        return read_file(folder / base, _beside(source.name, base))
    except FileNotFoundError:
        known = [os.path.join(os.path.dirname(base), found) for found in _files((folder / base).parent, ".toml")]
        files = [found for found in known if (folder / found) != source.file]
        cure = _near_file(base, files) + (f"beside it: {', '.join(files[:12])}" if files else "no recipe lies there")
        raise RecipeError([Problem(place, f"{said} does not exist", cure)]) from None


def is_packaged(name: str) -> bool:
    """Whether a name is of the form ``package:name``."""
    return PACKAGED.fullmatch(name) is not None


def packaged_recipes(plugins: Plugins) -> list[str]:
    """The names, ``package:name`` or ``package:folder/name``, of all recipes that packages ship, trainkit's first."""
    packages = ["trainkit", *sorted({plugin.package for plugin in plugins.plugins})]
    return [f"{package}:{name}" for package in packages for name in _shipped(package)]


def _read_packaged(reference: str, place: Place, plugins: Plugins) -> Source:
    match = PACKAGED.fullmatch(reference)
    if match is None:  # a base of a packaged recipe whose name could not be written as package:name
        cure = "give the file a name of letters, digits, - and _"
        raise RecipeError([Problem(place, f"'{shown(reference)}' is no name of a packaged recipe", cure)])
    package, name = match["package"], match["name"]
    if _folder(package) is None:  # a distribution's name serves as well as its package's
        package = next((plugin.package for plugin in plugins.plugins if plugin.distribution == package), package)
    file = _shipped(package).get(name)
    if file is None:
        known = packaged_recipes(plugins)
        message = f"no installed recipe is called '{shown(reference)}'"
        # A package that is there without such a recipe is a slip of the pen; one that is not there is not installed.
        # That many packages are called trainkit_something makes none of them near another.
        packages = {"trainkit": "trainkit"} | {_own_part(plugin.package): plugin.package for plugin in plugins.plugins}
        if not _importable(package) and nearest(_own_part(package), packages) is None:
            cure = (
                f"no package '{shown(package)}' is installed; install it, or take the name from `trainkit list recipes`"
            )
            raise RecipeError([Problem(place, message, cure, environment=True)])
        same = [f"{package}:{other}" for other in _shipped(package)]
        some = ", ".join(same) if 0 < len(same) <= _MOST_NAMED else "`trainkit list recipes` names them"
        cure = did_you_mean(reference, [*same, *known]) + f"installed recipes: {some}"
        raise RecipeError([Problem(place, message, cure)])
    try:
        return read_file(file, f"{package}:{name}", package)
    except FileNotFoundError:
        raise RecipeError([Problem(place, f"'{shown(reference)}' was just removed", "run it again")]) from None


def _own_part(package: str) -> str:
    """A package's name without what the names of plugins have in common."""
    return re.sub(r"^trainkit[_-]", "", package)


def _importable(package: str) -> bool:
    """Whether a top-level package of that name can be imported; nothing is imported to find out."""
    if "." in package or "-" in package:
        return False
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _folder(package: str) -> FilePath | None:
    """The folder ``recipes`` in a package; for trainkit's own source tree, the one beside the package."""
    if not _importable(package):
        return None
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        candidates = [FilePath(place) / "recipes"]
        if package == "trainkit":
            candidates.append(FilePath(place).parent / "recipes")
        for candidate in candidates:
            if candidate.is_dir():
                return candidate
    return None


def _shipped(package: str) -> dict[str, FilePath]:
    """The files of a package's recipes by name, which has the folders below ``recipes`` in it.

    One with a name that ``package:name`` cannot say is none of them.
    """
    folder = _folder(package)
    if folder is None:
        return {}
    # Those of the folder itself first.
    files = sorted(folder.rglob("*.toml"), key=lambda file: (len(file.relative_to(folder).parts), file))
    named = {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
    return {name: file for name, file in named.items() if PACKAGED.fullmatch(f"{package}:{name}")}


def _files(folder: FilePath, ending: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(ending))
    except (OSError, ValueError):
        return []


def _near_file(name: str, files: list[str]) -> str:
    """Ask for the file whose own name is near; that folders agree says nothing."""
    near = nearest(os.path.basename(name), map(os.path.basename, files))
    return next((f"did you mean '{shown(file)}'?  " for file in files if os.path.basename(file) == near), "")


def _beside(name: str, other: str) -> str:
    """The path of ``other``, which is relative to the file ``name``, as the user would write it."""
    return os.path.normpath(os.path.join(os.path.dirname(name), other))
