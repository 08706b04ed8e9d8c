"""The curve against the number of members, and ensemblers that are fitted anew to what members gave."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.dataset import DataSpec
from trainkit.ensemble.curve import PLACES, SUBSETS, curve, draws_for, places, subsets
from trainkit.ensemble.replay import Again, FromModules, FromOutputs, Predicting, Recorded, agrees, part_of
from trainkit.ensembler import Member, Validation, Workshop

SPEC = DataSpec((3,), "classification", 4)


class Best:
    """Keeps the two members that are right most often; asks for no more than outputs."""

    def __init__(self) -> None:
        self.added: list[Member] = []
        self.kept: list[Member] = []
        self.told: list[str] = []

    def gather(self, workshop: Workshop, /) -> Sequence[Member]:
        raise AssertionError("members are there")

    def add(self, member: Member, /) -> None:
        self.added.append(member)

    def fit(self, validation: Validation, /) -> None:
        validation.say("two are kept")
        right = (validation.outputs.argmax(-1) == validation.targets).double().mean(1)
        order = right.argsort(descending=True, stable=True)[:2].tolist()
        self.kept = [self.added[number] for number in order]

    def predict(self, inputs: Tensor, /) -> Tensor:
        return torch.stack([member.module(inputs) for member in self.kept]).log_softmax(-1).logsumexp(0)

    def members(self) -> Sequence[Member]:
        return self.kept

    def state(self) -> Mapping[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any], /) -> None:
        raise AssertionError("nothing is stored")


@pytest.fixture
def given() -> tuple[list[Member], Validation, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    inputs, targets = torch.randn(40, 3, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    tested = torch.randn(11, 3, generator=generator)
    members = [Member(f"m{number}", nn.Linear(3, 4).eval(), {}, SPEC) for number in range(5)]
    with torch.no_grad():
        outputs = torch.stack([member.module(inputs) for member in members])

    def measure(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(inputs)

    def unused(*_: Any) -> Any:
        raise AssertionError("not asked for")

    held = torch.ones(5, 40, dtype=torch.bool)

    def told(text: str) -> None:
        raise AssertionError(f"nobody is to hear: {text}")

    validation = Validation(outputs, targets, held, torch.arange(40), SPEC, unused, measure, unused, told)
    return members, validation, inputs, tested


def fitted(members: Sequence[Member], validation: Validation) -> Best:
    ensembler = Best()
    for member in members:
        ensembler.add(member)
    ensembler.fit(validation)
    return ensembler


@pytest.mark.parametrize("chosen", [(0, 1, 2, 3, 4), (3,), (4, 2, 0)])
@pytest.mark.parametrize("rows", [None, torch.arange(0, 40, 3)])
def test_outputs_and_members_themselves_give_the_same(given: Any, chosen: tuple[int, ...], rows: Tensor | None) -> None:
    members, validation, inputs, tested = given
    with torch.no_grad():
        outputs = torch.stack([member.module(tested) for member in members])

    def test(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return module(tested)

    part = part_of(validation, chosen, rows)
    expected = fitted([members[n] for n in chosen], part)
    for refit in (FromOutputs(Best, members, validation, outputs), FromModules(Best, members, validation, test)):
        again = refit(chosen, rows)
        assert again.test is not None
        with torch.no_grad():
            torch.testing.assert_close(again.validation, expected.predict(inputs))
            torch.testing.assert_close(again.test, expected.predict(tested))


def test_nobody_is_told_of_it_and_the_members_stay(given: Any) -> None:
    members, validation, _, _ = given
    before = [member.module for member in members]
    again = FromOutputs(Best, members, validation, None)(range(5))
    assert again.test is None
    assert [member.module for member in members] == before


def test_part_of_it_is_all_cut_alike(given: Any) -> None:
    _, validation, inputs, _ = given
    rows = torch.tensor([7, 3, 30])
    part = part_of(validation, (4, 1), rows)
    assert part.outputs.equal(validation.outputs[[4, 1]][:, rows])
    assert part.targets.equal(validation.targets[rows])
    assert part.held_out.shape == (2, 3)
    assert part.index.equal(rows)
    assert part.measure(nn.Identity()).equal(inputs[rows])


def test_what_an_ensembler_holds_moves_with_it(given: Any) -> None:
    members, validation, _, _ = given
    ensembler = fitted(members, part_of(validation, range(5), None))
    ensembler.head = nn.Linear(4, 4)  # type: ignore[attr-defined]
    weights = {id(part) for part in Predicting(ensembler).parameters()}
    for held in (ensembler.head, ensembler.kept[0].module, ensembler.kept[1].module):  # type: ignore[attr-defined]
        assert {id(part) for part in held.parameters()} <= weights


def test_what_is_remembered_has_no_weights_to_average(given: Any) -> None:
    _, validation, _, _ = given
    member = Recorded(validation.outputs[0])
    assert member(torch.tensor([3, 1])).equal(validation.outputs[0][[3, 1]])
    for ask in (member.state_dict, lambda: list(member.parameters()), lambda: copy.deepcopy(member)):
        with pytest.raises(TypeError, match="has no weights"):
            ask()


def test_outputs_agree_but_for_rounding() -> None:
    outputs = torch.randn(20, 3)
    assert agrees(outputs + 1e-5, outputs)
    assert not agrees(outputs + 0.1, outputs)
    assert not agrees(outputs[:10], outputs)
    assert not agrees(outputs * torch.nan, outputs)


def test_all_numbers_of_members_or_some_that_rise() -> None:
    assert places(1) == [1]
    assert places(PLACES) == list(range(1, PLACES + 1))
    many = places(100)
    assert (many[0], many[-1]) == (1, 100)
    assert len(many) <= PLACES
    assert many == sorted(set(many))


def test_sets_are_all_there_are_or_different_draws() -> None:
    assert subsets(4, 2, 10, seed=0) == list(itertools.combinations(range(4), 2))
    drawn = subsets(20, 7, 10, seed=0)
    assert len(set(drawn)) == 10
    assert all(len(set(one)) == 7 and max(one) < 20 for one in drawn)
    assert drawn == subsets(20, 7, 10, seed=0)
    assert drawn != subsets(20, 7, 10, seed=1)
    assert subsets(5, 5, 1, seed=3) == [(0, 1, 2, 3, 4)]


def test_a_point_is_the_mean_over_its_sets() -> None:
    def refit(members: Sequence[int], rows: Tensor | None = None) -> Again:
        return Again(torch.tensor(float(sum(members))), None)

    def measure(members: Sequence[int], again: Again) -> dict[str, dict[str, float]]:
        return {"raw": {"nll": float(again.validation)}}

    points = curve(refit, measure, members=4, most=6, seed=0)
    assert [point["members"] for point in points] == [1, 2, 3, 4]
    assert [point["sets"] for point in points] == [4, 6, 4, 1]
    assert [point["raw"]["nll"] for point in points] == [1.5, 3.0, 4.5, 6.0]
    first = curve(refit, measure, members=4, most=1, seed=0)
    assert [point["raw"]["nll"] for point in first] == [0.0, 1.0, 3.0, 6.0]


def test_much_work_is_cut_down() -> None:
    assert draws_for(10 * 700 * 10, 10) == SUBSETS
    assert draws_for(100 * 700 * 10, 100) >= 1
    assert draws_for(10 * 50_000 * 1000, 10) == 0
    assert draws_for(0, 1) == SUBSETS
    assert math.isfinite(draws_for(1, 1))
