"""What lies between ``[ensemble]`` and the other tables of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trainkit import Problem, problem_at

# Ensemblers that cut the training samples themselves: which settings of [data] they set.
CUTS = {"folds": ("folds", "fold", "bag"), "bagging": ("bag",)}


def own_cuts(recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """A problem where the recipe cuts its samples as the ensembler is going to."""
    table = recipe.get("ensemble") or {}
    use = str(table.get("use", "")).rpartition(":")[2]
    for key in CUTS.get(use, ()):
        value = recipe["data"].get(key)
        if value is None or (key == "fold" and value == 0):  # a recipe that is filled names fold 0
            continue
        message = f"[ensemble] {use} trains each run on another cut of the samples, and [data] {key} = {value} is one"
        yield problem_at(recipe, f"data.{key}", message, f"leave {key} out of [data]")
