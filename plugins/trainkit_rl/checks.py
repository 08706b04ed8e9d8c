"""What lies between the tables of a recipe in which an environment is played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainkit import Problem, problem_at

METHODS = ("ppo", "reinforce")
_RETURN = 'monitor = "val.return"'
_FIGURES = ("val.return", "train.loss")
# Settings of [data] that choose samples, and what they are where they do not.
_CUTS = {"folds": None, "train_on": "train", "bag": None, "sampling": "once"}


def problems(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Every problem."""
    played = _is(recipe["data"], "gym")
    methods = [index for index, table in enumerate(recipe["callback"]) if any(_is(table, name) for name in METHODS)]
    if played and not methods:
        message = "[data] gym: nothing plays the environment"
        cure = 'write [[callback]] use = "ppo" with [loss] use = "ppo", or "reinforce" with "reinforce"'
        yield problem_at(recipe, "data.use", message, cure)
    for index in methods:
        yield from _goes_with(recipe, index, played)
    if played:
        if recipe.get("ensemble"):
            message = "[ensemble] is measured on samples, and nobody knows the right actions"
            cure = 'leave it out; [[callback]] use = "ema" averages the weights of one run, whose return is measured'
            yield problem_at(recipe, "ensemble", message, cure)
        yield from _of_samples(recipe)
        yield from _of_figures(recipe)


def _is(table: Mapping[str, Any], name: str) -> bool:
    return table["use"] in (name, f"trainkit_rl:{name}")


def _goes_with(recipe: Mapping[str, Any], index: int, played: bool) -> Iterator[Problem]:
    """Data and loss of a callback that plays."""
    name = recipe["callback"][index]["use"].rpartition(":")[2]
    if not played:
        message = f"[[callback]] {name} plays an environment, and the data is '{recipe['data']['use']}'"
        yield problem_at(recipe, f"callback.{index}.use", message, 'write [data] use = "gym"')
    elif not _is(recipe["loss"], name):
        message = f"[loss] {recipe['loss']['use']} is no loss of steps that [[callback]] {name} plays"
        yield problem_at(recipe, "loss.use", message, f'write [loss] use = "{name}"')


def _of_samples(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings that ask for samples which stay."""
    data = recipe["data"]
    for index, table in enumerate(data["augment"]):
        message = f"[[data.augment]] {table['use']} changes samples, and [data] gym plays its own anew"
        yield problem_at(recipe, f"data.augment.{index}.use", message, "leave it out")
    for index, table in enumerate(recipe["metric"]):
        message = f"[[metric]] {table['use']} compares outputs with targets, and nobody knows the right actions"
        yield problem_at(recipe, f"metric.{index}.use", message, 'leave it out: "val.return" is what a policy comes to')
    for key, unset in _CUTS.items():
        if data.get(key, unset) != unset:
            message = f"[data] {key} chooses among samples, and those of gym are steps of one policy"
            yield problem_at(recipe, f"data.{key}", message, f"leave {key} out; several seeds say how sure a return is")


def _of_figures(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Figures that are looked at and not measured."""
    asked: list[tuple[str, str, Any]] = [("run.monitor", "[run] monitor", recipe["run"]["monitor"])]
    for index, table in enumerate(recipe["schedule"]["react"]):
        asked.append((f"schedule.react.{index}.monitor", f"[[schedule.react]] {table['use']}", table["monitor"]))
    for index, table in enumerate(recipe["callback"]):
        asked.append((f"callback.{index}.monitor", f"[[callback]] {table['use']}", table.get("monitor")))
    for place, what, figure in asked:
        if isinstance(figure, str) and figure not in _FIGURES:
            message = f"{what}: an environment has no '{figure}'; evaluations measure the return of episodes"
            yield problem_at(recipe, place, message, f"write {_RETURN}")
        elif figure == "val.return" and not recipe["data"]["val"]:
            message = f"{what} looks at 'val.return', and with val = 0 no episode is played for it"
            yield problem_at(recipe, "data.val", message, "let val be 20, or so")
            return
