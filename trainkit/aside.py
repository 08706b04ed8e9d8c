"""Starting over in a folder that holds a run: the old one is put aside, never destroyed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainkit.files import sync_folder

OLD = ".old-"  # what a run is put aside in, within its folder


def holds_a_run(path: Path, known: Sequence[str]) -> bool:
    """Whether a folder holds a run, or what is left of one and nothing else than the names in ``known``."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return "recipe.toml" in names or (bool(names) and set(names) <= set(known))


def put_aside(path: Path) -> Path | None:
    """Move everything in a run folder into a new folder ``.old-1``, ``.old-2`` ... within it.

    The recipe goes last: a folder ``.old-n`` that has none was left by a process that was killed here, and is filled
    on. Until then nobody begins a run here without being told to.

    Args:
        path: the run folder, which the caller has locked.

    Returns:
        Where it now lies; ``None`` if there was nothing.
    """
    names = sorted(name for name in os.listdir(path) if name != ".lock" and not name.startswith(OLD))
    if not names:
        return None
    number = max((int(p.name[len(OLD) :]) for p in path.glob(f"{OLD}*") if p.name[len(OLD) :].isdigit()), default=0)
    aside = path / f"{OLD}{number}"
    if not number or (aside / "recipe.toml").exists() or any((aside / name).exists() for name in names):
        aside = path / f"{OLD}{number + 1}"
        aside.mkdir()
    for name in sorted(names, key=lambda name: name == "recipe.toml"):
        os.rename(path / name, aside / name)
    sync_folder(aside)
    sync_folder(path)
    return aside
