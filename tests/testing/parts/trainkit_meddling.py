"""A plugin whose check changes the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainkit import Component, Problem, Schedule, hookimpl


def constant(*, value: float = 1.0) -> Schedule:
    """Stay.

    Args:
        value: the factor.
    """
    return lambda t, T, events=(): value


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("schedule", constant, "meddling")]


@hookimpl
def trainkit_check_recipe(recipe: Mapping[str, Any]) -> list[Problem]:
    recipe["schedule"]["value"] = 2.0
    return []
