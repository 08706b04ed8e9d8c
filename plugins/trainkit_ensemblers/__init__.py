"""Ensemblers: one model of several. Listing them does not import torch.

The factories, with all settings, and the modules that hold what they make:

- `methods`, which combine what members give: `weighted` (seeds, folds, bagging, vote, and the base of nearly all),
  `selection` (topk, greedy, convex; `greedily` is the search of greedy), `stacked` (stacking; `linear` fits its model).
- `of_weights`, of one run or of means of weights: `soups` (average; `averaging` takes the means), `cycles` (snapshots,
  fge), `passes` (mc_dropout; `masks` draws what is dropped).
- `students`, the ensembler distil: `pupil`; and `teaching`, the callback distil that a student is trained with:
  `lessons`.
- `inside`, the models packed and batch_ensemble: `grouped`, `factors`; `several` is the base of both.

All of them use `gathering` (where members come from), `measuring` (by what is chosen), `combining` (one output of many)
and `checks` (what a recipe cannot say beside them).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Component, Problem, hookimpl
from trainkit_ensemblers import checks, inside, methods, of_weights, students, teaching


@hookimpl
def trainkit_components() -> list[Component]:
    return [*methods.COMPONENTS, *of_weights.COMPONENTS, *students.ENSEMBLERS, *inside.MODELS, *teaching.CALLBACKS]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    return [*checks.own_cuts(recipe), *checks.without_dropout(recipe), *checks.strange_trials(recipe)]
