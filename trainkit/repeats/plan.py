"""Which runs repeat a recipe: their names, their seeds and folds, and the recipe of each."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainkit.errors import UsageError
from trainkit.files import Unfit
from trainkit.forms import object_in
from trainkit.recipe import Recipe
from trainkit.recipe.check import check_recipe
from trainkit.recipe.overrides import apply_overrides
from trainkit.tables import OF_SEVERAL_RUNS

MOST = 1000  # runs of one recipe
_NAME = re.compile(r"(?:seed-(0|[1-9]\d{0,18}))?(-)?(?:fold-(0|[1-9]\d{0,5}))?")


@dataclass(frozen=True)
class Repeat:
    """One of the runs.

    Args:
        seed: its seed; ``None`` for the recipe's.
        fold: which fold is held out; ``None`` where samples are cut as the recipe says.
    """

    seed: int | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        """What its folder and messages call it: ``seed-17``, ``fold-0``, ``seed-17-fold-0``."""
        parts = (("seed", self.seed), ("fold", self.fold))
        return "-".join(f"{word}-{number}" for word, number in parts if number is not None)


@dataclass(frozen=True)
class Plan:
    """Which runs there are.

    Args:
        repeats: the runs, in their order.
        folds: into how many parts samples are cut; 0 where they are cut as the recipe says.
    """

    repeats: tuple[Repeat, ...] = field(default=())
    folds: int = 0

    @property
    def over(self) -> str:
        """What the runs differ in: ``seed``, ``fold``, or ``seed and fold``."""
        seeds = any(repeat.seed is not None for repeat in self.repeats)
        return " and ".join(word for word, there in (("seed", seeds), ("fold", self.folds)) if there)

    def as_json(self) -> str:
        """What ``repeats.json`` holds."""
        held = {"over": self.over, "runs": [repeat.name for repeat in self.repeats], "folds": self.folds or None}
        return json.dumps(held, indent=2) + "\n"


def planned(seeds: str | None, folds: str | None, first: int) -> Plan:
    """The runs that ``--seeds`` and ``--folds`` ask for: every pair of the two, the folds of one seed together.

    Args:
        seeds: how many, counted on from the recipe's, or the seeds themselves: ``5`` or ``1,2,3``.
        folds: how many.
        first: the recipe's seed.

    Raises:
        UsageError: if they ask for none, too many, or one twice.
    """
    chosen: list[int | None] = [None] if seeds is None else [*_seeds(seeds, first)]
    parts = 0 if folds is None else _folds(folds)
    numbers: list[int | None] = [*range(parts)] if parts else [None]
    if (count := len(chosen) * len(numbers)) > MOST:
        raise UsageError(f"--seeds and --folds ask for {count} runs; at most {MOST} are made by one command")
    return Plan(tuple(Repeat(seed, fold) for seed in chosen for fold in numbers), parts)


def _seeds(text: str, first: int) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if len(words) > 1 and not words[-1]:  # "17," is the one seed 17, where "17" is seventeen of them
        words.pop()
    if not all(word.isascii() and word.isdecimal() and len(word) <= 19 for word in words):
        raise UsageError(f"--seeds {text}: write how many, such as 5, or the seeds themselves, such as 1,2,3")
    numbers = [int(word) for word in words]
    if "," not in text:
        count = numbers[0]
        if not 1 <= count <= MOST:
            raise UsageError(f"--seeds {text}: write a number from 1 to {MOST}; {text}, is the one seed {text}")
        return [*range(first, first + count)]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise UsageError(f"--seeds {text}: the seed {twice[0]} comes twice, and would give the same run twice")
    return numbers


def _folds(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 2 <= (count := int(text[:9])) <= MOST:
        raise UsageError(f"--folds {text}: write into how many parts the samples are cut, from 2 to {MOST}")
    return count


def plan_from(text: str, name: str) -> Plan:
    """The plan that a ``repeats.json`` holds, which may be a stranger's.

    Args:
        text: what it holds.
        name: what messages call it.

    Raises:
        UsageError: if it is no plan.
    """
    try:
        found: dict[str, Any] = object_in(text.encode())
    except (ValueError, Unfit) as error:
        raise UsageError(f"{name}: it does not say which runs there are: {error}") from error
    names, folds = found.get("runs"), found.get("folds")
    fits = isinstance(names, list) and 1 <= len(names) <= MOST and all(isinstance(one, str) for one in names)
    repeats = [_repeat(one) for one in names] if fits and isinstance(names, list) else []
    whole = [one for one in repeats if one is not None]
    cut = {one.fold is not None for one in whole}
    right = bool(whole) and len(whole) == len(repeats) == len(set(whole)) and len(cut) == 1
    if not right or (folds is not None) != (True in cut) or not (folds is None or _is_count(folds)):
        raise UsageError(f'{name}: it does not say which runs there are, such as {{"runs": ["seed-0", "seed-1"]}}')
    return Plan(tuple(whole), folds or 0)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= MOST


def _repeat(name: str) -> Repeat | None:
    """The run that a name means; ``None`` if it is no such name: it becomes part of a path."""
    found = _NAME.fullmatch(name)
    if found is None or not name:
        return None
    made = Repeat(*(int(part) if part is not None else None for part in found.group(1, 3)))
    return made if made.name == name else None


def is_plain(recipe: Recipe) -> bool:
    """Whether a recipe is that of one run: it has neither ``[search]`` nor ``[ensemble]``."""
    return not any(table in recipe.tables for table in OF_SEVERAL_RUNS)


def recipe_of(recipe: Recipe, repeat: Repeat, folds: int = 0, more: Sequence[str] = ()) -> Recipe:
    """The checked recipe of one of the runs.

    Args:
        recipe: the checked recipe that is repeated.
        repeat: which run.
        folds: into how many parts samples are cut; 0 leaves them as they are.
        more: other changes, as ``key=value``.

    Raises:
        RecipeError: if it goes with neither another seed nor folds.
    """
    lines = [*more]
    if repeat.seed is not None:
        lines.append(f"seed={repeat.seed}")
    if repeat.fold is not None:
        lines += [f"data.folds={folds}", f"data.fold={repeat.fold}"]
    return changed(recipe, lines)


def changed(recipe: Recipe, lines: Sequence[str]) -> Recipe:
    """A checked recipe with changes, as ``key=value``; itself where there are none.

    Raises:
        RecipeError: if it does not go with them.
    """
    if not lines:
        return recipe
    composed = copy.deepcopy(recipe.tables.composed)
    made = check_recipe(composed, apply_overrides(composed, lines), recipe.plugins)
    made.pack = recipe.pack
    return made
