"""From a recipe and its bases to one set of tables: ``extends``, ``drop``, overrides, in that order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from trainkit.errors import Place, Problem, RecipeError
from trainkit.manager import Plugins
from trainkit.recipe.bases import open_base
from trainkit.recipe.merge import Composed, spelled_out
from trainkit.recipe.migrate import renewed
from trainkit.recipe.needs import shipped_by
from trainkit.recipe.overrides import apply_overrides, drop_keys
from trainkit.recipe.packed import Pack, PackedOverride
from trainkit.recipe.positions import Source
from trainkit.recipe.requires import check_requires
from trainkit.recipe.text import shown, shown_value

MAX_DEPTH = 8
# A few files that extend each other many times over could make millions of layers.
MAX_LAYERS = 64


def compose(
    source: Source, overrides: Sequence[str], plugins: Plugins, show: Callable[[str], None] | None = None
) -> tuple[Composed, list[Problem]]:
    """Put a recipe together: bases in order, then the recipe, then what its pack lays over it, then the command line.

    Args:
        source: the recipe.
        overrides: ``key=value`` of the command line.
        plugins: the installed plugins.
        show: shown what of files of an older format is read as something else.

    Returns:
        The tables, and what is wrong with ``drop`` and the overrides.

    Raises:
        RecipeError: if a base is missing, cannot be read, extends itself, or has a newer format.
    """
    composer = _Composer(plugins, show)
    try:
        composed = composer.layers(source, ())
    except RecipeError as error:
        raise RecipeError(_with_command(error.problems, source, composer.opened)) from None
    composed.sources = [source, *composer.opened]
    problems = composer.problems
    if source.pack is not None:
        problems += _idle_bases(source.pack, composer.opened)
        composed.put(PackedOverride("", source.pack.name), {"requires": source.pack.requires})
        problems += apply_overrides(composed, source.pack.overrides, partial(PackedOverride, name=source.pack.name))
    return composed, problems + apply_overrides(composed, overrides)


def _with_command(problems: list[Problem], source: Source, opened: Sequence[Source]) -> list[Problem]:
    """What keeps a recipe from being put together; of packages that are not installed, ``requires`` knows the command.

    Args:
        problems: what is wrong.
        source: the recipe.
        opened: its bases that could be read.
    """
    if not any(problem.environment for problem in problems):
        return problems
    for text in (source, *reversed(opened)):
        if "requires" in text.tables:
            composed = Composed(source.name)
            composed.put(text, {"requires": text.tables["requires"]})
            if lacking := [problem for problem in check_requires(composed) if problem.environment]:
                return [*(problem for problem in problems if not problem.environment), *lacking]
            break  # it counts more than those of the others
    return problems


def _idle_bases(pack: Pack, opened: Sequence[Source]) -> list[Problem]:
    idle = sorted(pack.bases.keys() - {source.within for source in opened})
    message = "the pack holds the base '{}', which nothing in it extends"
    return [Problem(Place(pack.name), message.format(shown(name)), "have it made anew") for name in idle]


class _Composer:
    def __init__(self, plugins: Plugins, show: Callable[[str], None] | None) -> None:
        self.plugins = plugins
        self.show = show
        self.shown: set[str] = set()
        self.problems: list[Problem] = []
        # Files asked for, those that are missing too; the recipe itself is the first.
        self.count = 1
        self.opened: list[Source] = []

    def layers(self, source: Source, chain: tuple[Source, ...]) -> Composed:
        """Compose ``source`` with its bases; ``chain`` holds the recipes that lead to it."""
        composed = Composed(source.name)
        # Every base that is missing is named, not the first alone.
        missing: list[Problem] = []
        now = self._renewed(source)
        for number, base in enumerate(extended(now)):
            if missing and self.count >= MAX_LAYERS:
                break  # said once, not for each of thousands
            place = now.place(("extends", number))
            try:
                opened = self._open(base, source, place, (*chain, source))
                composed.lay(self.layers(opened, (*chain, source)))
            except RecipeError as error:
                missing.extend(error.problems)
        if missing:
            raise RecipeError(missing)
        own = dict(now.tables)
        own.pop("extends", None)
        self.problems.extend(drop_keys(composed, own.pop("drop", []), now))
        composed.put(now, spelled_out(own))
        return composed

    def _renewed(self, source: Source) -> Source:
        """The recipe in the newest format; what is read as something else is shown once."""
        told, name = self.show, _identity(source)
        if name in self.shown:
            told = None
        self.shown.add(name)
        try:
            return renewed(source, told)
        except RecipeError as error:
            ships = shipped_by(source.package, self.plugins) if source.package else ""
            if not ships:
                raise
            told_by = [replace(problem, message=f"{problem.message}; {ships} ships it") for problem in error.problems]
            raise RecipeError(told_by) from None

    def _open(self, base: str, source: Source, place: Place, chain: tuple[Source, ...]) -> Source:
        if len(chain) > MAX_DEPTH:
            raise RecipeError([Problem(place, f"bases are stacked more than {MAX_DEPTH} deep", "extend fewer")])
        if self.count >= MAX_LAYERS:
            raise RecipeError([Problem(place, f"the recipe has more than {MAX_LAYERS} bases", "extend fewer")])
        self.count += 1
        opened = open_base(base, source, place, self.plugins)
        names = [_identity(link) for link in chain]
        if _identity(opened) in names:
            circle = [*chain[names.index(_identity(opened)) :], opened]
            path = " extends ".join(shown(link.name) for link in circle)
            raise RecipeError([Problem(place, f"bases go round in a circle: {path}", "take one of them out")])
        self.opened.append(opened)
        return opened


def extended(source: Source) -> list[str]:
    """What a recipe says it ``extends``.

    Raises:
        RecipeError: if that is no list of names.
    """
    written: Any = source.tables.get("extends", [])
    bases = [written] if isinstance(written, str) else written
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        message = f"extends must be the name of a recipe or a list of names, got {shown_value(written)}"
        raise RecipeError([Problem(source.place(("extends",)), message, 'such as extends = "base.toml"')])
    return bases


def _identity(source: Source) -> str:
    return str(source.file.resolve()) if source.file is not None else source.name
