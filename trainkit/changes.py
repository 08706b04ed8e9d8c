"""What may change between two processes of one run, key by key; each setting says which of four rules it follows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainkit.component import Component
from trainkit.errors import Problem, RecipeError
from trainkit.recipe import Recipe, named_tables, problem_at
from trainkit.settings import ResumeRule, Setting
from trainkit.tables import INSIDE

_SHOWN = 12  # differences that are named one by one
_START_OVER = "keep it as it was, or begin a new run: --fresh in the same folder keeps the old one aside"

# The core's own settings. Every one is listed; a test holds that.
CORE: Mapping[str, ResumeRule] = {
    "recipe": "changeable",
    "requires": "changeable",
    "seed": "fixed",
    "run.duration": "checked",
    "run.accumulate": "checked",
    **dict.fromkeys(
        [
            f"run.{name}"
            for name in (
                "device",
                "precision",
                "compile",
                "updates_per_call",
                "cuda_graphs",
                "channels_last",
                "tune_convolutions",
            )
        ],
        "restart",
    ),
    **dict.fromkeys(["run.processes", "run.strategy"], "changeable"),
    "run.batchnorm": "restart",
    **dict.fromkeys(["run.threads", "run.microbatch", "run.keep_pages", "run.fold_batchnorm"], "restart"),
    **dict.fromkeys(
        [
            f"run.{name}"
            for name in (
                "nonfinite",
                "evaluate_every",
                "log_every",
                "save_every",
                "save_pause",
                "save_in_background",
                "save_best",
                "keep",
                "monitor",
            )
        ],
        "changeable",
    ),
    **dict.fromkeys(["run.rollback_factor", "run.rollbacks"], "changeable"),
    **dict.fromkeys(["run.on_length_change", "run.on_conflict"], "changeable"),
    **dict.fromkeys(["data.batch_size", "data.drop_last"], "checked"),
    **dict.fromkeys(["data.eval_batch_size", "data.loading", "data.workers", "data.worker_timeout"], "restart"),
    # Other samples are other data, which on_conflict settles.
    **dict.fromkeys([f"data.{name}" for name in ("folds", "fold", "fold_by", "train_on", "bag", "seed")], "checked"),
    **dict.fromkeys(["data.shuffle", "data.sampling"], "fixed"),
    "data.augment": "changeable",
    # A checkpoint holds weights; where they came from once does nothing any more.
    **dict.fromkeys(["model.weights", "model.head", "model.rename"], "fixed"),
    "optimizer.wrap": "fixed",
    **dict.fromkeys(
        [
            f"optimizer.{name}"
            for name in ("group", "no_decay", "layer_decay", "discriminative", "lr_for_batch", "lr_rule", "rest")
        ],
        "checked",
    ),
}
# A component's own settings, where they say nothing themselves.
BY_KIND: Mapping[str, ResumeRule] = {"data": "checked", "model": "fixed", "optimizer": "checked"}
BY_KIND_TEXT: Mapping[ResumeRule, str] = {
    "fixed": "settings must stay as they were",
    "checked": "settings are compared with the checkpoint",
    "changeable": "settings may change",
}
_USE: Mapping[str, ResumeRule] = {"data": "checked", "model": "fixed", "optimizer": "fixed", "wrapper": "fixed"}
_WHY = {
    "seed": "the order of samples follows from it",
    **dict.fromkeys(["data.shuffle", "data.sampling"], "the place within the epoch is one in the old order"),
    "model": "the checkpoint holds the weights of the model as it was",
    "optimizer": "the checkpoint holds the optimizer's state as it was made with it",
    "wrapper": "the checkpoint holds the optimizer's state as it was made with it",
}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Change:
    """One key of the recipe that is new, gone or has another value.

    Args:
        key: the key, dotted.
        was: the old value as JSON writes it; ``unset`` if there was none.
        now: the new one.
        rule: what its setting says about changes.
    """

    key: str
    was: str
    now: str
    rule: ResumeRule

    def __str__(self) -> str:
        return f"the recipe has changed: {self.key} = {self.now} (was {self.was})"


def rule_of(path: Path, components: Mapping[Path, Component]) -> ResumeRule:
    """Which rule a key follows: its setting's own, else that of its table or kind."""
    depth = max((len(known) for known in components if path[: len(known)] == known), default=0)
    if depth == 0 or len(path) == depth:
        named = ".".join(str(part) for part in path[: 2 if path[0] == "run" else 1])
        return CORE.get(named) or kind_rule(kind_of(path))
    component, name = components[path[:depth]], path[depth]
    if name == "use":
        return _USE.get(component.kind, "changeable")
    for setting in component.settings:
        if setting.name == name:
            return rule_for(component.kind, setting)
    if depth == 1:
        return CORE.get(f"{path[0]}.{name}", kind_rule(component.kind))
    return kind_rule(component.kind)


def kind_rule(kind: str) -> ResumeRule:
    """Which rule the settings of components of a kind follow, where they say nothing themselves."""
    return BY_KIND.get(kind, "changeable")


def rule_for(kind: str, setting: Setting, of_table: bool = False) -> ResumeRule:
    """Which rule one setting follows.

    Args:
        kind: the kind of its component.
        setting: the component's own, or one that the core adds.
        of_table: whether the core adds it to every table of the kind.
    """
    core = CORE.get(f"{kind}.{setting.name}") if of_table else None
    return setting.resume or core or kind_rule(kind)


def kind_of(path: Path) -> str:
    """The kind of component that a key belongs to, whether or not the recipe still has it."""
    for kind, (table, name) in INSIDE.items():
        if path[:2] == (table, name):
            return kind
    return str(path[0])


def compare(before: Mapping[str, Any], now: Mapping[str, Any], recipe: Recipe) -> list[Change]:
    """Every change of a recipe.

    Args:
        before: the recipe that the run's last process had, filled.
        now: the one that it is to go on with, filled and read as the other was.
        recipe: that recipe.
    """
    had, has = dict(_leaves(before, ())), dict(_leaves(now, ()))
    changes = []
    for path in dict.fromkeys([*has, *had]):
        was, value = (json.dumps(side[path], default=str) if path in side else "unset" for side in (had, has))
        if was != value:
            changes.append(Change(".".join(map(str, path)), was, value, rule_of(path, recipe.components)))
    return changes


def refuse(changes: list[Change], before: Mapping[str, Any], recipe: Recipe) -> None:
    """End here where a key that is fixed has changed.

    Raises:
        RecipeError: a problem for each, with the reason and the ways out.
    """
    now, problems = recipe.tables, list[Problem]()
    if now["seed"] != before.get("seed"):
        message = f"seed = {now['seed']}, and the run began with {before.get('seed')}: {_WHY['seed']}"
        problems.append(problem_at(now, "seed", message, _START_OVER))
    had, has = _uses(before.get("optimizer", {})), _uses(now["optimizer"])
    if had != has:
        message = f"the optimizer is {' with '.join(has)}; the checkpoint holds the state of {' with '.join(had)}"
        problems.append(problem_at(now, "optimizer.use", message, _START_OVER))
    for change in changes:
        kind = kind_of(tuple(change.key.split(".")))
        if change.rule != "fixed" or change.key == "seed" or (kind in ("optimizer", "wrapper") and had != has):
            continue
        if change.was == "unset" and _is_default(change, recipe):
            continue  # a version of the component has a setting more, and leaves it as it was without
        why = _WHY.get(change.key) or _WHY.get(kind) or "the component says that it must stay as it was"
        message = f"{change.key} = {change.now}, and the run has {change.was}: {why}"
        problems.append(problem_at(now, _nearest(change.key, now), message, _START_OVER))
    if problems:
        raise RecipeError(problems)


def _is_default(change: Change, recipe: Recipe) -> bool:
    path = change.key.split(".")
    for known, component in recipe.components.items():
        if [str(part) for part in known] == path[:-1]:
            return any(
                s.name == path[-1] and json.dumps(s.default, default=str) == change.now for s in component.settings
            )
    return False


def _nearest(key: str, tables: Mapping[str, Any]) -> str:
    """The key, or the innermost table around it that the recipe has."""
    table: Any = tables
    found: list[str] = []
    for part in key.split("."):
        inner = table.get(part) if isinstance(table, Mapping) else None
        if inner is None:
            break
        table = inner
        found.append(part)
    return ".".join(found)


def lines(changes: list[Change]) -> list[str]:
    """One line for each change, and one for all that are too many."""
    rest = len(changes) - _SHOWN
    shown = [str(change) for change in changes[:_SHOWN]]
    return shown if rest <= 0 else [*shown, f"the recipe has changed in {rest} more keys"]


def _uses(table: Any) -> list[str]:
    """Every component that a table names, in order."""
    return [f"'{part['use']}'" for _, part in named_tables(table, "optimizer")]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path, number))
    else:
        yield path, value
