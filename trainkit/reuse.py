"""Recipes from project to project: a copy of one or a recipe that extends it, a lock file, a newer format."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainkit.errors import MachineError, Problem, RecipeError, UsageError
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.recipe.bases import is_packaged, open_recipe
from trainkit.recipe.check import components_named
from trainkit.recipe.compose import compose, extended
from trainkit.recipe.edit import with_top
from trainkit.recipe.lock import Lock, lock_file, lock_of, read_lock
from trainkit.recipe.merge import Composed
from trainkit.recipe.migrate import difference, format_of, how_to_write, renewed_text
from trainkit.recipe.needs import in_use, shipped_by, shipping, with_least
from trainkit.recipe.packed import is_pack, named_from
from trainkit.recipe.positions import Source
from trainkit.recipe.sources import bases_of
from trainkit.recipe.text import dotted, lookup, shown, shown_value
from trainkit.recipe.write import to_toml
from trainkit.rundir import write_atomically
from trainkit.tables import FORMAT_VERSION

Say = Callable[[str], None]
# What users change first, shown in a recipe that extends another.
_OFTEN = (("run", "duration"), ("data", "batch_size"), ("model", "use"), ("optimizer", "use"), ("optimizer", "lr"))


@dataclass(frozen=True)
class Made:
    """A recipe made of another one.

    Args:
        text: the recipe.
        requires: the distributions that it names.
        out: the file that it was written to; ``None`` if it was not.
    """

    text: str
    requires: list[str]
    out: Path | None


def new_recipe(name: str, out: str | None, derive: bool, plugins: Plugins, note: Say) -> Made:
    """Make a recipe of one that a package ships or that lies in a file.

    Args:
        name: the recipe, as in ``extends``, or a file.
        out: the file to write, or the folder for it; nothing is written over.
        derive: make a short recipe that extends it instead of a copy.
        plugins: the plugins of this process.
        note: told what the recipe lacks here.

    Raises:
        UsageError: if the file is there already, or its name is none of a recipe.
        RecipeError: if there is no such recipe, or one of its bases is missing.
        MachineError: if the file cannot be written.
    """
    if is_pack(name) or name == "-":
        raise UsageError(f"--from {name}: name a recipe file, or one of a package (`trainkit list recipes`)")
    source = open_recipe(name, plugins)
    file = _new_file(out, source) if out is not None else None
    folder = file.parent if file is not None else Path()
    composed, _ = compose(source, [], plugins)
    requires = _requires(name, source, composed, derive, plugins, note)
    made = (_derived if derive else _copied)(source, composed, requires, folder, plugins)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "x", encoding="utf-8", newline="\n") as opened:
                opened.write(made)
        except OSError as error:
            raise MachineError(f"{file}: cannot be written: {error.strerror}") from error
    return Made(made, requires, file)


def _new_file(out: str, source: Source) -> Path:
    file = Path(out)
    if file.is_dir():
        file /= Path(source.name.rpartition(":")[2]).with_suffix(".toml").name
    if file.suffix != ".toml":
        raise UsageError(f"--out {out}: a recipe's name ends in .toml")
    if file.exists():
        raise UsageError(f"{file}: there is a file already; name a new one with --out")
    return file


def _requires(name: str, source: Source, composed: Composed, derive: bool, plugins: Plugins, note: Say) -> list[str]:
    """The distributions that the new recipe needs: what supplies its components, and what ships what it extends."""
    try:
        needed = in_use(load_recipe(name, [], plugins).plugins_in_use())
    except RecipeError as error:  # it may be there to be completed, such as by the path of data
        for problem in error.problems:
            note(f"note: {problem}".split("\n", 1)[0])
        needed = in_use([plugins.owner(component) for component in components_named(composed, plugins)])
    extends = [*bases_of(composed).values(), *([source] if derive else [])]
    for package in {base.package for base in extends if base.package} - {"trainkit"}:
        if (found := shipping(package, plugins)) is not None:
            needed[found[0]] = found[1]
    written = composed.tables.get("requires", [])
    return with_least(written if isinstance(written, list) else [], dict(sorted(needed.items())))


def _copied(source: Source, composed: Composed, requires: list[str], folder: Path, plugins: Plugins) -> str:
    lines = carried(source, folder, {"requires": requires} if requires else {}).split("\n")
    # Editors read the schema from the first line.
    place = 1 if lines[0].startswith("#:") else 0
    return "\n".join([*lines[:place], f"# A copy of {_spoken(source, plugins)}.", *lines[place:]])


def carried(source: Source, folder: Path, changed: Mapping[str, object] | None = None) -> str:
    """The text of a recipe as it must be in another folder, from where its bases have other names.

    Args:
        source: the recipe.
        folder: where the text is to lie.
        changed: keys at its top that are set too.
    """
    keys = dict(changed or {})
    if names := extended(source):
        bases = [_from_folder(name, source, folder) for name in names]
        keys = {"extends": bases if isinstance(source.tables["extends"], list) else bases[0], **keys}
    return with_top(source.text, keys)


def _from_folder(base: str, source: Source, folder: Path) -> str:
    """A base's name as it must be written in a recipe in another folder."""
    if source.package:
        return named_from(base, source.name)
    if source.file is None or is_packaged(base):
        return base
    return _seen_from(folder, source.file.parent / base)


def _seen_from(folder: Path, file: Path) -> str:
    """The path of a file from a folder; through links, after which ``..`` is another folder than the name says."""
    path = Path(os.path.relpath(file, folder))
    if os.path.realpath(folder / path) != os.path.realpath(file):
        path = Path(os.path.relpath(os.path.join(os.path.realpath(file.parent), file.name), os.path.realpath(folder)))
    return path.as_posix()


def _derived(source: Source, composed: Composed, requires: list[str], folder: Path, plugins: Plugins) -> str:
    base = source.name
    if not source.package and source.file is not None:
        base = _seen_from(folder, source.file)
    head = {"recipe": FORMAT_VERSION, "extends": base, **({"requires": requires} if requires else {})}
    lines = [f"# Extends {_spoken(source, plugins)}; `trainkit fill` shows all that it stands for.", to_toml(head)]
    often: dict[str, list[str]] = {}
    for path in _OFTEN:
        try:
            value = lookup(composed.tables, path)
        except KeyError:
            continue
        often.setdefault(path[0], []).append(f"# {path[1]} = {shown_value(value)}")
    if often:
        lines.append("# What is written here counts more, key by key, such as:")
        lines += [line for table, keys in often.items() for line in (f"# [{dotted((table,))}]", *keys)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Locked:
    """A lock file that was written.

    Args:
        file: where it lies, beside the recipe.
        lock: what is in it.
        changed: what is another than in the lock file that was there, a line each.
    """

    file: Path
    lock: Lock
    changed: list[str]


def write_lock(recipe: Recipe) -> Locked:
    """Write down what a checked recipe's bases and distributions are, in the lock file beside it.

    Raises:
        RecipeError: if the recipe lies in no file of the user's, or what lies there is no lock file.
        MachineError: if it cannot be written.
    """
    composed = recipe.tables.composed
    file, lock = lock_file(composed), lock_of(recipe)
    before = read_lock(composed) if file.exists() else None
    try:
        write_atomically(file, lock.as_toml(recipe.path))
    except OSError as error:
        raise MachineError(f"{file}: cannot be written: {error.strerror}") from error
    return Locked(file, lock, [] if before is None else _changed(before, lock))


def _changed(before: Lock, now: Lock) -> list[str]:
    lines = []
    for what, had, has in (("base", before.bases, now.bases), ("", before.distributions, now.distributions)):
        for name in sorted(had.keys() | has.keys()):
            if had.get(name) != has.get(name):
                was, value = (table.get(name, "not locked")[: 12 if what else None] for table in (had, has))
                lines.append(shown(f"{what} {name}: {value}, was {was}".strip(), 200))
    return lines


@dataclass(frozen=True)
class Renewed:
    """A recipe in the newest format.

    Args:
        before: the format that it has.
        diff: what changes, as a unified diff; empty where nothing does.
        cure: how to write the file so; empty where it lies in no file of the user's.
        older: bases that have an older format too.
        out: the file that was written; ``None`` if none was.
    """

    before: int
    diff: str
    cure: str
    older: list[str]
    out: Path | None


def renew(name: str, write: bool, plugins: Plugins) -> Renewed:
    """Bring a recipe to the newest format, and say what changes; of its bases, each has a format of its own.

    Args:
        name: the recipe.
        write: write its file anew.
        plugins: the plugins of this process.

    Raises:
        RecipeError: if there is no such recipe, or it has a newer format, or none that is a number.
        UsageError: if it is to be written and lies in no file of the user's.
        MachineError: if it cannot be written.
    """
    source = open_recipe(name, plugins)
    before = format_of(source)
    written = source.tables.get("recipe", before)
    if type(written) is not int or written != before:
        message = f"the recipe has format {shown_value(written)}, which is none"
        raise RecipeError(
            [Problem(source.place(("recipe",)), message, f"formats are integers from 1 to {FORMAT_VERSION}")]
        )
    diff = difference(source, text := renewed_text(source.text, before)) if before < FORMAT_VERSION else ""
    cure = how_to_write(source)
    if write and not cure:
        copy = f": trainkit new-recipe --from {shown(shlex.quote(name))} --out FILE copies it" if source.package else ""
        raise UsageError(f"--write: {shown(name)} lies in no recipe file of yours{copy}")
    older = []
    try:
        bases = bases_of(compose(source, [], plugins)[0]).values()
        older = [base.name for base in bases if format_of(base) < FORMAT_VERSION]
    except RecipeError:
        pass  # a base that is missing is not what was asked for
    if not write or not diff or source.file is None:
        return Renewed(before, diff, cure, older, None)
    file = Path(os.path.realpath(source.file))
    try:
        mode = file.stat().st_mode
        if b"\r\n" in file.read_bytes():
            text = text.replace("\n", "\r\n")
        write_atomically(file, text)
        file.chmod(mode)
    except OSError as error:
        raise MachineError(f"{name}: cannot be written: {error.strerror}") from error
    return Renewed(before, diff, cure, older, Path(name))


def _spoken(source: Source, plugins: Plugins) -> str:
    name = shown(source.name)
    ships = shipped_by(source.package, plugins) if source.package else ""
    return f"{name} of {ships}" if ships else name
