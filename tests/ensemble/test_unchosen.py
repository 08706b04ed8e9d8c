"""What an ensembler gives for samples that had no part in its choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.ensemble.replay import Predicting
from trainkit.ensemble.temperature import fit_temperature
from trainkit.ensemble.unchosen import FOLDS, LEAST, parts, unchosen
from trainkit.ensembler import Ensembler, Member, Validation, Workshop

SPEC = DataSpec((3,), "classification", 4)
SAMPLES = 60


class Mean:
    """The mean of what members give."""

    def __init__(self) -> None:
        self.added: list[Member] = []

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        raise AssertionError("members are there")

    def add(self, member: Member, /) -> None:
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        pass

    def predict(self, inputs: Tensor, /) -> Tensor:
        return torch.stack([member.module(inputs) for member in self.added]).mean(0)

    def members(self) -> Sequence[Member]:
        return self.added

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        raise AssertionError("nothing is stored")


class Learns(Mean):
    """Least squares from all outputs of members to the truth: with so few samples it knows them by heart."""

    def fit(self, validation: Validation, /) -> None:
        wanted = 8.0 * nn.functional.one_hot(validation.targets, 4).float()
        columns = validation.outputs.transpose(0, 1).flatten(1)
        self.weight = torch.linalg.lstsq(columns, wanted, driver="gelsd").solution

    def predict(self, inputs: Tensor, /) -> Tensor:
        return torch.stack([member.module(inputs) for member in self.added]).transpose(0, 1).flatten(1) @ self.weight


class Inputs(Mean):
    """Needs more of a sample than what members give."""

    def predict(self, inputs: Tensor, /) -> Tensor:
        return super().predict(inputs) + inputs.sum(1, keepdim=True)


def given(members: int, samples: int = SAMPLES, seed: int = 0) -> tuple[list[Member], Validation]:
    torch.manual_seed(seed)
    inputs, targets = torch.randn(samples, 3), torch.randint(0, 4, (samples,))
    each = []
    for number in range(members):
        model = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 4)).eval().requires_grad_(False)
        each.append(Member(f"m{number}", model, {}, SPEC))
    outputs = torch.stack([member.module(inputs) for member in each])
    held = torch.ones(members, samples, dtype=torch.bool)

    def unused(*_: Any) -> Any:
        raise AssertionError("not asked for")

    measure = lambda module: module(inputs)  # noqa: E731
    return each, Validation(outputs, targets, held, torch.arange(samples), SPEC, unused, measure, unused, unused)


def fitted(kind: type[Mean], members: Sequence[Member], validation: Validation) -> Ensembler:
    ensembler = kind()
    for member in members:
        ensembler.add(member)
    ensembler.fit(validation)
    return ensembler


def asked(kind: type[Mean], members: Sequence[Member], validation: Validation) -> tuple[Tensor, Tensor, Tensor]:
    raw = Predicting(fitted(kind, members, validation))
    rows, outputs = unchosen(kind, members, validation, raw, seed=3)
    return rows, outputs, validation.measure(raw)


def test_parts_hold_each_sample_once() -> None:
    rows = torch.arange(100, 153)
    found = list(parts(rows, seed=0))
    assert len(found) == FOLDS
    assert torch.cat([held for held, _ in found]).sort().values.equal(rows)
    for held, others in found:
        assert torch.cat([held, others]).sort().values.equal(rows)
    again, other = list(parts(rows, seed=0)), list(parts(rows, seed=1))
    assert all(one[0].equal(two[0]) for one, two in zip(found, again, strict=True))
    assert not all(one[0].equal(two[0]) for one, two in zip(found, other, strict=True))


def test_what_chooses_nothing_gives_what_it_gives() -> None:
    rows, outputs, whole = asked(Mean, *given(3))
    assert rows.equal(torch.arange(SAMPLES))
    torch.testing.assert_close(outputs, whole)


def test_what_was_learnt_by_heart_is_not_taken_for_knowledge() -> None:
    members, validation = given(12)
    rows, outputs, whole = asked(Learns, members, validation)
    right, wrongly = (float((one.argmax(1) == validation.targets).double().mean()) for one in (outputs, whole))
    assert wrongly > 0.7
    assert right < wrongly - 0.2
    assert fit_temperature(whole, validation.targets, SPEC) < 1
    assert fit_temperature(outputs, validation.targets[rows], SPEC) > 2
    for held, others in parts(rows, seed=3):  # by its definition
        weight = torch.linalg.lstsq(
            validation.outputs[:, others].transpose(0, 1).flatten(1),
            8.0 * nn.functional.one_hot(validation.targets[others], 4).float(),
            driver="gelsd",
        ).solution
        expected = validation.outputs[:, held].transpose(0, 1).flatten(1) @ weight
        torch.testing.assert_close(outputs[held], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "members", "samples"), [(Inputs, 3, SAMPLES), (Learns, 1, SAMPLES), (Learns, 3, LEAST - 1)]
)
def test_where_it_cannot_be_asked_so_it_gives_what_it_does(kind: type[Mean], members: int, samples: int) -> None:
    _, outputs, whole = asked(kind, *given(members, samples))
    assert outputs.equal(whole)


def test_samples_that_a_member_was_trained_on_have_no_part() -> None:
    members, validation = given(3)
    validation.held_out[1, :20] = False
    rows, outputs, whole = asked(Mean, members, validation)
    assert rows.equal(torch.arange(20, SAMPLES))
    torch.testing.assert_close(outputs, whole[20:])
