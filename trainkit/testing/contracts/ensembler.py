"""What every ensembler keeps: one model of several, the same after it was stored, whatever the members' order.

Members are models of the tiny recipe that were trained for a moment, see `trainkit.testing.members`; the tasks are
classes, a binary one and a regression. An ensembler may refuse some of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit.component import Component
from trainkit.ensembler import Member
from trainkit.errors import TrainkitError
from trainkit.testing.contract import Contract
from trainkit.testing.ensembles import (
    accepted,
    fit,
    fitted,
    fitted_again,
    gathered,
    given_by,
    meant,
    name_of,
    opened,
    refusals,
    refuses_well,
    stored,
)
from trainkit.testing.members import SAMPLES, TASKS, TRAINED, samples, validation_of
from trainkit.testing.samples import said

CLOSE = 1e-3  # of probabilities, and of numbers, that are of the size of 1: fits go on until they hardly change


class EnsemblerContract(Contract):
    """An ensembler combines members by validation alone, and what it needs to predict can be stored."""

    kind = "ensembler"

    @pytest.fixture
    def name(self, component: Component) -> str:
        """How messages call it."""
        return name_of(component)

    @pytest.fixture
    def tasks(self, component: Component) -> list[str]:
        """The tasks that it takes."""
        return accepted(component)

    def test_refuses_with_a_cure(self, component: Component, name: str, tmp_path: Path) -> None:
        """Members and tasks that it cannot take are refused by UsageError or RecipeError, with a cure."""
        for task, refused in refusals(component).items():
            for error in [*gathered(component, tmp_path, task)[2], *([refused] if refused is not None else [])]:
                assert refuses_well(error), (
                    f"{name}: of the task {task} it raised {type(error).__name__}: {error}; refuse by UsageError with "
                    "a second line that says what to do"
                )
        assert accepted(component)

    def test_gathers_members(self, component: Component, name: str, tasks: list[str], tmp_path: Path) -> None:
        """What it gathers are members, each with a name of its own, in evaluation mode."""
        for task in tasks:
            members = gathered(component, tmp_path, task)[1]
            assert members, f"{name}: it gathers no member"
            assert all(isinstance(one, Member) for one in members), f"{name}: it gathers {members[0]!r}, no Member"
            names = [member.name for member in members]
            assert len(set(names)) == len(names), f"{name}: members have one name: {', '.join(names)}"
            for member in members:
                assert not any(part.training for part in member.module.modules()), f"{name}: {member.name} is training"

    def test_one_member_is_itself(self, component: Component, name: str, tasks: list[str]) -> None:
        """An ensemble of one member predicts what that member does, also when it was stored."""
        for task in tasks:
            try:
                ensembler = fit(component, task, [0])
            except TrainkitError as error:
                raise AssertionError(f"{name}: refuses a single member of the task {task}: {error}") from error
            with torch.no_grad():
                alone = meant(ensembler.members()[0].module(samples(task)[0][TRAINED:]), task)
            for made in (ensembler, opened(component, ensembler)):
                off = float((meant(given_by(made, task), task) - alone).abs().max())
                assert off <= 1e-5, f"{name}: of one member of the task {task} it makes something else, {off:.2g} off"

    def test_order_of_members_changes_nothing(self, component: Component, name: str, tasks: list[str]) -> None:
        """Members that are given in another order make the same ensemble, up to rounding."""
        for task in tasks:
            first = fitted(component, task)
            turned = fit(component, task, list(reversed(range(len(members_of(component, task))))))
            off = float((meant(given_by(first, task), task) - meant(given_by(turned, task), task)).abs().max())
            assert off <= CLOSE, f"{name}: with the members turned round it predicts something else, {off:.2g} off"
            names = [{member.name for member in one.members()} for one in (first, turned)]
            assert names[0] == names[1], f"{name}: it keeps {names[0]}, and of the members turned round {names[1]}"

    def test_state_can_be_stored(self, component: Component, name: str, tasks: list[str]) -> None:
        """Its state is tensors, numbers, text, and lists and dicts of these: no pickle holds it."""
        for task in tasks:
            try:
                stored(fitted(component, task))
            except (TypeError, ValueError) as error:
                raise AssertionError(f"{name}: its state cannot be saved: {error}; give plain values") from error

    def test_stored_and_opened_it_predicts_the_same(self, component: Component, name: str, tasks: list[str]) -> None:
        """Opened from members and state alone it predicts the same bit for bit, and again."""
        for task in tasks:
            first = fitted(component, task)
            wanted = given_by(first, task)
            for _ in range(2):
                first = opened(component, first)
                assert torch.equal(given_by(first, task), wanted), (
                    f"{name}: stored and opened it predicts something else for {task}; state lacks what predict needs"
                )
            names = [[member.name for member in one.members()] for one in (fitted(component, task), first)]
            assert names[0] == names[1], f"{name}: stored with the members {names[0]} it opens with {names[1]}"

    def test_predicts_what_the_data_has(self, component: Component, name: str, tasks: list[str]) -> None:
        """It gives finite numbers of shape (batch, outputs), the same for the same batch each time."""
        for task in tasks:
            ensembler, shape = fitted(component, task), (SAMPLES, TASKS[task].outputs)
            outputs = given_by(ensembler, task)
            assert tuple(outputs.shape) == shape, f"{name}: of {task} predict gives {tuple(outputs.shape)}, not {shape}"
            assert bool(outputs.isfinite().all()), f"{name}: predict gives numbers of {task} that are not finite"
            assert torch.equal(given_by(ensembler, task), outputs), f"{name}: asked twice, predict gives two answers"

    def test_a_sample_is_predicted_the_same_alone(self, component: Component, name: str, tasks: list[str]) -> None:
        """What it gives for a sample does not depend on what else is in the batch."""
        for task in tasks:
            ensembler = fitted(component, task)
            alone = torch.cat([given_by(ensembler, task, slice(row, row + 1)) for row in range(8)])
            off = float((meant(alone, task) - meant(given_by(ensembler, task)[:8], task)).abs().max())
            assert off <= 1e-5, f"{name}: a sample alone is predicted otherwise than in a batch, {off:.2g} off"

    def test_fitting_changes_no_member_and_no_sample(self, component: Component, name: str, tasks: list[str]) -> None:
        """The weights and modes of members, and the samples of validation, stay as they are."""
        for task in tasks:
            changes = fitted_again(component, task).changes
            assert not changes, f"{name}: fitting {changes[0]}; work on a copy"

    def test_same_seed_same_ensemble(self, component: Component, name: str, tasks: list[str]) -> None:
        """Fitted again with one seed it is the same bit for bit, and no global generator is drawn from."""
        for task in tasks:
            first, again = given_by(fitted(component, task), task), fitted_again(component, task)
            same = torch.equal(again.given, first)
            assert same, f"{name}: fitted twice with one seed, it predicts two things for {task}"
            drawn = ", ".join(again.drawn)
            assert not drawn, f"{name}: it draws from the global generator of {drawn}; seed one of its own"

    def test_names_what_it_is_made_of(self, component: Component, name: str, tasks: list[str]) -> None:
        """After fitting it has members, each in evaluation mode and with a name of its own."""
        for task in tasks:
            members = fitted(component, task).members()
            assert members, f"{name}: fitted, it has no members"
            names = [member.name for member in members]
            assert len(set(names)) == len(names), f"{name}: its members have one name: {', '.join(names)}"
            for member in members:
                assert not any(part.training for part in member.module.modules()), f"{name}: {member.name} is training"

    def test_variance_is_a_variance(self, component: Component, name: str, tasks: list[str]) -> None:
        """Where it tells a variance, that is (batch, outputs), finite and not negative, also when it was stored."""
        ensembler = fitted(component, "numbers") if "numbers" in tasks else None
        if not hasattr(ensembler, "variance"):
            return
        both = (ensembler, opened(component, ensembler))
        variance, again = (given_by(one, "numbers", what="variance") for one in both)
        shape = SAMPLES, TASKS["numbers"].outputs
        assert tuple(variance.shape) == shape, f"{name}: variance gives {tuple(variance.shape)}, not {shape}"
        assert bool((variance.isfinite() & (variance >= 0)).all()), f"{name}: a variance is negative, or not finite"
        assert torch.equal(variance, again), f"{name}: stored and opened it tells another variance"

    def test_anew_is_another_of_its_kind(self, component: Component, name: str, tasks: list[str]) -> None:
        """Where it has anew, that gives one without members, which fitted alike predicts alike; itself it stays."""
        for task in tasks:
            ensembler = fitted(component, task)
            if not hasattr(ensembler, "anew"):
                return
            before, members, other = given_by(ensembler, task), members_of(component, task), ensembler.anew()
            assert other is not ensembler, f"{name}: anew gives itself"
            for member in members:
                other.add(member)
            other.fit(validation_of(members, task))
            off = float((meant(given_by(other, task), task) - meant(before, task)).abs().max())
            assert off <= 10 * CLOSE, f"{name}: what anew gives predicts otherwise, {off:.2g} off; keep its settings"
            assert torch.equal(given_by(ensembler, task), before), f"{name}: fitting what anew gives changed itself"

    def test_can_be_exported(self, component: Component, name: str, tasks: list[str]) -> None:
        """Predict is made of torch's operations alone: traced with one batch, it gives what it gives for another."""
        from torch.fx.experimental.proxy_tensor import make_fx

        task = tasks[0]
        ensembler, inputs = fitted(component, task), samples(task)[0]

        def predict(batch: torch.Tensor) -> Any:
            return ensembler.predict(batch)

        with torch.no_grad():
            try:
                program = make_fx(predict, tracing_mode="fake", _allow_non_fake_inputs=True)(inputs[:SAMPLES])
            except Exception as error:
                raise AssertionError(f"{name}: predict is not of torch's operations alone: {said(error)}") from error
            off = float((program(inputs[TRAINED:]) - given_by(ensembler, task)).abs().max())
        assert off <= 1e-5, f"{name}: traced with one batch, predict gives another answer for the next, {off:.2g} off"


def members_of(component: Component, task: str) -> list[Member]:
    """The members that it gathers."""
    return gathered(component, Path("nowhere"), task)[1]
