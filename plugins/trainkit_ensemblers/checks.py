"""What lies between ``[ensemble]`` and the other tables of a recipe, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainkit import Problem, problem_at

# Ensemblers that cut the training samples themselves: which settings of [data] they set.
CUTS = {"folds": ("folds", "fold", "bag"), "bagging": ("bag",)}
OWN_MODELS = ("linear", "resnet")  # of the models that trainkit brings, those that have no dropout at all
OF_RUNS = ("uniform", "greedy")  # means that take runs which must have begun alike


def _is(table: Mapping[str, Any], name: str) -> bool:
    """Whether a table is of this plugin's component of this name."""
    return table.get("use") in (name, f"trainkit_ensemblers:{name}")


def _table(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """``[ensemble]``, or what teaches there, if it is this plugin's component of this name; else an empty table."""
    table = recipe.get("ensemble") or {}
    if _is(table, "distil"):
        table = table.get("of") or {}
    return table if _is(table, name) else {}


def own_cuts(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where the recipe cuts its samples as the ensembler is going to."""
    for use, keys in CUTS.items():
        for key in keys if _table(recipe, use) else ():
            value = recipe["data"].get(key)
            if value is None or (key == "fold" and value == 0):  # a recipe that is filled names fold 0
                continue
            message = (
                f"[ensemble] {use} trains each run on another cut of the samples, and [data] {key} = {value} is one"
            )
            yield problem_at(recipe, f"data.{key}", message, f"leave {key} out of [data]")


def _varied(recipe: Mapping[str, Any]) -> list[str]:
    """The settings that a search varies."""
    return list((recipe.get("search") or {}).get("space") or {})


def without_dropout(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where mc_dropout is to make passes through a model that drops nothing."""
    if not _table(recipe, "mc_dropout"):
        return
    model = recipe["model"]
    shares = {key: value for key, value in model.items() if "dropout" in key and not isinstance(value, str)}
    if any(shares.values()) or any(key.startswith("model") for key in _varied(recipe)):
        return
    name = model["use"]
    if shares:
        key = next(iter(shares))
        message = f"[ensemble] mc_dropout needs dropout, and the model has none: {key} = {shares[key]}"
        yield problem_at(recipe, f"model.{key}", message, f"write {key} = 0.1 in [model], or use another ensembler")
    elif name.removeprefix("trainkit_models:") in OWN_MODELS:
        message = f"[ensemble] mc_dropout needs a model with dropout, and {name} has none"
        yield problem_at(recipe, "model.use", message, "use a model with dropout, such as mlp, or another ensembler")


def strange_trials(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where the trials whose weights are to be averaged cannot have begun alike."""
    table = _table(recipe, "average")
    if not table or not recipe.get("search") or table.get("method") not in OF_RUNS:
        return
    cure = 'leave it out of [search.space], or average what trials give: use = "greedy" in [ensemble]'
    for key in _varied(recipe):
        if key == "seed" and not table.get("force"):
            message = "[ensemble] average: trials that differ in their seed begin with different weights"
            yield problem_at(recipe, "ensemble.use", message, cure)
        elif key == "model" or (key.startswith("model.") and "drop" not in key):
            message = f"[ensemble] average: trials that differ in {key} have weights that do not fit each other"
            yield problem_at(recipe, "ensemble.use", message, cure)
    for key, none in (("repeats", 1), ("folds", None)):
        value = recipe["search"].get(key, none)
        if value != none:
            message = (
                f"[ensemble] average: with [search] {key} = {value} a trial is several runs, not one set of weights"
            )
            yield problem_at(recipe, f"search.{key}", message, f"leave {key} out, or use another ensembler")
