"""An ensembler made from a recipe before anything runs, so that what it refuses is found by ``validate``."""

from __future__ import annotations

from trainkit.errors import MachineError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe


def check_ensembler(recipe: Recipe) -> None:
    """Hold that a recipe's ensembler and executor take their settings.

    A library that they need and this machine does not have says nothing about the recipe.

    Raises:
        RecipeError: if they do not.
    """
    builder = Builder(recipe, recipe.plugins, silent)
    for path in (("ensemble",), ("ensemble", "executor")):
        try:
            builder.make(*path)
        except MachineError:
            continue
