"""Words for messages: user text made harmless, nearest names, types in a sentence, TOML keys and values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from trainkit.errors import UNSAFE, printable
from trainkit.settings import show_value

Path = tuple[str | int, ...]

LONGEST = 80
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLURALS = {"data": "data", "loss": "losses"}


def shown(text: str, longest: int = LONGEST) -> str:
    """Return text of a user's on one line, without control characters, cut to a readable length."""
    flat = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return flat if len(flat) <= longest else flat[: longest - 3] + "..."


def shown_value(value: Any) -> str:
    """Show a value as TOML would write it, on one line of readable length."""
    try:
        return shown(show_value(value))
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a very long integer"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that ``name`` most likely meant; ``None`` if nothing is near."""
    candidates = sorted(set(known))
    folded = {candidate.casefold().replace("-", "_"): candidate for candidate in reversed(candidates)}
    asked = name[:LONGEST].casefold().replace("-", "_")
    if asked in folded:
        return folded[asked]
    # A bare name finds its package:name form, and the other way round.
    tails = {candidate.rpartition(":")[2]: candidate for candidate in reversed(candidates)}
    import difflib

    near = difflib.get_close_matches(asked, [*folded, *tails], 1, cutoff=0.6)
    return folded.get(near[0], tails.get(near[0])) if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question ``did you mean 'x'?  `` with the blanks that separate it from what follows, or nothing."""
    near = nearest(name, known)
    return f"did you mean '{shown(near)}'?  " if near else ""


def plural(kind: str) -> str:
    """The kind in the plural, as in ``installed optimizers``."""
    return _PLURALS.get(kind, f"{kind}s")


def with_article(type_text: str) -> str:
    """Fit a type's words into a sentence: ``number above 0`` gives ``a number above 0``."""
    type_text = type_text.removesuffix(", or unset")
    first = type_text.split(" ", 1)[0]
    if first in ("true", "one", "text"):
        return type_text
    return f"{'an' if first[0] in 'aeiou' else 'a'} {type_text}"


def toml_key(key: str) -> str:
    """Write a key as TOML needs it: bare where it can be."""
    return key if _BARE_KEY.fullmatch(key) else show_key(key)


def show_key(key: str) -> str:
    """Write a key or text in quotes, with every control character and mark that reorders text escaped."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) in UNSAFE else c for c in escaped) + '"'


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as the command line takes it: ``metric.0.use``."""
    return ".".join(str(part) if isinstance(part, int) else toml_key(part) for part in path)


def header(path: Sequence[str | int]) -> str:
    """Write the header of the table at ``path``: ``[optimizer]``, or ``[[metric]]`` for an item of a list."""
    names = ".".join(shown(toml_key(part)) for part in path if isinstance(part, str))
    return f"[[{names}]]" if path and isinstance(path[-1], int) else f"[{names}]"


def lookup(tables: Any, path: Sequence[str | int]) -> Any:
    """The value at ``path``.

    Raises:
        KeyError: if there is none.
    """
    for part in path:
        in_list = isinstance(tables, list) and isinstance(part, int) and part < len(tables)
        if not (in_list or (isinstance(tables, dict) and part in tables)):
            raise KeyError(part)
        tables = tables[part]
    return tables
