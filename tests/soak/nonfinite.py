"""G8: what is not finite never reaches a checkpoint, wherever it comes from and whatever the recipe does about it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.soak import rig
from trainkit import Batch, Run, RunError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

PLACES = ("loss", "gradient", "parameter", "buffer", "optimizer", "state", "metric", "figure")
POLICIES = ("error", "skip", "rollback")


class Poison:
    """Puts NaN or infinity into one place at one update.

    Args:
        place: one of ``PLACES``.
        step: the update.
        value: what is put there.
        again: whether it is there each time the run comes to that update, as it is after a rollback.
    """

    def __init__(self, place: str, step: int, value: float, again: bool) -> None:
        self.place, self.step, self.value, self.again = place, step, value, again
        self.done = False
        self.average = torch.zeros(3)

    def _now(self, run: Run, place: str) -> bool:
        if place != self.place or run.step != self.step or (self.done and not self.again):
            return False
        self.done = True
        return True

    @hookimpl
    def trainkit_loss(self, run: Run, outputs: Tensor, batch: Batch) -> Tensor | None:
        return run.loss(outputs, batch.targets) * self.value if self._now(run, "loss") else None

    @hookimpl
    def trainkit_gradients(self, run: Run, gradients: list[Tensor]) -> None:
        if self._now(run, "gradient"):
            gradients[0].reshape(-1)[0] = self.value

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        with torch.no_grad():
            if self._now(run, "parameter"):
                next(run.model.parameters()).reshape(-1)[0] = self.value
            if self._now(run, "buffer"):
                next(b for b in run.model.buffers() if b.is_floating_point())[0] = self.value
            if self._now(run, "optimizer"):
                state = next(iter(run.optimizer.state.values()))
                state["exp_avg"].reshape(-1)[0] = self.value
            if self._now(run, "state"):
                self.average[0] = self.value

    @hookimpl
    def trainkit_figures(self, run: Run) -> Mapping[str, Any]:
        return {"poison": self.value} if self._now(run, "figure") else {}

    @hookimpl
    def trainkit_save(self) -> Mapping[str, Any]:
        return {"average": self.average}

    @hookimpl
    def trainkit_restore(self, state: Mapping[str, Any]) -> None:
        self.average = state["average"].clone()


class SpoiltMetric:
    """A metric whose sum is not finite after an update."""

    higher_is_better = True

    def __init__(self, value: float) -> None:
        self.value = value
        self.reset()

    def reset(self) -> None:
        self.total = torch.zeros(())

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.total = self.total + self.value

    def compute(self) -> float:
        return float(self.total)


class Spoil:
    """Joins such a metric to a run."""

    def __init__(self, value: float) -> None:
        self.value = value

    @hookimpl
    def trainkit_prepare_model(self, run: Run) -> None:
        run.metrics["spoilt"] = SpoiltMetric(self.value)  # type: ignore[index]


def check(count: int, seed: int) -> list[str]:
    """Spoil so many runs; what went wrong."""
    wrong = []
    chance = random.Random(seed)
    plugins = Plugins()
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for number in range(count):
            place = PLACES[number % len(PLACES)]
            policy, value = chance.choice(POLICIES), chance.choice([float("nan"), float("inf"), float("-inf")])
            step, again = chance.randrange(1, 24), chance.random() < 0.5
            path = rig.write(top / f"{number}.toml", run={"nonfinite": policy})
            recipe = load_recipe(path, [], plugins)
            poison: Any = Spoil(value) if place == "metric" else Poison(place, step, value, again)
            folder = top / f"run-{number}"
            said = ""
            try:
                launch(recipe, plugins, folder=folder, listeners=[poison])
            except RunError as error:
                said = str(error)
            what = f"run {number} ({value} in the {place} at {step}, {policy})"
            wrong += [f"{what}: {bad} is not finite" for bad in rig.not_finite_on_disk(folder)]
            wrong += [f"{what}: {bad}" for bad in rig.whole_checkpoints(folder)]
            if said and ("at update" not in said and "after update" not in said):
                wrong.append(f"{what}: the message names no update: {said}")
            if said and place in ("metric", "figure"):
                wrong.append(f"{what}: a figure ended the run: {said}")
            if said and policy == "rollback" and not again:
                wrong.append(f"{what}: the run did not go back: {said}")
    return wrong
