"""What has changed between the making of a pack and now: defaults of components, versions, the data."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainkit.errors import Problem, RecipeError
from trainkit.recipe.packing import files_of, here
from trainkit.recipe.positions import Override
from trainkit.recipe.text import Path, dotted, lookup, shown, shown_value
from trainkit.settings import is_path, show_value

if TYPE_CHECKING:
    from trainkit.dataset import DataSpec
    from trainkit.recipe.filled import Recipe
    from trainkit.recipe.packed import Pack

_SPARED = ("python", "platform", "plugins")
_ACCEPT = "go on with --accept-drift"


def meet(pack: Pack, problems: list[Problem]) -> None:
    """Tell what has changed where somebody wants to be told; else it is a problem.

    Raises:
        RecipeError: if nobody is.
    """
    if problems and pack.tell is None:
        raise RecipeError(problems)
    for problem in problems:
        assert pack.tell is not None
        if problem.message not in pack.told:  # some verbs build the data more than once
            pack.told.add(problem.message)
            pack.tell(problem.message)


def changed_defaults(recipe: Recipe, pack: Pack) -> list[Problem]:
    """Settings that nobody has written and that have another default now."""
    before = _filled(pack)
    marks = recipe.tables.composed.marks
    found = []
    for path in recipe.defaults:
        if marks.get(path) or not _same_component(recipe, before, path):
            continue
        now, was = (_essence(_value(tables, path)) for tables in (recipe.tables, before))
        if was is None or now == was:
            continue  # what was unset is not written, and a setting may be new
        message = f"{dotted(path)} is {shown_value(now)} by default, and was {shown_value(was)} when the pack was made"
        cure = f"to have it as it was: {_written(path, was)}; to take it as it is, {_ACCEPT}"
        found.append(Problem(recipe.tables.place(path), message, cure))
    return found


def _written(path: Path, value: Any) -> str:
    """What a shell takes as the value of a key, whatever a stranger's pack has there."""
    text = shown_value(value)
    with contextlib.suppress(ValueError):  # of a number that Python refuses to print
        if text == show_value(value):  # not cut, and without signs that no terminal may be sent
            return shlex.quote(f"{dotted(path)}={text}")
    return f"{dotted(path)}=VALUE, with what 'filled' in the pack has"


def versions_changed(recipe: Recipe, pack: Pack) -> str:
    """One sentence on other versions than where the pack was made; empty if there are none."""
    now, was = here(recipe), pack.environment
    pairs = {name: (was.get(name), version) for name, version in now.items() if name not in _SPARED}
    pairs |= {name: (was["plugins"].get(name), version) for name, version in now["plugins"].items()}
    lines = [f"{name} {version} ({shown(old)})" for name, (old, version) in pairs.items() if old and old != version]
    return f"other versions than where the pack was made (in brackets): {', '.join(lines)}" if lines else ""


def chosen_anew(recipe: Recipe, pack: Pack) -> str:
    """The first key that makes the data another one than the pack's by the user's own will; empty if there is none.

    Where its files lie may be said anew.
    """
    before = _filled(pack)
    component, own = recipe.components[("data",)], before.get("data", {})
    table = recipe.tables["data"]
    if table["use"] != own.get("use"):
        return "data.use"
    for setting in component.settings:
        if is_path(setting.annotation) or _set(table[setting.name]) == _set(own.get(setting.name)):
            continue
        if setting.name in own or _of_the_user(recipe, ("data", setting.name)):  # else a setting that is new
            return f"data.{setting.name}"
    seeds = [t["seed"] if t["data"].get("seed") is None else t["data"]["seed"] for t in (recipe.tables, before)]
    return "seed" if "seed" in component.given and seeds[0] != seeds[1] else ""


def _of_the_user(recipe: Recipe, path: Path) -> bool:
    """Whether the command line set a key, or one inside it."""
    marks = recipe.tables.composed.marks
    return any(key[: len(path)] == path and isinstance(found[-1].origin, Override) for key, found in marks.items())


def check_data(recipe: Recipe, pack: Pack, spec: DataSpec) -> None:
    """Hold that the data is what the pack was made beside, as far as that is known.

    Args:
        recipe: the recipe of the pack.
        pack: the pack.
        spec: what the data component says of its data.

    Raises:
        RecipeError: if it is other data, and nobody is told of it instead.
    """
    was = pack.data
    if chosen_anew(recipe, pack):
        return
    if was.fingerprint and spec.fingerprint == was.fingerprint:
        return
    files = files_of(recipe)
    lines = [f"{key}: {_file(files[key])}; the pack: {_file(was.files[key])}" for key in _other(files, was.files)]
    other_sizes = bool(was.sizes) and dict(spec.sizes) != dict(was.sizes)
    if not lines and not other_sizes and not (was.fingerprint and spec.fingerprint):
        return  # neither says more
    if other_sizes:
        lines.append(f"{_sizes(spec.sizes)} samples; the pack: {_sizes(was.sizes)}")
    message = "the data is not the data that the pack was made beside"
    if was.fingerprint and spec.fingerprint:
        message += f": SHA-256 {spec.fingerprint[:12]}, the pack: {was.fingerprint[:12]}"
    place = recipe.tables.place(("data", "use"))
    meet(pack, [Problem(place, message, "\n".join([*lines, f"get the same data, or {_ACCEPT}"]))])


def _other(files: Mapping[str, tuple[int, str]], before: Mapping[str, tuple[int, str]]) -> list[str]:
    return [key for key in files if key in before and files[key] != before[key]]


def _file(measured: tuple[int, str]) -> str:
    return f"{measured[0]:,} bytes, SHA-256 {measured[1][:12]}"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{shown(name)} {size}" for name, size in sizes.items())


def _filled(pack: Pack) -> dict[str, Any]:
    data = pack.before.get("data")
    return {"seed": 0, **pack.before, "data": data if isinstance(data, dict) else {}}


def _essence(value: Any) -> Any:
    """Of a table that names a component its name: the settings in it have defaults of their own."""
    if isinstance(value, Mapping) and isinstance(value.get("use"), str):
        return value["use"]
    return [_essence(item) for item in value] if isinstance(value, list) else _set(value)


def _set(value: Any) -> Any:
    """A value without what is unset in it, which no file says."""
    if isinstance(value, Mapping):
        return {key: _set(item) for key, item in value.items() if item is not None}
    return [_set(item) for item in value] if isinstance(value, list) else value


def _same_component(recipe: Recipe, before: Mapping[str, Any], path: Path) -> bool:
    """Whether all tables around a key name the components that they did."""
    return all(
        _value(recipe.tables, (*path[:length], "use")) == _value(before, (*path[:length], "use"))
        for length in range(1, len(path))
    )


def _value(tables: Mapping[str, Any], path: Path) -> Any:
    try:
        return lookup(tables, path)
    except KeyError:
        return None
