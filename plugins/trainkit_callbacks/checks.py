"""What lies between the tables of a recipe: figures that are not measured, callbacks that stand in each other's way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainkit import Problem, problem_at

AVERAGES = ("ema", "switch_ema", "swa", "lawa")


def tables_of(recipe: Mapping[str, Any], *names: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The tables of this plugin's callbacks of these names, with their number."""
    known = {use for name in names for use in (name, f"trainkit_callbacks:{name}")}
    return ((index, table) for index, table in enumerate(recipe["callback"]) if table["use"] in known)


def timed_and_compiled(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where parameters are to join a program that was compiled without them."""
    if recipe["run"]["compile"] != "step":
        return
    for index, table in tables_of(recipe, "freeze"):
        if table["unfreeze"]:
            message = '[[callback]] freeze: compile = "step" cannot follow parameters that are unfrozen within the run'
            cure = 'write compile = "model" or compile = false, or leave unfreeze out'
            yield problem_at(recipe, f"callback.{index}.unfreeze", message, cure)
    for index, _ in tables_of(recipe, "gradual_unfreeze"):
        message = '[[callback]] gradual_unfreeze: compile = "step" cannot follow parameters that join within the run'
        cure = 'write compile = "model" or compile = false'
        yield problem_at(recipe, f"callback.{index}.use", message, cure)


def two_evaluations(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where lookahead's slow weights and an average would both be measured."""
    averages = [table["use"] for _, table in tables_of(recipe, *AVERAGES)]
    for index, table in tables_of(recipe, "lookahead"):
        if table["evaluate"] == "slow" and averages:
            message = f'[[callback]] lookahead: evaluate = "slow" takes over the evaluation, as {averages[0]} does'
            yield problem_at(recipe, f"callback.{index}.evaluate", message, 'write evaluate = "fast"')


def two_lookaheads(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where the optimizer's wrapper draws the weights back too, to slow weights of its own."""
    wrapped = any(table["use"].rpartition(":")[2] == "lookahead" for table in recipe["optimizer"]["wrap"])
    for index, _ in tables_of(recipe, "lookahead") if wrapped else ():
        message = "[[callback]] lookahead draws the weights back to slow ones, as [[optimizer.wrap]] lookahead does"
        yield problem_at(recipe, f"callback.{index}.use", message, "leave one of them out")


def without_validation(recipe: Mapping[str, Any]) -> str:
    """What of a recipe trains on the validation samples too: its runs, or the last one of its search."""
    if recipe["data"].get("train_on") == "train+val":
        return 'train_on = "train+val"'
    return "refit = true" if (recipe.get("search") or {}).get("refit") else ""


def figures_without_samples(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem for each early_stop that waits for a validation figure where there are no validation samples."""
    for index, table in tables_of(recipe, "early_stop"):
        monitor = table["monitor"]
        alone = without_validation(recipe) if monitor.startswith("val.") else ""
        if alone:
            said = f"[[callback]] early_stop looks at '{monitor}'"
            message = f"{said}, and {alone} leaves no validation samples to measure it on"
            cure = "leave early_stop out, and write as [run] duration the epochs that were best with validation"
            yield problem_at(recipe, f"callback.{index}.monitor", message, cure)
