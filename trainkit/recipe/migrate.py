"""Recipes of older formats: made recipes of the newest one while they are read, and the difference shown.

A recipe says its format with ``recipe = 1`` at the top; one that does not has the first. Each file counts for itself: a
new recipe may extend an old one. What a format has changed is one step of `STEPS`, which changes plain tables and the
tables of a text alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Callable, Mapping

import tomli

from trainkit.errors import Problem, RecipeError
from trainkit.recipe.edit import Change, edited, with_top
from trainkit.recipe.positions import Source
from trainkit.recipe.text import shown, shown_value
from trainkit.tables import FORMAT_VERSION

FIRST = 1
# The step from each format to the next one. There is one format so far.
STEPS: Mapping[int, Change] = {}


def format_of(source: Source) -> int:
    """The format that a recipe says it has; the newest where what it says is none, which the check tells.

    Raises:
        RecipeError: if it is newer than this trainkit: nothing else in it can be understood.
    """
    written = source.tables.get("recipe", FIRST)
    if type(written) is not int or written < FIRST:
        return FORMAT_VERSION
    if written > FORMAT_VERSION:
        raise RecipeError([newer(source, written)])
    return written


def newer(source: Source, written: object) -> Problem:
    """That a format is newer than all that are known."""
    message = f"the recipe has format {shown_value(written)}; this trainkit reads formats up to {FORMAT_VERSION}"
    return Problem(source.place(("recipe",)), message, "install a newer trainkit")


def renewed(source: Source, tell: Callable[[str], None] | None = None) -> Source:
    """The recipe in the newest format; itself where it has that.

    Args:
        source: the recipe.
        tell: told of the difference.

    Raises:
        RecipeError: if its format is newer than this trainkit.
    """
    version = format_of(source)
    if version == FORMAT_VERSION:
        return source
    text = renewed_text(source.text, version)
    if tell is not None:
        tell(
            f"note: {source.name} has format {version}, and is read as format {FORMAT_VERSION}:\n"
            f"{difference(source, text)}{how_to_write(source)}"
        )
    # Problems name lines of the text that is shown; the difference has both.
    name = f"{source.name} (as format {FORMAT_VERSION})"
    return dataclasses.replace(source, name=name, text=text, tables=tomli.loads(text))


def renewed_text(text: str, version: int) -> str:
    """The text of a recipe in the newest format.

    Args:
        text: its text.
        version: the format that it has.
    """
    for step in range(version, FORMAT_VERSION):
        change = STEPS[step]
        # A table that is a number, or the like, is no recipe of any format, which the check tells with its line.
        with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
            text = edited(text, change)
    return with_top(text, {"recipe": FORMAT_VERSION})


def difference(source: Source, text: str) -> str:
    """The unified diff from a recipe to its text in the newest format."""
    import difflib

    before, after = (part.splitlines(keepends=True) for part in (source.text, text))
    name = shown(source.name)
    lines = difflib.unified_diff(
        before, after, f"{name} (format {format_of(source)})", f"{name} (format {FORMAT_VERSION})"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def how_to_write(source: Source) -> str:
    """The command that writes a recipe in the newest format; nothing for one that lies in no file of the user's."""
    if source.file is None or source.package or source.pack is not None:
        return ""
    return f"to write it so: trainkit migrate {shown(shlex.quote(source.name))} --write"
