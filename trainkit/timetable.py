"""From ``[schedule]`` to scheduled values: body, products, reactions and warm-up, for every group and target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit.errors import RecipeError
from trainkit.instantiate import Builder, TablePath, dotted
from trainkit.protocols import Schedule
from trainkit.reactions import Reactions, Watch
from trainkit.recipe import problem_at
from trainkit.recipe.text import shown
from trainkit.returned import defect
from trainkit.run import Run, ScheduledValue
from trainkit.scheduled import product, rising, warmed_up
from trainkit.settings import Between, number_limits
from trainkit.targets import Number, find_numbers

CHECKED_POINTS = 1000  # at most so many values of a schedule are held against its target's limits


def make_schedules(
    builder: Builder, run: Run, reactions: Reactions, parts: Mapping[str, Any]
) -> tuple[ScheduledValue, ...]:
    """Every scheduled value of a run: the learning rate of each group, then what ``[[schedule.also]]`` names.

    A group whose rate is named there follows that schedule instead of ``[schedule]``.

    Args:
        builder: builds the schedules.
        run: the run, with its optimizer.
        reactions: those of the recipe, as `make_reactions` made them.
        parts: callbacks by name, whose settings may be scheduled.

    Raises:
        RecipeError: if a part does not fit the run's length, or a target names no number.
    """
    timetable = _Timetable(builder, run, parts)
    rate = whole_schedule(builder, ("schedule",), reactions)
    absolute = builder.recipe.components[("schedule",)].capabilities.get("absolute")
    groups = [] if builder.recipe.sets_own_lr else run.optimizer.param_groups
    values = [
        ScheduledValue(f"lr/{i}", float(group.get("lr_scale", 1.0) if absolute else group["lr"]), rate, i, "lr")
        for i, group in enumerate(groups)
    ]
    for number in range(len(builder.tables["schedule"]["also"])):
        shared = {value.label for value in values if value.schedule is rate}  # may follow one of their own instead
        taken = [value.label for value in values if value.label not in shared]
        own = {value.label: value for value in timetable.also(("schedule", "also", number), taken)}
        values = [own.pop(value.label, value) for value in values] + list(own.values())
    return tuple(values)


def make_reactions(builder: Builder) -> Reactions:
    """Build the reactions of ``[[schedule.react]]``, the first one innermost."""
    table = builder.tables["schedule"]
    names: list[str] = []
    watches = []
    for number, written in enumerate(table["react"]):
        path: TablePath = ("schedule", "react", number)
        name = builder.recipe.components[path].name
        names.append(name)
        label = name if names.count(name) == 1 else f"{name}#{names.count(name)}"
        text, at = (
            (table["warmup"], ("schedule", "warmup"))
            if written["after"] is None
            else (written["after"], (*path, "after"))
        )
        monitor = written["monitor"] or builder.tables["run"]["monitor"]
        assert builder.clock is not None
        reaction = _checked(builder, path, builder.clock.total_updates)
        watches.append(Watch(label, reaction, monitor, builder.updates(text, at)))
    return Reactions(watches)


def whole_schedule(builder: Builder, path: TablePath, reactions: Reactions) -> Schedule:
    """The schedule of a table as a whole: (body times products, changed by reactions) after its warm-up.

    Raises:
        RecipeError: if it does not fit the run's length.
    """
    assert builder.clock is not None
    total = builder.clock.schedule_updates
    table = builder.table(path)
    warmup, cooldown = (builder.updates(table[name], (*path, name)) for name in ("warmup", "cooldown"))
    if warmup + cooldown > total:
        said = [
            f'{name} = "{table[name]}" is {length} updates'
            for name, length in (("warmup", warmup), ("cooldown", cooldown))
            if length
        ]
        message = f"{', '.join(said)}, the run has {total}"
        at = (*path, "warmup" if warmup else "cooldown")
        raise RecipeError([problem_at(builder.tables, at, message, "shorten it, or lengthen the run")])
    begin = 0 if table["warmup_mode"] == "overlay" else warmup
    length = total - begin - cooldown
    body = _of_numbers(builder, path, length)
    others = [_of_numbers(builder, (*path, "multiply", i), length) for i in range(len(table["multiply"]))]
    if others:
        body = product([body, *others])
    for watch in reactions.watches:
        body = watch.reacting(body, begin)
    rise = rising(warmup, table["warmup_start"], table["warmup_shape"])
    return warmed_up(body, warmup, rise, table["warmup_mode"] == "overlay", cooldown)


def _of_numbers(builder: Builder, path: TablePath, length: int) -> Schedule:
    """Build a schedule, and see that its first value is a number.

    Raises:
        PluginDefect: naming its plugin, if it is none.
    """
    schedule: Schedule = _checked(builder, path, length)
    if length > 0 and not hasattr(value := schedule(0, length, ()), "__float__"):
        wrong = f"its value at update 0 of {length} is {shown(repr(value))}, not a number"
        component = builder.recipe.components[path]
        raise defect(builder.plugins, component, f"building [{dotted(path)}] {component.name}", wrong)
    return schedule


def _checked(builder: Builder, path: TablePath, length: int) -> Any:
    """Build a schedule or a reaction, and ask it whether it can run for so many updates."""
    made = builder.make(*path)
    check = getattr(made, "check", None)
    if check is not None:
        try:
            check(length)
        except ValueError as error:
            message, _, cure = str(error).partition("\n")
            name = builder.recipe.components[path].name
            said = f"[{dotted(path)}] {name}: {message}"
            raise RecipeError([problem_at(builder.tables, path, said, cure.strip())]) from error
    return made


class _Timetable:
    def __init__(self, builder: Builder, run: Run, parts: Mapping[str, Any]) -> None:
        self.builder = builder
        self.run = run
        self.parts = parts

    def also(self, path: TablePath, taken: list[str]) -> list[ScheduledValue]:
        """The values of one ``[[schedule.also]]``."""
        builder, run = self.builder, self.run
        table = builder.table(path)
        try:
            if table["target"] == "lr" and builder.recipe.sets_own_lr:
                raise ValueError("the optimizer works out the learning rate itself\n  leave it out")
            numbers = find_numbers(run, self.parts, table["target"], table["match"])
            if twice := [number.label for number in numbers if number.label in taken]:
                raise ValueError(f"{twice[0]} is scheduled twice\n  leave one of them out, or multiply them")
        except ValueError as error:
            message, _, cure = str(error).partition("\n")
            # `find_numbers` begins what it says of a match with that word.
            raise self._refusal(path, "match" if message.startswith("match") else "target", message, cure) from error
        schedule = whole_schedule(builder, path, Reactions())
        absolute = builder.recipe.components[path].capabilities.get("absolute")
        values = []
        for number in numbers:
            base = number.base if not absolute else 0.0 if self._exempt(number) else self._scale(number)
            if table["base"] is not None and not self._exempt(number):
                base = table["base"]
            put = None if number.name else number.put
            values.append(ScheduledValue(number.label, base, schedule, number.group, number.name, put, number.whole))
        self._within_limits(path, values)
        return values

    def _refusal(self, path: TablePath, key: str, message: str, cure: str) -> RecipeError:
        said = f'[[schedule.also]] target = "{self.builder.table(path)["target"]}": {message}'
        return RecipeError([problem_at(self.builder.tables, (*path, key), said, cure.strip())])

    def _within_limits(self, path: TablePath, values: list[ScheduledValue]) -> None:
        """Hold the values against the limits of the setting that they take the place of."""
        target = self.builder.table(path)["target"]
        limits = [] if target == "lr" else self._limits(target)  # a rate may be 0 for a while
        total = self.run.schedule_updates
        stride = max(1, total // CHECKED_POINTS)
        for value in values if limits else ():
            for t in (*range(0, total, stride), total - 1):
                number = value.at(t, total)
                for limit in limits:
                    if not limit.holds(number):
                        message = f"{value.label} comes to {number:.6g} at update {t}; it must be {limit}"
                        raise self._refusal(path, "use", message, "change the schedule's own settings, or base")

    def _limits(self, target: str) -> list[Between]:
        """The limits of the setting that a target names, from the component that has it."""
        where, _, rest = target.partition(".")
        name, place = target.rpartition(".")[2], 0
        kinds = {"loss": "loss", "callback": "callback", "data": ""}
        if where not in kinds:
            name, place = where, int(rest) if rest.isdecimal() else 0
        kind = kinds.get(where, "" if where == "model" else "optimizer")
        for at, component in self.builder.recipe.components.items():
            if component.kind != kind or (kind == "callback" and component.name != rest.partition(".")[0]):
                continue
            for setting in component.settings:
                if setting.name == name and at[:1] == (kind,):
                    return number_limits(setting.annotation, place)
        return []

    def _scale(self, number: Number) -> float:
        """What a schedule of values is multiplied by: a group's rate keeps to its factor."""
        if number.name != "lr" or number.group is None:
            return 1.0
        return float(self.run.optimizer.param_groups[number.group].get("lr_scale", 1.0))

    def _exempt(self, number: Number) -> bool:
        """Whether a group has no weight decay whatever the recipe's value is: biases and norms."""
        if number.name != "weight_decay" or number.group is None or number.base:
            return False
        parameters = self.run.optimizer.param_groups[number.group]["params"]
        spared: bool = self.builder.tables["optimizer"]["no_decay"] == "norms_and_biases"
        return spared and all(parameter.dim() <= 1 for parameter in parameters)
