"""Ensembles of a component: gathered, fitted and stored as the core does it, and shared by its contracts."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainkit import checkpoint
from trainkit.component import Component
from trainkit.ensemble.together import reproducibly
from trainkit.ensembler import Member
from trainkit.errors import RecipeError, UsageError
from trainkit.instantiate import Builder
from trainkit.protocols import silent
from trainkit.recipe import Recipe
from trainkit.testing.build import path_of, recipe_of
from trainkit.testing.kept import once_for_each
from trainkit.testing.members import TASKS, TRAINED, TinyWorkshop, copied, samples, tiny_members, validation_of
from trainkit.testing.searches import global_generators


@once_for_each
def _recipe(component: Component) -> Recipe:
    return recipe_of(component)


def name_of(component: Component) -> str:
    """How messages call it."""
    return f"ensembler '{component.name}'"


def ensembler_of(component: Component, seed: int = 3) -> Any:
    """The ensembler that the component's example makes."""
    recipe = _recipe(component)
    return Builder(recipe, recipe.plugins, silent).make(*path_of("ensembler"), seed=seed)


def gathered(component: Component, folder: Path, task: str) -> tuple[Any, list[Member], list[Exception]]:
    """A new ensembler, and the members that it gathers: of runs that are given, of trials, or trained for it.

    Args:
        component: the component.
        folder: the ensemble folder.
        task: of `TASKS`.

    Returns:
        The ensembler, ``None`` where it refuses them all; its members; and what it raised where it refused some.
    """
    settings, refused = {**_recipe(component).tables["ensemble"]}, list[Exception]()
    for way in ("given", "trials", ""):
        there: dict[str, Any] = {way: tiny_members(task)} if way else {}
        workshop, ensembler = TinyWorkshop(folder, task, settings=settings, **there), ensembler_of(component)
        try:
            return ensembler, list(ensembler.gather(workshop)), refused
        except Exception as error:
            refused.append(error)
    return None, [], refused


def fit(component: Component, task: str, order: Sequence[int] | None = None, folder: Path | None = None) -> Any:
    """A fitted ensembler.

    Args:
        component: the component.
        task: of `TASKS`.
        order: the numbers of those of its members that it is given, in this order; ``None``: all.
        folder: the ensemble folder; ``None``: one that is removed.

    Raises:
        UsageError, RecipeError: if it refuses the task.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as made:
            return fit(component, task, order, Path(made))
    ensembler, members, refused = gathered(component, folder, task)
    if ensembler is None:
        raise refused[-1]
    chosen = members if order is None else [members[number] for number in order]
    for member in chosen:
        ensembler.add(member)
    with reproducibly():
        ensembler.fit(validation_of(chosen, task))
    return ensembler


@once_for_each
def refusals(component: Component) -> dict[str, Exception | None]:
    """By task what it raised, in gathering or fitting; ``None`` for a task that it takes."""
    found: dict[str, Exception | None] = {}
    for task in TASKS:
        try:
            fitted(component, task)
        except Exception as error:
            found[task] = error
        else:
            found[task] = None
    return found


def accepted(component: Component) -> list[str]:
    """The tasks that it takes."""
    found = [task for task, error in refusals(component).items() if error is None]
    why = "; ".join(f"{task}: {error}" for task, error in refusals(component).items())
    assert found, f"{name_of(component)}: it refuses every task of trainkit.testing.members.TASKS: {why}"
    return found


@once_for_each
def fitted(component: Component, task: str) -> Any:
    """A fitted ensembler of a task that all contracts share: they predict with it, and change nothing."""
    return fit(component, task)


@dataclass(frozen=True)
class Again:
    """A fit that was watched.

    Args:
        given: what the fitted ensembler predicts.
        changes: what fitting did to members and samples.
        drawn: the generators that everybody shares from which it drew.
    """

    given: Tensor
    changes: list[str]
    drawn: list[str]


@once_for_each
def fitted_again(component: Component, task: str) -> Again:
    """Fit once more, and watch it."""
    generators = global_generators()
    with tempfile.TemporaryDirectory() as folder:
        ensembler, members, refused = gathered(component, Path(folder), task)
        if ensembler is None:
            raise refused[-1]
        validation = validation_of(members, task)
        parts = (validation.outputs, validation.targets, validation.held_out, validation.index)
        kept = [part.clone() for part in parts]
        states = copy.deepcopy([member.module.state_dict() for member in members])
        for member in members:
            ensembler.add(member)
        with reproducibly():
            ensembler.fit(validation)
    changes = []
    for state, member in zip(states, members, strict=True):
        now = member.module.state_dict()
        if state.keys() != now.keys() or not all(torch.equal(state[key], value) for key, value in now.items()):
            changes.append(f"changed the weights of {member.name}")
        if any(part.training for part in member.module.modules()):
            changes.append(f"left {member.name} in training mode")
    if not all(map(torch.equal, kept, parts)):
        changes.append("changed the samples")
    given = given_by(ensembler, task)
    return Again(given, changes, [which for which, state in global_generators().items() if state != generators[which]])


def given_by(ensembler: Any, task: str, rows: slice = slice(None), what: str = "predict") -> Tensor:
    """What it predicts for the samples, or for some of them; or another of its functions of a batch."""
    with torch.no_grad(), reproducibly():  # which way is quicker is timed, and rounds otherwise
        outputs: Tensor = getattr(ensembler, what)(samples(task)[0][TRAINED:][rows])
    return outputs


def meant(outputs: Tensor, task: str) -> Tensor:
    """What outputs stand for: probabilities, or numbers."""
    spec = TASKS[task]
    if spec.task == "regression":
        return outputs
    return outputs.sigmoid() if spec.task == "binary" else outputs.softmax(-1)


def stored(ensembler: Any) -> tuple[Any, dict[str, Tensor]]:
    """The state of a fitted ensembler as a file holds it: plain data as JSON gives it back, and tensors apart.

    Raises:
        TypeError: naming what cannot be saved.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.loads(json.dumps(checkpoint.split_state(ensembler.state(), "state", tensors)))
    return plain, {name: tensor.clone() for name, tensor in tensors.items()}


def opened(component: Component, ensembler: Any) -> Any:
    """A new ensembler with members and state of a fitted one, as a file would give them back."""
    state = checkpoint.join_state(*stored(ensembler))
    fresh = ensembler_of(component)
    for member in copied(ensembler.members()):
        fresh.add(member)
    fresh.load_state(state)
    return fresh


def refuses_well(error: Exception) -> bool:
    """Whether an error is how an ensembler may refuse, with a cure on a line of its own."""
    return isinstance(error, UsageError | RecipeError) and "\n" in str(error).strip()
