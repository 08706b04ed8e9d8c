"""What schedules name elsewhere in the recipe: numbers of the optimizer, callbacks, figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trainkit.errors import Problem
from trainkit.recipe.filled import Recipe
from trainkit.recipe.text import Path, did_you_mean, shown, shown_value

_PLACES = ("data", "loss", "model", "callback")


def check_schedules(recipe: Recipe) -> Iterator[Problem]:
    """Find targets, warm-ups and figures of ``[schedule]`` that cannot be; more is known once the model is built."""
    schedule = recipe.tables.get("schedule")
    if not schedule:
        return
    yield from _warmup(recipe, ("schedule",), schedule)
    for number, table in enumerate(schedule.get("also") or ()):
        path: Path = ("schedule", "also", number)
        if isinstance(table, dict) and path in recipe.components:
            yield from _warmup(recipe, path, table)
            yield from _target(recipe, path, table)


def _warmup(recipe: Recipe, path: Path, table: dict[str, Any]) -> Iterator[Problem]:
    if table.get("warmup_shape") != "exp" or table.get("warmup_start"):
        return
    written = "unset" if table.get("warmup_start") is None else table["warmup_start"]
    message = f'warmup_shape = "exp" needs a warmup_start above 0, it is {written}'
    yield Problem(recipe.tables.place((*path, "warmup_shape")), message, "write warmup_start = 0.01")


def _target(recipe: Recipe, path: Path, table: dict[str, Any]) -> Iterator[Problem]:
    target = table.get("target")
    if not isinstance(target, str):
        return
    said = f"[[schedule.also]] target = {shown_value(target)}"
    place = recipe.tables.place((*path, "target"))
    where, _, rest = target.partition(".")
    if where == "callback" and rest:
        names = [part.name for at, part in recipe.components.items() if at[0] == "callback" and len(at) == 2]
        name = rest.partition(".")[0]
        if name not in names:
            cure = did_you_mean(name, names) + f"callbacks of this recipe: {', '.join(names) or 'none'}"
            yield Problem(place, f"{said}: there is no callback '{shown(name)}'", cure)
        elif "." not in rest:
            yield Problem(place, f"{said} names no setting", f'write target = "{target}.SETTING"')
    elif where == "data" and target != "data.batch_size":
        yield Problem(place, f"{said}: of the data, only the batch size can be scheduled", 'write "data.batch_size"')
    elif target == "lr":
        if table.get("match") is None:
            cure = "write it in [schedule] itself, or in its 'multiply'; with match it is for some parameters alone"
            yield Problem(place, f"{said}: the learning rate follows [schedule] itself", cure)
    elif where not in _PLACES or not rest:
        yield from _of_the_optimizer(recipe, said, target, place)


def _of_the_optimizer(recipe: Recipe, said: str, target: str, place: Any) -> Iterator[Problem]:
    if ("optimizer",) not in recipe.components:
        return
    names: list[str] = []
    for path, part in recipe.components.items():
        if path[0] == "optimizer" and part.kind == "optimizer":
            table: Any = recipe.tables
            for key in path:
                table = table[key]
            names += [name for s in part.settings for name in _numbers(s.name, table.get(s.name))]
    names = [name for name in dict.fromkeys(names) if name != "lr"]  # that of some groups alone, with match
    if target not in names:
        known = [*names, "data.batch_size", "loss.NAME", "model.PATTERN.NAME", "callback.NAME.SETTING"]
        whole = [name for name in names if name.startswith(f"{target}.")]
        near = f"did you mean '{whole[0]}'?  " if whole else did_you_mean(target, names)
        yield Problem(place, f"{said}: the optimizer has no such number", near + f"a target can be: {', '.join(known)}")


def _numbers(name: str, value: Any) -> list[str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [name]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [f"{name}.{place}" for place, part in enumerate(value) if isinstance(part, int | float)]
    return []


def monitors(recipe: Recipe) -> Iterator[tuple[Path, str, str]]:
    """Every figure that the core or a callback is told to look at: its place, what asks for it, its name."""
    yield ("run", "monitor"), "[run] monitor", recipe.tables.get("run", {}).get("monitor")
    schedule = recipe.tables.get("schedule") or {}
    for number, table in enumerate(schedule.get("react") or ()):
        if isinstance(table, dict) and table.get("monitor") is not None:
            path: Path = ("schedule", "react", number)
            yield (*path, "monitor"), f"[[schedule.react]] {shown(str(table.get('use')))} monitor", table["monitor"]
    for number, table in enumerate(recipe.tables.get("callback") or ()):
        if isinstance(table, dict) and isinstance(table.get("monitor"), str):
            name = shown(str(table.get("use")).rpartition(":")[2])
            yield ("callback", number, "monitor"), f"[[callback]] {name}", table["monitor"]
