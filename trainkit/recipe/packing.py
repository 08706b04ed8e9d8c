"""Making packs: a checked recipe with the texts of its bases, what it needs, and what it was filled to."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath
from typing import Any

from trainkit.errors import RecipeError, UsageError
from trainkit.files import Unfit
from trainkit.recipe.bases import open_base
from trainkit.recipe.compose import extended
from trainkit.recipe.filled import Recipe
from trainkit.recipe.migrate import renewed
from trainkit.recipe.needs import in_use, libraries, with_least
from trainkit.recipe.pack_form import check_form
from trainkit.recipe.packed import Pack, PackedData, named_from
from trainkit.recipe.paths import data_roots
from trainkit.recipe.positions import Source
from trainkit.recipe.text import dotted, shown
from trainkit.recipe.write import fill_toml
from trainkit.settings import is_path

_LIBRARIES = ("torch", "numpy")
_CHUNK = 1 << 20


def make_pack(recipe: Recipe, overrides: Sequence[str], data: PackedData) -> Pack:
    """Put everything that a recipe is made of together.

    Args:
        recipe: the checked recipe, loaded from a file, a package or another pack.
        overrides: what was laid over it.
        data: what is known of its data.

    Raises:
        UsageError: if it is more than a pack may hold.
    """
    from trainkit import __version__

    root = recipe.tables.composed.sources[0]
    name, before = _own_name(root), root.pack.overrides if root.pack is not None else []
    # Of a library that a component needs nobody knows which versions do: it must be there, another one is a note.
    known = {"trainkit": __version__, **in_use(recipe.plugins_in_use())}
    installed = known | {name: "" for name in libraries(recipe) if name not in known}
    needs = with_least(recipe.tables["requires"], installed)
    texts: dict[str, str] = {}
    for base, text in _bases(root, name, recipe):
        if texts.setdefault(base, text) != text or base == name:
            raise UsageError(f"'{shown(base)}' names two files that the recipe extends; rename one of them")
    pack = Pack(name, root.text, texts, [*before, *overrides], needs, here(recipe), data, fill_toml(recipe))
    try:
        pack.as_bytes()
        check_form(pack.as_json())
        pack.before  # noqa: B018 - with its defaults it may have more values than can be read again
    except Unfit as error:
        raise UsageError(f"{recipe.path}: it cannot be packed: {error}") from None
    except RecipeError as error:
        what = f"with all defaults it {error.problems[0].message}"
        raise UsageError(f"{recipe.path}: it cannot be packed: {what}") from None
    return pack


def here(recipe: Recipe) -> dict[str, Any]:
    """The versions of this environment that a recipe's results can depend on; nothing is imported for it."""
    import importlib.metadata
    import platform

    from trainkit import __version__

    versions = {"trainkit": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # one that was built by hand has no metadata
            versions[library] = importlib.metadata.version(library)
    versions |= libraries(recipe)
    plugins = dict(sorted(plugin.recorded_version for plugin in recipe.plugins_in_use()))
    return {**versions, "plugins": plugins}


def files_of(recipe: Recipe) -> dict[str, tuple[int, str]]:
    """Length and SHA-256 of each file that the data's settings name, by key; folders are left to the fingerprint."""
    found: dict[str, tuple[int, str]] = {}
    for path, component in recipe.components.items():
        if path[0] != "data":
            continue
        table: Any = recipe.tables
        for part in path:
            table = table[part]
        for setting in component.settings:
            written = table[setting.name]
            if is_path(setting.annotation) and isinstance(written, str):
                file = data_roots()[0] / FilePath(written).expanduser()
                if file.is_file():
                    found[dotted((*path, setting.name))] = _measured(file)
    return found


def _measured(file: FilePath) -> tuple[int, str]:
    digest, length = hashlib.sha256(), 0
    with open(file, "rb") as opened:
        while part := opened.read(_CHUNK):
            digest.update(part)
            length += len(part)
    return length, digest.hexdigest()


def _own_name(root: Source) -> str:
    """What a pack calls the recipe that it is made of."""
    if root.pack is not None:
        return root.within
    if root.package:
        return root.name
    return os.path.basename(root.name) if root.file is not None else "recipe.toml"


def _bases(source: Source, name: str, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The bases of a recipe that was put together before, with their names in a pack and their texts."""
    for number, base in enumerate(extended(renewed(source))):
        opened = open_base(base, source, source.place(("extends", number)), recipe.plugins)
        inner = named_from(base, name)
        yield inner, opened.text
        yield from _bases(opened, inner, recipe)
