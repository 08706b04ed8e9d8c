"""What the plugins of a recipe say of it: their hook ``trainkit_check_recipe``, one plugin after the other."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from trainkit.errors import PluginDefect, Problem
from trainkit.hooking import hooks_of
from trainkit.recipe.filled import Recipe
from trainkit.recipe.text import shown, shown_value


def ask_plugins(recipe: Recipe) -> list[Problem]:
    """Ask every plugin that a recipe uses for problems between its settings.

    Raises:
        PluginDefect: naming the plugin, if it fails, gives something else than problems, or changes the recipe.
    """
    found: list[Problem] = []
    for plugin in recipe.plugins_in_use():  # one by one, so that whatever is wrong has a name
        manager = hooks_of(plugin.module, plugin.name)
        checks = manager.hook.trainkit_check_recipe.get_hookimpls()
        before = copy.deepcopy(dict(recipe.tables)) if checks else {}
        try:
            answers = manager.hook.trainkit_check_recipe(recipe=recipe.tables)
        except Exception as error:
            said = f"{plugin} in hook trainkit_check_recipe: {type(error).__name__}: {error}"
            raise recipe.plugins.blame(error, "the recipe was checked") or PluginDefect(said) from error
        for answer in answers:
            if not isinstance(answer, list | tuple) or not all(isinstance(problem, Problem) for problem in answer):
                gave = shown(repr(answer))
                raise PluginDefect(f"{plugin} in hook trainkit_check_recipe: gave {gave}, not a list of problems")
            found.extend(answer)
        if checks and (change := _change(before, recipe.tables)):
            code = inspect.unwrap(checks[0].function).__code__
            raise PluginDefect(
                f"{plugin} in hook trainkit_check_recipe: it changed the recipe: {change}\n"
                f"  the hook is at {code.co_filename}:{code.co_firstlineno}; "
                "a check gives problems and changes nothing\n"
                f"  this is a defect of {plugin.distribution}"
            )
    return found


def _change(was: Any, now: Any, key: str = "") -> str:
    """The first difference between two tables, ``""`` where there is none."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in [*was, *(name for name in now if name not in was)]:
            inner = f"{key}.{name}" if key else str(name)
            if name not in was or name not in now:
                what = "is new" if name not in was else "is gone"
                return f"{shown(inner)} {what}"
            if found := _change(was[name], now[name], inner):
                return found
        return ""
    return "" if was == now else f"{shown(key)} was {shown_value(was)} and is {shown_value(now)}"
