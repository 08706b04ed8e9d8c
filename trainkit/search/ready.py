"""A searcher made ready for a recipe's space, or what is wrong with the two together; torch is not needed for that."""

from __future__ import annotations

from trainkit.errors import MachineError, RecipeError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe, problem_at, search_of
from trainkit.trial import Searcher


def begin_searcher(searcher: Searcher, recipe: Recipe) -> None:
    """Let a new searcher get ready for a recipe's space.

    Raises:
        RecipeError: if it cannot search it.
    """
    search = search_of(recipe)
    try:
        searcher.begin(search.space, search.objectives, search.settings["trials"])
    except ValueError as error:
        message, _, cure = str(error).partition("\n")
        text = f"[search] {search.settings['use']}: {message}"
        raise RecipeError([problem_at(recipe.tables, "search.use", text, cure.strip())]) from error


def check_searcher(recipe: Recipe) -> None:
    """Hold that a recipe's searcher can search its space with so many trials.

    A library that the searcher needs and this machine does not have says nothing about the recipe.

    Raises:
        RecipeError: if it cannot.
    """
    try:
        begin_searcher(Builder(recipe, recipe.plugins, silent).make("search"), recipe)
    except MachineError:
        return
