"""Which number a range test changes: its key in the recipe, its limits, and how the optimizer's groups follow it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainkit.errors import UsageError
from trainkit.hooking import hook_names
from trainkit.protocols import Events, Schedule
from trainkit.recipe import Recipe
from trainkit.recipe.filled import key_path
from trainkit.recipe.text import lookup, shown
from trainkit.run import Run, ScheduledValue
from trainkit.settings import Between, number_limits
from trainkit.stateful import hooked
from trainkit.targets import BATCH_SIZE, Number, find_numbers

RATE = "optimizer.lr"
# From zero on, where the recipe's own value says nothing of the size; a hundredth and a hundred times of it elsewhere.
RATES = (1e-7, 10.0)
FROM_NOTHING = (1e-6, 1.0)
AROUND = 100.0
_HOLDERS = ("data", "loss", "model", "callback")

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Setting:
    """A number that a range test changes.

    Args:
        name: how the user named it.
        key: where the recipe has it; empty for a number that no recipe sets, such as a module's.
        target: as ``[[schedule.also]]`` names it; ``lr`` for the learning rate.
        now: its value in the recipe; ``None`` where that is unset.
        limits: of the setting.
        rest: whether only the groups of ``[optimizer.rest]`` are meant.
    """

    name: str
    key: Path
    target: str
    now: float | None
    limits: tuple[Between, ...] = ()
    rest: bool = False

    @property
    def is_rate(self) -> bool:
        """Whether it is a learning rate."""
        return self.target == "lr"

    @property
    def in_loss(self) -> bool:
        """Whether the loss itself depends on it, so that its values cannot be compared with each other."""
        return self.target.startswith("loss.")

    def range(self, low: float | None, high: float | None, linear: bool) -> tuple[float, float, bool]:
        """Where the test begins and ends, and whether its steps are equal; what is not given is chosen.

        Raises:
            UsageError: if a value is outside the setting's limits, or they do not rise.
        """
        lowest = max((limit.low for limit in self.limits if limit.low is not None), default=None)
        highest = min((limit.high for limit in self.limits if limit.high is not None), default=None)
        if self.is_rate:
            chosen = RATES
        elif lowest is not None and highest is not None:
            linear = linear or low is None
            inside = 0.01 * (highest - lowest)
            below, above = (any(getattr(limit, end) for limit in self.limits) for end in ("low_open", "high_open"))
            chosen = lowest + inside * below, highest - inside * above
        else:
            begin, end = (self.now / AROUND, self.now * AROUND) if self.now and self.now > 0 else FROM_NOTHING
            chosen = max(begin, lowest or begin), min(end, highest or end)
        given = chosen[0] if low is None else low, chosen[1] if high is None else high
        for option, value in zip(("--from", "--to"), given, strict=True):
            if not math.isfinite(value):
                raise UsageError(f"{option} {value:g}: write a number")
            for limit in self.limits:
                if not limit.holds(value):
                    raise UsageError(f"{option} {value:g}: {self.name} must be {limit}")
        if not given[0] < given[1]:
            raise UsageError(f"--from {given[0]:g} --to {given[1]:g}: the test rises; write the smaller value first")
        if given[0] <= 0 and not linear:
            raise UsageError(
                f"--from {given[0]:g}: no factor leads from there to {given[1]:g}; begin above 0, or add --linear"
            )
        return (*given, linear)


def setting_of(recipe: Recipe, name: str) -> Setting:
    """The number that a user names by its key in the recipe, or as ``[[schedule.also]]`` does.

    Raises:
        UsageError: if a range test cannot change it.
    """
    if name in (BATCH_SIZE, "batch_size"):
        raise UsageError(
            f"--setting {name}: batches are cut before a run begins; a search tries sizes, in its space data.batch_size"
        )
    word, _, rest = name.partition(".")
    if word not in (*_HOLDERS, "optimizer"):
        word, rest, name = "optimizer", name, f"optimizer.{name}"
    if word != "optimizer":
        key = _key_elsewhere(recipe, name)
        target = _target_elsewhere(recipe, key) or name
        return Setting(name, key, target, _number(recipe, key), _limits(recipe, key))
    of_rest = rest.startswith("rest.")
    target = rest.removeprefix("rest.")
    try:
        key = key_path(name)
        lookup(recipe.tables, key)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        key = ()
    if target == "lr" and (not key or _number(recipe, key) is None):
        own = recipe.tables["optimizer"]["use"]
        raise UsageError(
            f"--setting {shown(name)}: the recipe's optimizer '{own}' has no learning rate there; name another number, "
            "such as --setting optimizer.weight_decay"
        )
    if of_rest:
        _check_rest(recipe, name)
    return Setting(name, key, target, _number(recipe, key), _limits(recipe, key), of_rest)


def _check_rest(recipe: Recipe, name: str) -> None:
    table = recipe.tables["optimizer"]
    if table["rest"] is None:
        raise UsageError(f"--setting {shown(name)}: the recipe has no [optimizer.rest]")
    if table["rest"]["use"] == table["use"]:
        raise UsageError(
            f"--setting {shown(name)}: both optimizers are '{table['use']}': name a number of both, without 'rest.'"
        )


def _key_elsewhere(recipe: Recipe, name: str) -> Path:
    """The key of ``loss.NAME`` or ``callback.NAME.SETTING``; empty for what the recipe has no key for."""
    word, _, rest = name.partition(".")
    if word == "callback":
        label, _, setting = rest.partition(".")
        places = [place for place, table in enumerate(recipe.tables["callback"]) if table["use"] == label]
        return ("callback", places[0], setting) if len(places) == 1 else ()
    try:
        key = key_path(name)
        lookup(recipe.tables, key)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return ()
    return key


def _target_elsewhere(recipe: Recipe, key: Path) -> str:
    """``callback.0.max_norm`` as ``[[schedule.also]]`` names it."""
    if key[:1] == ("callback",) and len(key) == 3 and isinstance(key[1], int):
        return f"callback.{recipe.components[key[:2]].name}.{key[2]}"
    return ""


def _number(recipe: Recipe, key: Path) -> float | None:
    if not key:
        return None
    try:
        value = lookup(recipe.tables, key)
    except (KeyError, IndexError, TypeError):
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _limits(recipe: Recipe, key: Path) -> tuple[Between, ...]:
    """The limits of the setting at a key, from the component that has it."""
    place = key[-1] if key and isinstance(key[-1], int) else 0
    path = key[:-2] if key and isinstance(key[-1], int) else key[:-1]
    component = recipe.components.get(path)
    if component is None:
        return ()
    name = key[len(path)]
    return tuple(
        limit
        for setting in component.settings
        if setting.name == name
        for limit in number_limits(setting.annotation, int(place))
    )


# ------------------------------------------------------------ in a run


def follow(
    run: Run, recipe: Recipe, setting: Setting, value: Callable[[int], float] | None
) -> tuple[ScheduledValue, ...]:
    """What a run follows in place of its schedules: the setting alone changes, and the groups keep their ratios.

    What another schedule would change stays as the recipe has it.

    Args:
        run: the run, as it is built.
        recipe: its recipe.
        setting: the number to change.
        value: its value at each update, as the recipe would have it; ``None`` leaves it as it is.

    Raises:
        UsageError: if the run has no such number.
    """
    if value is None:
        return tuple(_held(run, recipe))

    def schedule(t: int, T: int, events: Events = ()) -> float:
        return value(t)

    values = _of_the_rate(run, setting, schedule) if setting.is_rate else _of_a_target(run, recipe, setting, schedule)
    labels = {one.label for one in values}
    return (*values, *(held for held in _held(run, recipe) if held.label not in labels))


def _of_the_rate(run: Run, setting: Setting, schedule: Schedule) -> list[ScheduledValue]:
    assert setting.now is not None
    return [
        ScheduledValue(f"lr/{number}", float(base["lr"]) / setting.now, schedule, number, "lr")
        for number, base in enumerate(run.bases)
        if _meant(run, setting, number)
    ]


def _of_a_target(run: Run, recipe: Recipe, setting: Setting, schedule: Schedule) -> list[ScheduledValue]:
    parts = {
        label.split(".", 2)[2]: part
        for label, part in hooked(run.hook, tuple(hook_names()))
        if label.startswith("callback.")
    }
    try:
        numbers = find_numbers(run, parts, setting.target, None)
    except ValueError as error:
        message, _, cure = str(error).replace(f"{BATCH_SIZE}, ", "").partition("\n")
        raise UsageError(f"--setting {shown(setting.name)}: {message}; {cure.strip()}") from error
    numbers = [one for one in numbers if one.group is None or _meant(run, setting, one.group)]
    unit = setting.now or max((abs(one.base) for one in numbers), default=0.0) or None
    return [_following(one, 1.0 if unit is None else one.base / unit, schedule) for one in numbers]


def _following(number: Number, ratio: float, schedule: Schedule) -> ScheduledValue:
    """The value that sets a number to a multiple of what the schedule says."""
    put = None if number.name else number.put
    return ScheduledValue(number.label, ratio, schedule, number.group, number.name, put, number.whole)


def _meant(run: Run, setting: Setting, group: int) -> bool:
    """Whether a group belongs to what was named: all do, but where one of two optimizers was."""
    if not setting.rest:
        return True
    rest: Mapping[str, Any] = run.recipe["optimizer"]["rest"]
    return bool(run.optimizer.param_groups[group].get("optimizer") == rest["use"].rpartition(":")[2])


def _held(run: Run, recipe: Recipe) -> list[ScheduledValue]:
    """Numbers whose schedules begin from a base of their own, which they keep."""
    held = []
    for number, table in enumerate(run.recipe["schedule"]["also"]):
        absolute = recipe.components[("schedule", "also", number)].capabilities.get("absolute")
        if table["base"] is None or absolute:
            continue
        named = (table["target"], f"{table['target']}/")
        held += [
            replace(value, schedule=_as_it_is)
            for value in run.schedules
            if value.label == named[0] or value.label.startswith(named[1])
        ]
    return held


def _as_it_is(t: int, T: int, events: Events = ()) -> float:
    return 1.0
