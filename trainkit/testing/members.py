"""Members of ensembles that were trained for a moment, samples to choose by, and a workshop that makes more of them.

They are models of the tiny recipe with weights of their own, so that what is made of them can be stored, opened,
averaged and taught like any ensemble.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.ensemble.artefact import artefact_of, write_artefact
from trainkit.ensemble.rebuild import built_from
from trainkit.ensembler import Cost, Ensembler, Member, Validation
from trainkit.recipe import Recipe, recipe_from_text, trial_recipe
from trainkit.recipe.paths import users_paths
from trainkit.tables import COMPONENT_TABLES
from trainkit.testing.listed import installed
from trainkit.testing.tiny import TINY
from trainkit.weights import renew_statistics

TRAINED, SAMPLES = 60, 80  # samples that members are trained on, and samples that they are chosen by
_SIZES = {"train": TRAINED, "val": SAMPLES, "test": 10}
TASKS: Mapping[str, DataSpec] = {
    "classes": DataSpec((6,), "classification", 3, ("a", "b", "c"), (20, 20, 20), _SIZES, "0" * 64),
    "binary": DataSpec((6,), "binary", 1, ("no", "yes"), (30, 30), _SIZES, "1" * 64),
    "numbers": DataSpec((6,), "regression", 2, sizes=_SIZES, fingerprint="2" * 64),
}
STEPS = (8, 14, 20, 26)  # that members are trained for: each knows more than the one before


def loss_of(spec: DataSpec, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss that members of a task are trained with."""
    if spec.task == "regression":
        return nn.functional.mse_loss(outputs, targets)
    if spec.task == "binary":
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets)
    return nn.functional.cross_entropy(outputs, targets)


@functools.cache
def samples(task: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets: those that members are trained on, then those that they are chosen by."""
    spec, chance = TASKS[task], torch.Generator().manual_seed(4)
    inputs = torch.randn(TRAINED + SAMPLES, 6, generator=chance)
    rule = torch.randn(6, 3, generator=chance)
    clear = inputs @ rule + 0.8 * torch.randn(len(inputs), 3, generator=chance)
    if spec.task == "regression":
        return inputs, clear[:, :2]
    return inputs, clear.argmax(1) if spec.task == "classification" else (clear[:, 0] > 0).float()


_MATCHING: Mapping[str, Mapping[str, Any]] = {  # what the tiny recipe has in place of its own for a task
    "classes": {},
    "binary": {"data": {**TINY["data"], "task": "binary"}, "loss": {"use": "binary"}},
    "numbers": {"data": {**TINY["data"], "task": "regression", "classes": 2}, "loss": {"use": "mse"}, "metric": []},
}


@functools.cache
def base_recipe(task: str) -> Recipe:
    """The tiny recipe with data and loss of a task, which members are trained from."""
    return recipe_from_text(tomli_w.dumps({**TINY, **_MATCHING[task]}), "the tiny recipe", [], installed())


_TRAINED: dict[tuple[str, str, int], nn.Module] = {}


def trained(recipe: Recipe, task: str, steps: int) -> nn.Module:
    """The model of a recipe, trained for some updates; no random number is used up."""
    key = json.dumps([recipe.tables["seed"], recipe.tables["model"]], default=str), task, steps
    if key not in _TRAINED:
        _TRAINED[key] = _trained(recipe, task, steps)
    return copy.deepcopy(_TRAINED[key])


def _trained(recipe: Recipe, task: str, steps: int) -> nn.Module:
    inputs, targets = (part[:TRAINED] for part in samples(task))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        model = built_from(recipe, TASKS[task]).train()
        torch.manual_seed(recipe.tables["seed"])
        for _ in range(steps):
            model.zero_grad()
            loss_of(TASKS[task], model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.3 * parameter.grad)
    model.zero_grad()
    return model.eval().requires_grad_(False)


def _member(name: str, recipe: Recipe, task: str, steps: int, folder: Path) -> Member:
    return Member(
        name,
        trained(recipe, task, steps),
        {**recipe.tables},
        TASKS[task],
        ancestors=frozenset({f"{recipe.tables['seed']:064x}"}),
        cost=Cost(steps, steps / 3, 1.0),
        folder=folder,
        step=steps,
    )


@functools.cache
def _recipe_of_run(task: str, number: int) -> Recipe:
    return trial_recipe(base_recipe(task), {}, {"seed": 5 + number, "data.seed": 5})


def tiny_members(task: str = "classes") -> list[Member]:
    """Four members of a task, ``classes``, ``binary`` or ``numbers``; each knows more than the one before."""
    return [
        _member(f"run {number}", _recipe_of_run(task, number), task, steps, Path("runs") / str(number))
        for number, steps in enumerate(STEPS)
    ]


def copied(members: Sequence[Member]) -> list[Member]:
    """The members with modules of their own."""
    return [dataclasses.replace(member, module=copy.deepcopy(member.module)) for member in members]


_RECIPES: dict[tuple[str, str], Recipe] = {}


class TinyWorkshop:
    """A `trainkit.Workshop` whose runs take a moment and leave no folder.

    Args:
        folder: where an ensemble that teaches is stored.
        task: of the members.
        given: finished runs that a user named, or ``None``.
        trials: trials of a search, or ``None``.
        settings: the filled table ``[ensemble]``.
    """

    def __init__(
        self,
        folder: Path,
        task: str = "classes",
        given: Sequence[Member] | None = None,
        trials: Sequence[Member] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe: Mapping[str, Any] = {**base_recipe(task).tables}
        self.settings: Mapping[str, Any] = settings or {}
        self.given, self.trials = given, trials
        self.seed: int = self.recipe["seed"]
        self.folder = folder
        self.spec = TASKS[task]
        self.task = task
        self.said: list[str] = []
        self.trained = 0
        self._recipes: dict[str, Recipe] = {}

    def train(self, changes: Sequence[Mapping[str, Any]], parent: Member | None = None) -> list[Member]:
        """Train a run for each set of changes, which must make a recipe."""
        fresh = []
        for change in changes:
            number, self.trained = self.trained, self.trained + 1
            name, recipe = f"member {number}", self._changed(change)
            member = _member(name, recipe, self.task, STEPS[number % len(STEPS)], self.folder / "members" / str(number))
            if parent is not None:
                member = dataclasses.replace(member, ancestors=member.ancestors | parent.ancestors)
            self._recipes[name] = recipe
            fresh.append(member)
        return fresh

    def _changed(self, change: Mapping[str, Any]) -> Recipe:
        values = dict(change) if "data" in change else {"data.seed": self.seed, **change}
        key = self.task, json.dumps(values, default=str)
        if key not in _RECIPES:
            base = base_recipe(self.task)
            with users_paths(base, self.folder):
                _RECIPES[key] = trial_recipe(base, {}, values)
        return _RECIPES[key]

    def checkpoints(self, member: Member) -> list[Member]:
        """Three of its run, the oldest first."""
        recipe = self._recipes.get(member.name) or _recipe_of_run(self.task, member.recipe["seed"] - 5)
        return [
            dataclasses.replace(
                member,
                name=f"{member.name} at update {steps}",
                module=trained(recipe, self.task, steps),
                step=steps,
                cost=Cost(steps, steps / 3, 1.0),
            )
            for steps in (member.step // 2, member.step * 3 // 4, member.step)
        ]

    def store(self, ensembler: Ensembler, key: str) -> Path:
        """Write an ensembler that is a setting of this one as an ensemble folder."""
        core = {setting.name: self.settings[setting.name] for setting in COMPONENT_TABLES["ensemble"].added}
        settings = {**core, **self.settings[key]}
        made = artefact_of(settings, ensembler.members(), ensembler.state(), 1.0, self.recipe, self.spec)
        folder = self.folder / "teacher"
        folder.mkdir(parents=True, exist_ok=True)
        write_artefact(folder, made)
        return folder.resolve()

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)


def validation_of(members: Sequence[Member], task: str = "classes", say: Any = lambda text: None) -> Validation:
    """The samples that members are chosen by, none of which any of them was trained on."""
    inputs, targets = (part[TRAINED:] for part in samples(task))

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = module(inputs)
        return outputs.float()

    def renew(module: nn.Module) -> bool:
        return renew_statistics(module, [samples(task)[0][:TRAINED]])

    def loss(outputs: Tensor, targets: Tensor, /) -> Tensor:
        return loss_of(TASKS[task], outputs, targets)

    outputs = torch.stack([measure(member.module) for member in members])
    held_out = torch.ones(outputs.shape[:2], dtype=torch.bool)
    index = torch.arange(SAMPLES)
    return Validation(outputs, targets.clone(), held_out, index, TASKS[task], loss, measure, renew, say)
