"""``trainkit pack``: one file that carries a recipe to another project; and what a run of such a file begins with.

torch is imported where the data is looked at.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit.console import emit_json, say
from trainkit.errors import MachineError, UsageError
from trainkit.instantiate import Builder
from trainkit.recipe import Recipe
from trainkit.recipe.pack_drift import versions_changed
from trainkit.recipe.packed import SUFFIX, Pack, PackedData
from trainkit.recipe.packing import files_of, make_pack
from trainkit.rundir import write_atomically

if TYPE_CHECKING:
    from trainkit.protocols import Progress


def out_file(given: str | None, source: str) -> str:
    """The file that a pack is written to.

    Args:
        given: what ``--out`` says.
        source: the recipe, as the user named it.

    Raises:
        UsageError: if it has another ending, is a folder or lies in none, or is not named where the recipe is a pack
            itself or a file is there, which may be somebody else's.
    """
    if given is None:
        if source.endswith(SUFFIX):
            raise UsageError(f"{source}: it is a pack; name the new one with --out FILE{SUFFIX}")
        stem = "recipe" if source == "-" else Path(source.rpartition(":")[2]).stem
        given = f"{stem}{SUFFIX}"
        if os.path.lexists(given):
            again = shlex.quote(given)
            raise UsageError(f"{given}: there is a file already; write it anew with --out {again}, or name another one")
    if Path(given).suffix != SUFFIX:
        raise UsageError(f"--out {given}: write a name that ends in {SUFFIX}, by which a pack is known")
    if os.path.isdir(given):
        raise UsageError(f"--out {given}: it is a folder; name a file in it")
    if not (folder := Path(given).parent).is_dir():
        raise UsageError(f"--out {given}: there is no folder {folder}; make it first")
    return given


def look_at_data(recipe: Recipe, progress: Progress) -> PackedData:
    """Build the data of a recipe and say what it is.

    Raises:
        RecipeError: if it cannot be read.
    """
    from trainkit.build_data import whole_dataset

    spec = whole_dataset(Builder(recipe, recipe.plugins, progress)).spec
    return PackedData(spec.fingerprint, dict(spec.sizes), files_of(recipe))


def write_pack(
    recipe: Recipe, overrides: Sequence[str], data: PackedData, out: str, as_json: bool, quiet: bool
) -> None:
    """Write the pack of a recipe, and show what is in it.

    Args:
        recipe: the checked recipe.
        overrides: what was laid over it.
        data: what is known of its data.
        out: the file.
        as_json: write one JSON object to standard output.
        quiet: show nothing.

    Raises:
        UsageError: if it is more than a pack may hold.
        MachineError: if it cannot be written; what was there before still is.
    """
    pack = make_pack(recipe, overrides, data)
    content = pack.as_bytes()
    try:
        write_atomically(Path(out), content)
    except OSError as error:
        raise MachineError(f"{out}: cannot be written: {error.strerror}") from error
    digest = pack.as_json()["sha256"]
    if as_json:
        emit_json({"out": out, "bytes": len(content), "sha256": digest, **in_short(pack)})
    elif not quiet:
        say("\n".join([f"{out}: {len(content):,} bytes, SHA-256 {digest[:12]}", *_lines(pack)]))
    own = [plugin.name for plugin in recipe.plugins_in_use() if plugin.version == "not installed"]
    if own and not quiet:
        say(f"note: a pack holds no code: whoever runs it needs the plugin that -p names here too: {', '.join(own)}")


def in_short(pack: Pack) -> dict[str, Any]:
    """What a pack holds, in short."""
    return {
        "recipe": pack.recipe,
        "bases": list(pack.bases),
        "overrides": pack.overrides,
        "requires": pack.requires,
        "environment": dict(pack.environment),
        "data": pack.data.as_json(),
    }


def _lines(pack: Pack) -> list[str]:
    data = pack.data
    sizes = ", ".join(f"{name} {size}" for name, size in data.sizes.items())
    rows = {
        "recipe": pack.recipe,
        "bases": ", ".join(pack.bases),
        "laid over it": ", ".join(pack.overrides),
        "needs": ", ".join(pack.requires),
        "data": f"SHA-256 {data.fingerprint[:12]}; {sizes}" if data.fingerprint else sizes or "not looked at",
        "its files": ", ".join(f"{key} ({length:,} bytes)" for key, (length, _) in data.files.items()),
    }
    return [f"  {name}: {text}" for name, text in rows.items() if text]


def begin(recipe: Recipe, pack: Pack, progress: Progress, quiet: bool) -> None:
    """Say which versions have changed since a pack was made; of several runs, look at their data before the first.

    A single run looks at its data when it is built.

    Raises:
        RecipeError: if the data is not that of the pack.
    """
    if not quiet and (changed := versions_changed(recipe, pack)):
        say(f"note: {changed}")
    if recipe.search is not None or "ensemble" in recipe.tables:
        from trainkit.build_data import whole_dataset

        whole_dataset(Builder(recipe, recipe.plugins, progress))
