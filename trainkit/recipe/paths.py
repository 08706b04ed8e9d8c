"""Paths in recipes: they stay in the folders that the user has given, and name files or folders, nothing that waits."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from trainkit.errors import Problem
from trainkit.files import kind_of
from trainkit.recipe.filled import FilledTables, Recipe
from trainkit.recipe.positions import Origin, Override, Source
from trainkit.recipe.text import Path, dotted, header, shown, shown_value
from trainkit.settings import is_path

_WEIGHTS: Path = ("model", "weights")
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
    for key, origin, written in _written(recipe):
        if not isinstance(origin, Override):
            yield from _check(key, origin, written, data_roots()[0])
    if not _is_of_a_run(recipe):
        yield from weights_problems(recipe.tables)
    marks = recipe.tables.composed.marks.get(("search", "warm_start"))
    if marks and not isinstance(marks[-1].origin, Override) and isinstance(marks[-1].value, list):
        for number, folder in enumerate(marks[-1].value):  # folders of runs are relative to the working directory
            if isinstance(folder, str):
                yield from _check(("search", "warm_start", number), marks[-1].origin, folder, FilePath())


def weights_problems(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Find weights of ``[model]`` that a recipe may not read; a relative path starts at the working directory."""
    marks = tables.composed.marks.get(_WEIGHTS) if isinstance(tables, FilledTables) else None
    if marks and isinstance(marks[-1].value, str) and not isinstance(marks[-1].origin, Override):
        yield from _check(_WEIGHTS, marks[-1].origin, marks[-1].value, FilePath())


def _is_of_a_run(recipe: Recipe) -> bool:
    """Whether the recipe is that of a run folder: the run began, and its checkpoints hold its weights."""
    marks = recipe.tables.composed.marks.get(_WEIGHTS)
    origin = marks[-1].origin if marks else None
    return isinstance(origin, Source) and origin.file is not None and (origin.file.parent / "checkpoints").is_dir()


@contextlib.contextmanager
def users_paths(recipe: Recipe, *more: FilePath) -> Iterator[None]:
    """Let what is made of a recipe, such as its trials in processes of their own, read what the user named for it.

    For as long, the files and folders that it has from the command line count among those of ``TRAINKIT_DATA``.

    Args:
        recipe: the recipe.
        more: folders that count among them too.
    """
    before = os.environ.get("TRAINKIT_DATA")
    roots = data_roots()
    named = [_target(written, roots[0]) for _, origin, written in _written(recipe) if isinstance(origin, Override)]
    marks = recipe.tables.composed.marks.get(_WEIGHTS)
    if marks and isinstance(marks[-1].origin, Override) and isinstance(marks[-1].value, str):
        named.append(_target(marks[-1].value, FilePath()))
    named += [os.path.realpath(folder) for folder in more]
    if named:
        os.environ["TRAINKIT_DATA"] = os.pathsep.join(map(str, [*roots, *named]))
    try:
        yield
    finally:
        if named and before is not None:
            os.environ["TRAINKIT_DATA"] = before
        elif named:
            del os.environ["TRAINKIT_DATA"]


def _written(recipe: Recipe) -> Iterator[tuple[Path, Origin, str]]:
    """The settings of components that are paths and that somebody has written, with who did."""
    for path, component in recipe.components.items():
        for setting in component.settings:
            marks = recipe.tables.composed.marks.get((*path, setting.name))
            if is_path(setting.annotation) and marks and isinstance(marks[-1].value, str):
                yield (*path, setting.name), marks[-1].origin, marks[-1].value


def _target(written: str, start: FilePath) -> str:
    """Where a path leads, links followed."""
    return os.path.realpath(os.path.join(start, FilePath(written).expanduser()))


def _check(key: Path, origin: Origin, written: str, start: FilePath) -> Iterator[Problem]:
    roots = data_roots()
    with contextlib.suppress(OSError):  # the working directory was removed
        roots.append(FilePath.cwd())
    if isinstance(origin, Source) and origin.file is not None and not origin.package:
        roots.append(origin.file.parent)
    table, name = (key[:1], "warm_start") if "warm_start" in key else (key[:-1], key[-1])
    name = f"{header(table)} {name}"
    try:
        target = _target(written, start)
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
        whole = shown(target, len(target) * 8)  # a path that was cut is another one
        words = f'search.warm_start=["{whole}"]' if "warm_start" in key else f"{dotted(key)}={whole}"
        cure = f"name it on the command line: {shlex.quote(words)}\nor add its folder to TRAINKIT_DATA"
        yield Problem(origin.place(key), message, cure)
    elif mode and (kind := kind_of(mode)) not in ("", "a folder"):
        yield Problem(origin.place(key), f"{name} must be a file or folder, and {shown_value(written)} is {kind}")


def _lies_in(target: str, root: FilePath) -> bool:
    home = os.path.realpath(root)
    try:
        return os.path.commonpath([home, target]) == home
    except ValueError:  # on another drive
        return False
