"""One component from its table: nested components first, durations as updates, refusals as problems of the recipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainkit.catalogue import cache_folder
from trainkit.clock import Clock, Span
from trainkit.component import Component
from trainkit.errors import DataError, PluginDefect, RecipeError, TrainkitError
from trainkit.manager import Plugins
from trainkit.protocols import Phase, Progress
from trainkit.recipe import Recipe, data_roots, problem_at
from trainkit.returned import defect, wrong_object
from trainkit.settings import Nested, duration_limits, durations_inside, find_nested, is_duration, is_path, is_tuple
from trainkit.tables import OF_SEVERAL_RUNS

TablePath = tuple[str | int, ...]


def cache_root() -> Path:
    """Where downloads and decoded data are kept: TRAINKIT_CACHE, else the user's cache folder."""
    return Path(cache_folder()).resolve() if os.environ.get("TRAINKIT_CACHE") else Path(cache_folder())


class Builder:
    """Builds the components of one recipe.

    Args:
        recipe: the checked recipe.
        plugins: where factories come from.
        progress: told about long work, such as decoding images.
    """

    def __init__(self, recipe: Recipe, plugins: Plugins, progress: Progress) -> None:
        self.recipe = recipe
        self.tables = recipe.tables
        self.plugins = plugins
        self.clock: Clock | None = None
        self.optimizers: dict[str, Any] = {}  # every one that was built, by its table, for hooks that it may have
        self.given: dict[str, Any] = {
            "seed": self.tables["seed"],
            "data_root": data_roots()[0],
            "cache_root": cache_root(),
            "progress": progress,
        }

    def make(self, *path: str | int, **given: Any) -> Any:
        """Build the component that the table at ``path`` names.

        Raises:
            RecipeError: if the component refuses its settings or the data.
            PluginDefect: if the component raised anything else.
        """
        component = self.recipe.components[path]
        table = self.table(path)
        settings = {
            setting.name: self._value(setting.annotation, table[setting.name], (*path, setting.name), given)
            for setting in component.settings
        }
        known = self.given | given
        built = self._call(component, path, [known[name] for name in component.given], settings)
        if component.kind in ("optimizer", "wrapper"):
            self.optimizers[dotted(path)] = built
        return built

    def _call(self, component: Component, path: TablePath, given: list[Any], settings: dict[str, Any]) -> Any:
        what = f"[{dotted(path)}] {component.name}"
        try:
            built = component.factory(*given, **settings)
        except (DataError, ValueError) as error:
            # What a factory refuses is the recipe's to put right: a value out of its range, data it cannot use.
            message, _, cure = str(error).partition("\n")
            raise RecipeError([problem_at(self.tables, path, f"{what}: {message}", cure.strip())]) from error
        except (TrainkitError, MemoryError):
            raise
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":  # torch's, told by name: recipes are checked without it
                raise
            owner = self.plugins.owner(component)
            raise self.plugins.blame(error, f"building {what}") or PluginDefect(
                f"{owner} while building {what}: {type(error).__name__}: {error}"
            ) from error
        if wrong := wrong_object(component, built):
            raise defect(self.plugins, component, f"building {what}", wrong)
        return built

    def _value(self, annotation: Any, value: Any, path: TablePath, given: dict[str, Any]) -> Any:
        """Turn what the recipe says into what the factory takes."""
        if value is None:
            return None
        nested = find_nested(annotation)
        if nested is not None:
            if isinstance(value, list | tuple):
                return [self._nested(nested, (*path, i), given) for i in range(len(value))]
            return self._nested(nested, path, given)
        if path[0] in OF_SEVERAL_RUNS and (is_duration(annotation) or durations_inside(annotation) is not None):
            return value  # a search or an ensemble has no clock: only its runs have one
        if is_duration(annotation):
            return self.updates(value, path, annotation)
        if (item := durations_inside(annotation)) is not None:
            if isinstance(value, dict):
                return {name: self.updates(text, (*path, name), item) for name, text in value.items()}
            return [self.updates(text, (*path, i), item) for i, text in enumerate(value)]
        if is_path(annotation):
            return Path(value)
        if isinstance(value, list) and is_tuple(annotation):
            return tuple(value)
        return value

    def _nested(self, nested: Nested, path: TablePath, given: dict[str, Any]) -> Any:
        if nested.deferred:
            return lambda **more: self.make(*path, **(given | more))
        made = self.make(*path, **given)
        if nested.adds != "phase":
            return made
        length = self.table(path)["length"]
        return Phase(made, None if length is None else self.updates(length, (*path, "length")))

    def table(self, path: TablePath) -> Any:
        """The filled table at ``path``."""
        table: Any = self.tables
        for part in path:
            table = table[part]
        return table

    def updates(self, text: str, path: TablePath, annotation: Any = None) -> int:
        """Convert a duration of the recipe to updates.

        Raises:
            RecipeError: if its unit does not fit the data, or it comes to fewer updates than it must.
        """
        assert self.clock is not None
        try:
            updates = self.clock.updates(Span.parse(text))
        except ValueError as error:
            raise RecipeError([problem_at(self.tables, path, f'{dotted_name(path)} = "{text}": {error}')]) from error
        for limit in duration_limits(annotation):
            if not limit.holds(updates):
                message = f'{dotted_name(path)} = "{text}" comes to {updates} updates; it must be {limit}'
                cure = f"an epoch has {self.clock.updates_per_epoch} updates, the run {self.clock.total_updates}"
                raise RecipeError([problem_at(self.tables, path, message, cure)])
        return updates


def dotted_name(path: TablePath) -> str:
    """The setting at the end of a path, with its place in a list: ``every``, ``milestones.1``."""
    return f"{path[-2]}.{path[-1]}" if isinstance(path[-1], int) else path[-1]


def dotted(path: Sequence[str | int]) -> str:
    """The path as recipes and messages write it: ``data.augment.0``."""
    return ".".join(map(str, path))
