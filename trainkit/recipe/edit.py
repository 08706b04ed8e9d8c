"""Changing the text of a recipe as its user would: comments, blank lines and the order of keys stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import tomli

from trainkit.recipe.positions import Source
from trainkit.recipe.write import to_toml

Change = Callable[[MutableMapping[str, Any]], None]


def edited(text: str, change: Change) -> str:
    """The text with a change made to its tables.

    Where the library that keeps comments would write something else than the change means, comments are given up.

    Args:
        text: TOML that was read safely.
        change: changes the tables that it is given, plain ones or those of a text.
    """
    import tomlkit

    meant = tomli.loads(text)
    change(meant)
    try:
        document = tomlkit.parse(text)
        change(document)
        written = tomlkit.dumps(document)
        if tomli.loads(written) == meant:
            return written
    except (tomlkit.exceptions.TOMLKitError, ValueError, LookupError, TypeError, AttributeError):
        pass  # it knows less of TOML than tomli, and stumbles over tables that are written in several places
    return to_toml(meant)


def with_top(text: str, values: Mapping[str, Any]) -> str:
    """The text with keys set at the top of the recipe: in their place, or as a line of their own below ``recipe``."""
    tables = tomli.loads(text)
    if there := {key: value for key, value in values.items() if key in tables}:
        text = edited(text, lambda found: found.update(there))
    lines = text.split("\n")
    first = next((place for place, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    # Places are counted from 1, so this is the line below; where the recipe does not say its format, there is none.
    below = Source("", text).place(("recipe",)).line or first
    new = to_toml({key: value for key, value in values.items() if key not in tables}).splitlines()
    return "\n".join([*lines[:below], *new, *lines[below:]])
