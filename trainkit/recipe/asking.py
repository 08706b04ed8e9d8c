"""What the plugins of a recipe say of it: their hook ``trainkit_check_recipe``, one plugin after the other."""

from __future__ import annotations

from trainkit.errors import PluginDefect, Problem
from trainkit.hooking import hooks_of
from trainkit.recipe.filled import Recipe
from trainkit.recipe.fixed import FixedTables
from trainkit.recipe.text import shown


def ask_plugins(recipe: Recipe) -> list[Problem]:
    """Ask every plugin that a recipe uses for problems between its settings.

    Raises:
        PluginDefect: naming the plugin, if it fails, gives something else than problems, or changes the recipe.
    """
    found: list[Problem] = []
    fixed = FixedTables(recipe.tables)
    for plugin in recipe.plugins_in_use():  # one by one, so that whatever is wrong has a name
        manager = hooks_of(plugin.module, plugin.name)
        try:
            answers = manager.hook.trainkit_check_recipe(recipe=fixed)
        except Exception as error:
            said = f"{plugin} in hook trainkit_check_recipe: {type(error).__name__}: {error}"
            raise recipe.plugins.blame(error, "the recipe was checked") or PluginDefect(said) from error
        for answer in answers:
            if not isinstance(answer, list | tuple) or not all(isinstance(problem, Problem) for problem in answer):
                gave = shown(repr(answer))
                raise PluginDefect(f"{plugin} in hook trainkit_check_recipe: gave {gave}, not a list of problems")
            found.extend(answer)
    return found
