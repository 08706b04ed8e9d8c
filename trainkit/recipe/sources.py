"""What a recipe was put together from: its own text and those of its bases, by name, with their SHA-256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path as FilePath

from trainkit.recipe.merge import Composed
from trainkit.recipe.positions import Source


def bases_of(composed: Composed) -> dict[str, Source]:
    """The bases of a recipe by name as messages show them, also bases of bases, each once, in the order of reading."""
    found: dict[str, Source] = {}
    for source in composed.sources[1:]:
        found.setdefault(source.name, source)
    return found


def sha256_of(source: Source) -> str:
    """SHA-256 of a recipe's text as UTF-8, without byte order mark and with plain line ends.

    An editor or a version control that writes line ends anew does not change it; of other files it is that of the file.
    """
    return hashlib.sha256(source.text.encode()).hexdigest()


def base_hashes(composed: Composed) -> dict[str, str]:
    """The SHA-256 of each of a recipe's bases by its `lasting_name`, in the order of reading."""
    return {lasting_name(source, composed): sha256_of(source) for source in bases_of(composed).values()}


def lasting_name(source: Source, composed: Composed) -> str:
    """A base's name that holds wherever one stands: ``package:name``, or the path from the recipe's own folder."""
    if source.pack is not None:
        return source.within
    own = composed.sources[0].file
    if source.package or source.file is None or own is None:
        return source.name
    return FilePath(os.path.relpath(source.file, own.parent)).as_posix()
