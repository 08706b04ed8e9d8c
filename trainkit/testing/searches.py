"""Whole searches of a component, carried out without runs, and shared by its contracts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from trainkit.component import Component
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe
from trainkit.space import Space
from trainkit.testing.build import path_of, recipe_of
from trainkit.testing.kept import once_for_each
from trainkit.testing.simulated import Simulated, ToldAsWorst, simulate
from trainkit.testing.spaces import SPACES, any_figure
from trainkit.trial import Objective, Searcher, Trial

TRIALS = 24
LOSS = (Objective("val.loss"),)


@once_for_each
def _recipe(component: Component) -> Recipe:
    return recipe_of(component)


def searcher_of(component: Component, seed: int = 3) -> Any:
    """The searcher that the component's example makes, with a seed."""
    recipe = _recipe(component)
    return Builder(recipe, recipe.plugins, silent).make(*path_of("searcher"), seed=seed)


def begun(component: Component, space: Space, seed: int = 3) -> Searcher:
    """A new searcher that has begun."""
    searcher: Searcher = searcher_of(component, seed)
    searcher.begin(space, LOSS, TRIALS)
    return searcher


def refusal(component: Component, space: Space) -> Exception | None:
    """What it raises when it is to search a space; ``None`` where it searches it."""
    try:
        begun(component, space)
    except Exception as error:
        return error
    return None


@once_for_each
def accepted(component: Component) -> Mapping[str, Space]:
    """The spaces that a searcher does not refuse, by name."""
    found = {name: space for name, space in SPACES.items() if refusal(component, space) is None}
    assert found, f"{name_of(component)}: it refuses every space of trainkit.testing.spaces"
    return found


def failing(trial: Trial) -> str | None:
    """The first four fail, and later every third."""
    return ("oom", "nan", "killed")[trial.number % 3] if trial.number < 4 or trial.number % 3 == 1 else None


@once_for_each
def study_of(component: Component, space: str, workers: int = 1, fails: bool = False) -> Simulated:
    """A whole search of one of the spaces."""
    searcher = ToldAsWorst(searcher_of(component))
    return searched(component, searcher, SPACES[space], workers=workers, fails=failing if fails else lambda trial: None)


def counts(component: Component, space: str) -> tuple[int, ...]:
    """How many workers search a space: of the first that a searcher accepts also several."""
    return (1, 3) if space == next(iter(accepted(component))) else (1,)


@once_for_each
def once_more(component: Component) -> tuple[Simulated, list[str]]:
    """A search of the first space by three workers, as `study_of` has it, and the shared generators it drew from."""
    before = global_generators()
    study = searched(component, searcher_of(component), next(iter(accepted(component).values())), workers=3)
    return study, [which for which, state in global_generators().items() if state != before[which]]


@once_for_each
def exhausted(component: Component, space: str) -> tuple[Simulated, Any]:
    """A search of a space for twice as many trials, and why it ended."""
    searcher = searcher_of(component)
    study = searched(component, searcher, SPACES[space], trials=2 * TRIALS, workers=2)
    return study, getattr(searcher, "exhausted", lambda: "")()


def searched(component: Component, searcher: Any, space: Space, **changes: Any) -> Simulated:
    """A search by a searcher of the component; ``changes`` are arguments of `simulate`."""
    settings = {"trials": TRIALS, "space": space, "name": name_of(component), "pure": False, **changes}
    return simulate(searcher, any_figure, **settings)


def name_of(component: Component) -> str:
    """How messages call it."""
    return f"searcher '{component.name}'"


def global_generators() -> dict[str, Any]:
    """The states of the generators that everybody shares."""
    import numpy
    import torch

    return {
        "Python": random.getstate(),
        "NumPy": str(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
    }
