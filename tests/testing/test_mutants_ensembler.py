"""Each contract of ensemblers catches a planted defect: in a mean whose weights follow from validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.testing.mutants import Mutant, lacking
from trainkit import Component, Member, UsageError, Validation, Workshop
from trainkit.testing import EnsemblerContract


class Weighed:
    """A mean of outputs in which those weigh more whose loss is lower."""

    def __init__(self) -> None:
        self.added: list[Member] = []
        self.weights = torch.ones(1)

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        return workshop.given or workshop.trials or workshop.train([{"seed": number} for number in range(3)])

    def add(self, member: Member, /) -> None:
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        losses = torch.stack([validation.loss(outputs, validation.targets) for outputs in validation.outputs])
        self.weights = (-2 * losses).softmax(0)

    def weighed(self, numbers: Tensor) -> Tensor:
        return (self.weights.to(numbers)[:, None, None] * numbers).sum(0)

    def each(self, inputs: Tensor) -> Tensor:
        return torch.stack([member.module(inputs) for member in self.added])

    def predict(self, inputs: Tensor, /) -> Tensor:
        return self.weighed(self.each(inputs))

    def variance(self, inputs: Tensor) -> Tensor:
        given = self.each(inputs)
        return self.weighed((given - self.weighed(given)).square())

    def members(self) -> Sequence[Member]:
        return self.added

    def state(self) -> Mapping[str, Any]:
        return {"weights": self.weights}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        self.weights = state["weights"]

    def anew(self) -> Weighed:
        return type(self)()


class RefusesCurtly(Weighed):
    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        if workshop.given is not None:
            raise UsageError("no runs of others")
        return super().gather(workshop)


class GathersTwice(Weighed):
    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        found = list(super().gather(workshop))
        return [*found, found[0]]


class Sharpens(Weighed):
    def predict(self, inputs: Tensor, /) -> Tensor:
        return 2 * super().predict(inputs)


class TrustsTheFirst(Weighed):
    def fit(self, validation: Validation, /) -> None:
        self.weights = torch.tensor([0.5**number for number in range(len(self.added))])
        self.weights /= self.weights.sum()


class KeepsAnObject(Weighed):
    def state(self) -> Mapping[str, Any]:
        return {**super().state(), "fitted by": self}


class ForgetsWeights(Weighed):
    def load_state(self, state: Mapping[str, Any], /) -> None:
        self.weights = torch.full((len(self.added),), 1 / len(self.added))


class GivesOneNumber(Weighed):
    def predict(self, inputs: Tensor, /) -> Tensor:
        return super().predict(inputs).mean(-1)


class CentresTheBatch(Weighed):
    def predict(self, inputs: Tensor, /) -> Tensor:
        given = super().predict(inputs)
        return given - given.mean(0) / 10


class TrainsMembers(Weighed):
    def fit(self, validation: Validation, /) -> None:
        super().fit(validation)
        with torch.no_grad():
            for parameter in self.added[0].module.parameters():
                parameter.mul_(1.01)


class Draws(Weighed):
    def fit(self, validation: Validation, /) -> None:
        self.weights = torch.rand(len(self.added)).softmax(0)


class NamesAllAlike(Weighed):
    def members(self) -> Sequence[Member]:
        return [dataclasses.replace(member, name="one of them") for member in self.added]


class NegativeVariance(Weighed):
    def variance(self, inputs: Tensor) -> Tensor:
        return -super().variance(inputs)


class ForgetsSettings(Weighed):
    def anew(self) -> Weighed:
        return TrustsTheFirst()


class LooksAtNumbers(Weighed):
    def predict(self, inputs: Tensor, /) -> Tensor:
        given = super().predict(inputs)
        return given if float(given.max()) < 1e9 else given.clamp(max=1e9)


def component(made: type[Weighed]) -> Component:
    """One that makes ensemblers of a class."""

    def factory() -> Any:
        """Combine."""
        return made()

    return Component("ensembler", factory, made.__name__)


HEALTHY = component(Weighed)


def mutant(test: str, made: type[Weighed], because: str) -> Mutant:
    """A defect of the weighed mean."""
    return Mutant(EnsemblerContract, test, component(made), HEALTHY, because)


MUTANTS = [
    mutant("refuses_with_a_cure", RefusesCurtly, "UsageError: no runs of others; refuse by UsageError with a second"),
    mutant("gathers_members", GathersTwice, "members have one name: run 0, run 1, run 2, run 3, run 0"),
    mutant("one_member_is_itself", Sharpens, "of one member of the task classes it makes something else"),
    mutant("order_of_members_changes_nothing", TrustsTheFirst, "with the members turned round it predicts something"),
    mutant("state_can_be_stored", KeepsAnObject, "its state cannot be saved: state/fitted by: "),
    mutant("stored_and_opened_it_predicts_the_same", ForgetsWeights, "state lacks what predict needs"),
    mutant("predicts_what_the_data_has", GivesOneNumber, r"predict gives \(80,\), not \(80, 3\)"),
    mutant("a_sample_is_predicted_the_same_alone", CentresTheBatch, "is predicted otherwise than in a batch"),
    mutant("fitting_changes_no_member_and_no_sample", TrainsMembers, "fitting changed the weights of run 0"),
    mutant("same_seed_same_ensemble", Draws, "fitted twice with one seed, it predicts two things"),
    mutant("names_what_it_is_made_of", NamesAllAlike, "its members have one name: one of them, "),
    mutant("variance_is_a_variance", NegativeVariance, "a variance is negative, or not finite"),
    mutant("anew_is_another_of_its_kind", ForgetsSettings, "what anew gives predicts otherwise, .*; keep its settings"),
    mutant("can_be_exported", LooksAtNumbers, "predict is not of torch's operations alone: Could not guard"),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_contract_catches(mutant: Mutant, tmp_path: Path) -> None:
    mutant.check(tmp_path)


def test_no_contract_lacks_a_planted_defect() -> None:
    assert not lacking(EnsemblerContract, MUTANTS)
