"""A value that was found, written into the user's recipe: comments stay, and the difference is shown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainkit.errors import MachineError, UsageError
from trainkit.lr_find.found import rounded
from trainkit.lr_find.setting import Path as Key
from trainkit.lr_find.setting import Setting
from trainkit.recipe import Recipe
from trainkit.recipe.bases import open_recipe
from trainkit.recipe.edit import edited
from trainkit.recipe.positions import Source
from trainkit.recipe.read import read_file
from trainkit.recipe.text import dotted, shown
from trainkit.reuse import carried
from trainkit.rundir import write_atomically

STDIN = "standard input"  # as recipes from there are called


@dataclass(frozen=True)
class Applied:
    """A recipe with a value that was found.

    Args:
        file: where it was written.
        values: what was set, by key.
        diff: the difference, as a unified diff; empty where the value was there already.
    """

    file: Path
    values: Mapping[str, float]
    diff: str

    def as_dict(self, rule: str) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        return {"rule": rule, "file": str(self.file), "values": dict(self.values), "diff": self.diff}


class Target:
    """The file that a value is to be written to; made before the test, so that what is in the way is said at once.

    Args:
        recipe: the checked recipe.
        setting: what the value is for.
        keys: the keys to write, with their shares of the value.
        out: a new file for the recipe with the value; its own file if not given.

    Raises:
        UsageError: if the recipe cannot be written, or not there.
    """

    def __init__(self, recipe: Recipe, setting: Setting, keys: Mapping[Key, float], out: str | None) -> None:
        self._source = _source_of(recipe)
        if not setting.key:
            raise UsageError(
                f"--apply: {setting.name} is no key of a recipe; write the value where the model takes it from"
            )
        if setting.is_rate and recipe.components[("schedule",)].capabilities.get("absolute"):
            use = recipe.tables["schedule"]["use"]
            raise UsageError(f"--apply: the schedule '{use}' says the rate itself, so that optimizer.lr has no say")
        self._keys, self._out = keys, out
        space = self._source.tables.get("search", {}).get("space", {})
        self.searched = [name for name in map(dotted, keys) if name in space]
        self.file = self._file(shown(recipe.path))
        for key in keys:
            if any(isinstance(part, int) for part in key) and not _there(self._source.tables, key):
                what = f"{dotted(key)} stands in what {shown(recipe.path)} extends, and lists are replaced as a whole"
                raise UsageError(f"--apply: {what}; copy that list into the recipe")

    def _file(self, name: str) -> Path:
        if not self._out:
            if self._source.file is None or self._source.package:
                raise UsageError(f"--apply: {name} lies in no recipe file of yours; name a new one with --out FILE")
            return Path(os.path.realpath(self._source.file))
        file = Path(self._out)
        if file.suffix != ".toml":
            raise UsageError(f"--out {self._out}: a recipe's name ends in .toml")
        if file.exists():
            raise UsageError(f"--out {self._out}: there is a file already; name a new one")
        return file

    def write(self, value: float) -> Applied:
        """Write a value, and what keeps its share of it.

        Raises:
            MachineError: if the file cannot be written.
            RecipeError: if it is no recipe any more.
        """
        if not self._out:  # it may have been changed while the test went on
            self._source = read_file(self.file, self._source.name)
        values = {key: rounded(value * share) for key, share in self._keys.items()}
        text = self._source.text if not self._out else carried(self._source, self.file.parent)

        def change(tables: MutableMapping[str, Any]) -> None:
            for key, number in values.items():
                _set(tables, key, number)

        new = edited(text, change)
        try:
            if self._out:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with open(self.file, "x", encoding="utf-8", newline="\n") as opened:
                    opened.write(new)
            elif new != text:
                mode = self.file.stat().st_mode
                ends = b"\r\n" in self.file.read_bytes()
                write_atomically(self.file, new.replace("\n", "\r\n") if ends else new)
                self.file.chmod(mode)
        except OSError as error:
            raise MachineError(f"{self.file}: cannot be written: {error.strerror}") from error
        after = self._out or self._source.name
        diff = difflib.unified_diff(
            *(self._source.text.splitlines(keepends=True), new.splitlines(keepends=True)),
            *(shown(self._source.name), shown(after)),
        )
        lines = "".join(line if line.endswith("\n") else f"{line}\n" for line in diff)
        return Applied(Path(after), {dotted(key): number for key, number in values.items()}, lines)


def _source_of(recipe: Recipe) -> Source:
    """The file that a recipe lies in.

    Raises:
        UsageError: if it lies in none.
    """
    # The recipe of one run of a search does not know its texts.
    sources = recipe.tables.composed.sources or (
        [] if recipe.path == STDIN else [open_recipe(recipe.path, recipe.plugins)]
    )
    if recipe.pack is not None or not sources or sources[0].file is None:
        what = "comes from standard input" if recipe.pack is None else "lies in a pack"
        raise UsageError(f"--apply: the recipe {what}; name a recipe file")
    return sources[0]


def _there(tables: Any, key: Key) -> bool:
    for part in key[:-1]:
        try:
            tables = tables[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _set(tables: Any, key: Key, number: float) -> None:
    for part in key[:-1]:
        if isinstance(part, str) and part not in tables:
            tables[part] = {}
        tables = tables[part]
    tables[key[-1]] = number
