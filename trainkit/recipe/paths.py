"""Paths in recipes: they stay in the folders that the user has given, and name files or folders, nothing that waits."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path as FilePath

from trainkit.errors import Problem
from trainkit.files import kind_of
from trainkit.recipe.filled import Recipe
from trainkit.recipe.positions import Override, Source
from trainkit.recipe.text import Path, dotted, header, shown, shown_value
from trainkit.settings import is_path

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EACCES}  # whoever reads it says so in better words


def data_roots() -> list[FilePath]:
    """The folders of ``TRAINKIT_DATA``, which are separated as in ``PATH``; else the working directory.

    Relative paths start at the first.
    """
    given = [part for part in os.environ.get("TRAINKIT_DATA", "").split(os.pathsep) if part]
    return [FilePath(part).resolve() for part in given or ["."]]


def check_paths(recipe: Recipe) -> Iterator[Problem]:
    """Find paths that lead out of the folders a recipe may read, and those of pipes and devices.

    A recipe may name what lies in the folders of ``TRAINKIT_DATA``, in the working directory, and beside itself. What
    the user names on the command line may lie anywhere.
    """
    for path, component in recipe.components.items():
        for setting in component.settings:
            if is_path(setting.annotation):
                yield from _check(recipe, (*path, setting.name))


def _check(recipe: Recipe, key: Path) -> Iterator[Problem]:
    marks = recipe.tables.composed.marks.get(key)
    if not marks or isinstance(marks[-1].origin, Override) or not isinstance(marks[-1].value, str):
        return
    origin, written = marks[-1].origin, marks[-1].value
    roots = data_roots()
    with contextlib.suppress(OSError):  # the working directory was removed
        roots.append(FilePath.cwd())
    if isinstance(origin, Source) and origin.file is not None and not origin.package:
        roots.append(origin.file.parent)
    name = f"{header(key[:-1])} {key[-1]}"
    try:
        target = os.path.realpath(os.path.join(roots[0], FilePath(written).expanduser()))
        mode = os.stat(target).st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            mode = 0
        else:
            yield Problem(origin.place(key), f"{name} cannot be a path: {error.strerror}, got {shown_value(written)}")
            return
    except (RuntimeError, ValueError) as error:  # the home of a user who is not there; characters no path has
        yield Problem(origin.place(key), f"{name} cannot be a path: {shown(str(error))}, got {shown_value(written)}")
        return
    if not any(_lies_in(target, root) for root in roots):
        message = f"{name} leads out of the folders that a recipe may read, to {shown(target)}"
        cure = f"name it on the command line: {dotted(key)}={shown(target)}\nor add its folder to TRAINKIT_DATA"
        yield Problem(origin.place(key), message, cure)
    elif mode and (kind := kind_of(mode)) not in ("", "a folder"):
        yield Problem(origin.place(key), f"{name} must be a file or folder, and {shown_value(written)} is {kind}")


def _lies_in(target: str, root: FilePath) -> bool:
    home = os.path.realpath(root)
    try:
        return os.path.commonpath([home, target]) == home
    except ValueError:  # on another drive
        return False
