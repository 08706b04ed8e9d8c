"""What optimizers and their wrappers cannot go with: schedules of their rates, groups of parameters, each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainkit.clock import Span
from trainkit.component import Component
from trainkit.errors import Problem
from trainkit.recipe.filled import Recipe, named
from trainkit.recipe.text import Path, shown_value

# What keeps an optimizer from sharing a model with another.
_UNSHARED = {
    "needs_closure": "computes the loss again for all parameters",
    "single_group": "takes all parameters as one group",
}


def check_optimizers(recipe: Recipe) -> Iterator[Problem]:
    """Find what an optimizer's table asks for and the optimizer cannot do."""
    yield from _wrappers(recipe)
    yield from _own_rate(recipe)
    yield from _one_rate(recipe)
    yield from _groups(recipe)


def _wrappers(recipe: Recipe) -> Iterator[Problem]:
    """A wrapper that computes the loss itself has none left to hand on."""
    inside: tuple[Path, Component] | None = None
    for path, component in recipe.making_updates():
        if not component.capabilities.get("needs_closure"):
            continue
        if component.kind == "wrapper" and inside is not None:
            message = (
                f"{named(path, component)} computes the loss itself, "
                f"and {named(*inside)} inside it would have to do so too"
            )
            yield Problem(recipe.tables.place((*path, "use")), message, "leave one of them out")
        inside = path, component


def _own_rate(recipe: Recipe) -> Iterator[Problem]:
    """An optimizer that sets its own rate leaves none to a schedule."""
    own = next((part for part in recipe.making_updates() if part[1].capabilities.get("own_lr")), None)
    schedule = recipe.tables.get("schedule") or {}
    if own is None or not schedule:
        return
    sets, at = f"{named(*own)} sets its own learning rate", recipe.tables.place
    name = recipe.components[("schedule",)].name
    if name != "constant":
        message = f"{sets}, so that the schedule '{name}' would change nothing"
        yield Problem(at(("schedule", "use")), message, 'leave [schedule] out, or write use = "constant"')
    for key in ("warmup", "cooldown"):
        written = schedule.get(key)
        if isinstance(written, str) and Span.parse(written).amount:
            yield Problem(at(("schedule", key)), f'{sets}, which {key} = "{written}" cannot do too', f"leave {key} out")
    for key in ("multiply", "react"):
        if schedule.get(key):
            message = f"{sets}, which [[schedule.{key}]] cannot change"
            yield Problem(at(("schedule", key, 0)), message, f"leave [[schedule.{key}]] out")


def _one_rate(recipe: Recipe) -> Iterator[Problem]:
    """An optimizer that has one learning rate for all parameters."""
    part = next((part for part in recipe.making_updates() if part[1].capabilities.get("one_lr")), None)
    table: dict[str, Any] = recipe.tables.get("optimizer") or {}
    if part is None:
        return
    why, at = f"{named(*part)} has one learning rate for all parameters", recipe.tables.place
    for number, group in enumerate(table.get("group") or []):
        for key in ("lr", "lr_scale"):
            if key in group and not (key == "lr_scale" and group[key] == 1):
                message = f"{why}, so that no group can have {key} = {shown_value(group[key])}"
                yield Problem(at(("optimizer", "group", number, key)), message, f"leave {key} out")
    for key in ("layer_decay", "discriminative"):
        if table.get(key) is not None:
            message = f"{why}, which {key} = {shown_value(table[key])} would change from layer to layer"
            yield Problem(at(("optimizer", key)), message, f"leave {key} out")


def _groups(recipe: Recipe) -> Iterator[Problem]:
    """Settings per parameter that the optimizer cannot have, or that say two things at once."""
    table: dict[str, Any] = recipe.tables.get("optimizer") or {}
    optimizer, at = recipe.components.get(("optimizer",)), recipe.tables.place
    if optimizer is None:
        return
    asked = [key for key in ("group", "layer_decay", "discriminative") if table.get(key)]
    name = named(("optimizer",), optimizer)
    if optimizer.capabilities.get("single_group"):
        for key in asked:
            path, what = (("optimizer", key, 0), "[[optimizer.group]]") if key == "group" else (("optimizer", key), key)
            yield Problem(at(path), f"{name} takes all parameters as one group", f"leave {what} out")
    for owner in [item for item in recipe.components.items() if "parameter_groups" in item[1].owns]:
        for key in asked:
            message = f"{named(*owner)} makes the parameter groups, which {key} would change"
            yield Problem(at(("optimizer", key)), message, "leave one of them out")
    if table.get("layer_decay") is not None and table.get("discriminative") is not None:
        written = f"layer_decay = {table['layer_decay']} and discriminative = {table['discriminative']}"
        message = f"[optimizer] {written} both say how the rate falls from layer to layer"
        yield Problem(at(("optimizer", "discriminative")), message, "write one of them")
    if table.get("lr_rule") is not None and table.get("lr_for_batch") is None:
        message = f'[optimizer] lr_rule = "{table["lr_rule"]}" needs the batch that the rates are meant for'
        yield Problem(at(("optimizer", "lr_rule")), message, "write lr_for_batch = 256, or leave lr_rule out")
    yield from _rest(recipe, optimizer)


def _rest(recipe: Recipe, optimizer: Component) -> Iterator[Problem]:
    """Two optimizers in one: each must leave the other alone."""
    path: Path = ("optimizer", "rest")
    rest, at = recipe.components.get(path), recipe.tables.place
    if rest is None:
        return
    for here, part, other in ((("optimizer",), optimizer, rest), (path, rest, optimizer)):
        for word, why in _UNSHARED.items():
            if part.capabilities.get(word):
                message = f"{named(here, part)} {why}, so that {other.name} cannot take a share of them"
                yield Problem(at((*here, "use")), message, "choose another optimizer, or leave [optimizer.rest] out")
                break
    schedule = recipe.components.get(("schedule",))
    if schedule is not None and schedule.capabilities.get("absolute"):
        message = f"[schedule] {schedule.name} gives the rate itself, the same to {optimizer.name} and {rest.name}"
        yield Problem(at(("schedule", "use")), message, "choose a schedule of factors, which keeps each one's own lr")
    compiled = recipe.tables.get("run", {}).get("compile") == "step"
    if compiled and optimizer.capabilities.get("compiles") and rest.capabilities.get("compiles"):
        both = f"{optimizer.name} and [optimizer.rest] {rest.name}"
        message = f'[optimizer] {both} are two programs, of which compile = "step" makes one'
        yield Problem(at(("run", "compile")), message, 'write compile = "model" or compile = false')
