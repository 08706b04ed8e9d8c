"""Ensemblers: one model of several. Listing them does not import torch."""

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
