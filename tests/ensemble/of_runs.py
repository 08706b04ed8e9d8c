"""What ensembles of finished runs begin with, without the command: their base, and the members that they make."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainkit.ensemble.base import Base
from trainkit.ensemble.members import Source, check_sources, member_of_source
from trainkit.ensembler import Member
from trainkit.finished import folder_of
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe


def base_of_run(path: Path, plugins: Plugins, **more: Any) -> Base:
    """The base that the own recipe of a finished run, or of a checkpoint's run, says; see `Base` for ``more``."""
    folder = folder_of(path)
    return Base(load_recipe(folder / "recipe.toml", [], plugins), plugins, **{"name": str(folder), **more})


def members_of(sources: Sequence[Source], base: Base) -> list[Member]:
    """The members that finished runs make, in this order."""
    check_sources(sources)
    return [member_of_source(source, base) for source in sources]
