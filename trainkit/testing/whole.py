"""Whole runs of the tiny recipe with a component in it: in one go, once more, and interrupted and continued."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import tomli_w
import torch

from trainkit import build, checkpoint
from trainkit.component import Component
from trainkit.errors import RecipeError, TrainkitError
from trainkit.launch import launch
from trainkit.programs import make_program
from trainkit.protocols import StepProgram
from trainkit.recipe import Recipe, recipe_from_text
from trainkit.run import Batch, Run, StepResult
from trainkit.testing.build import SURROUNDINGS, Surroundings, tables_of
from trainkit.testing.ended import ASKED, Seen, Whole
from trainkit.testing.kept import once_for_each
from trainkit.testing.listed import installed, plugins_of
from trainkit.testing.sparse import ROWS
from trainkit.testing.tiny import TINY, TinyRun

Made = TypeVar("Made")
# Within an epoch, at the end of one, and an update later; where runs are longer, later ones too.
STOPS = (1, 3, 4, 9)
# Figures that hardly change: whatever waits for one that has stopped getting better then comes to act.
_FLAT: Mapping[str, Any] = {
    "run": {**TINY["run"], "duration": "16ba", "accumulate": 1, "evaluate_every": "1ba", "log_every": "1ba"},
    "model": {"use": "linear"},
    "optimizer": {"use": "sgd", "lr": 1e-7},
    "schedule": {"use": "cosine", "warmup": "1ba"},
}
_OF_KIND: Mapping[str, Mapping[str, Any]] = {"reaction": _FLAT}
_SPARSE = (Surroundings({"model": {"use": ROWS.name}}),)


# ------------------------------------------------------------ the runs of a component


def straight(component: Component) -> Whole:
    """The run of a component's example, in one go; made once for all contracts of the component.

    Raises:
        AssertionError: if there is none, in words.
    """
    return _for_a_contract(component, "a run of its example", lambda: _first(component)[1])


def again(component: Component) -> Whole:
    """The same run once more.

    Raises:
        AssertionError: if it fails, in words.
    """
    recipe = _for_a_contract(component, "a run of its example", lambda: _first(component)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        return _for_a_contract(component, "a second run of its example", lambda: trained(recipe, path))


def interrupted(component: Component, stops: Sequence[int] = STOPS) -> Whole:
    """The same run, stopped after each of these updates and continued.

    Raises:
        AssertionError: if it fails, in words.
    """
    recipe = _for_a_contract(component, "a run of its example", lambda: _first(component)[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        return _for_a_contract(component, "a run that was stopped and continued", lambda: in_parts(recipe, path, stops))


def several_at_once(component: Component, updates: int) -> Whole:
    """The same run, with so many updates in each call, as compiled steps have them.

    Raises:
        AssertionError: if it fails, in words.
    """
    recipe = _for_a_contract(component, "a run of its example", lambda: _first(component)[0])
    what = "a run with several updates in a call"
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(build, "make_program", _grouping(updates)):
        return _for_a_contract(component, what, lambda: trained(recipe, Path(folder) / "run"))


@functools.cache
def untouched() -> Whole:
    """The run of the tiny recipe as it is, before any component of others has had its run in this process."""
    return plain()


def plain() -> Whole:
    """The run of the tiny recipe as it is now, with no component but its own."""
    recipe = recipe_from_text(tomli_w.dumps(TINY), "the tiny recipe", [], installed())
    with tempfile.TemporaryDirectory() as folder:
        return trained(recipe, Path(folder) / "run")


def _for_a_contract(component: Component, what: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except TrainkitError as error:
        raise AssertionError(f"{component.kind} '{component.name}': {what} failed: {error}") from error


@once_for_each
def _first(component: Component) -> tuple[Recipe, Whole]:
    """The first recipe that the component goes with, of those with as much else as possible, and its run.

    Raises:
        RecipeError: if there is none; what was wrong with the first of them.
        TrainkitError: if the run fails.
    """
    untouched()
    refused: list[RecipeError] = []
    for around in _SPARSE if component.capabilities.get("sparse") else SURROUNDINGS:
        try:
            recipe = _recipe(component, around)
            with tempfile.TemporaryDirectory() as folder:
                return recipe, trained(recipe, Path(folder) / "run")
        except RecipeError as error:
            refused.append(error)
    raise refused[0]


def _recipe(component: Component, around: Surroundings) -> Recipe:
    base = {**TINY, **around.tables, **_OF_KIND.get(component.kind, {})}
    tables = {**base, **tables_of(component, None, base, around.unit)}
    if component.kind == "reaction":  # impatient, so that it acts while the run lasts
        for table in tables["schedule"]["react"]:
            table |= {key: min(value, 1) for key, value in table.items() if key in ("patience", "window")}
    plugins = plugins_of(component)
    if around in _SPARSE:
        own = [plugin for plugin in plugins.plugins if any(part is component for part in plugin.components)]
        plugins = plugins_of(ROWS)
        plugins.plugins += [plugin for plugin in own if plugin.name not in {one.name for one in plugins.plugins}]
    name = f"the tiny recipe with {component.kind} '{component.name}'"
    return recipe_from_text(tomli_w.dumps(tables), name, [], plugins)


def in_parts(recipe: Recipe, path: Path, stops: Sequence[int] = STOPS) -> Whole:
    """Train in a new folder, with a stop after each of these updates that the run comes to.

    Raises:
        TrainkitError: if it fails.
    """
    for stop in stops:
        whole = trained(recipe, path, stop)
        if whole.report.reason != ASKED:  # at its end, or where the recipe itself has it stop
            return whole
    return trained(recipe, path)


def trained(recipe: Recipe, path: Path, stop: int | None = None) -> Whole:
    """Train, or go on training, to the end or until ``stop`` updates are made.

    Nothing waits for the disk: nobody takes the power from a test, and it would take longer than all the rest.

    Raises:
        TrainkitError: if it fails.
    """
    seen = Seen(stop)
    printed = io.StringIO()
    with mock.patch.object(os, "fsync"), contextlib.redirect_stdout(printed):
        report = launch(
            recipe, recipe.plugins, folder=path, listeners=[seen], resume=path.is_dir(), say=lambda text: None
        )
    _, tensors, state = checkpoint.load_newest(path / "checkpoints")
    best = path / "best.json"
    return Whole(
        report,
        TinyRun(path, report).lines,
        {name: tensor.clone() for name, tensor in tensors.items()},
        {key: value for key, value in state.items() if key not in ("seconds", "metrics_bytes")},
        best.read_text(encoding="utf-8") if best.exists() else "",
        seen,
        printed.getvalue(),
    )


@dataclass
class _Several:
    """Makes several updates in a call by a program that makes one."""

    run: Run
    program: StepProgram
    updates_per_call: int

    def __call__(self, updates: Sequence[Sequence[Batch]]) -> StepResult:
        """Make the updates of one call, as `StepProgram` says."""
        results = []
        for update in updates:
            results.append(self.program([update]))
            self.run.step += 1
        self.run.step -= len(updates)
        losses = torch.stack([result.losses for result in results])
        weights = torch.tensor([float(result.weights) for result in results])
        outputs = [output for result in results for output in result.outputs]
        targets = [target for result in results for target in result.targets]
        return StepResult(losses, weights, outputs, targets, len(updates))


def _grouping(count: int) -> Callable[[Recipe, Run], StepProgram]:
    return lambda recipe, run: _Several(run, make_program(recipe, run), count)
