"""Gradients that are summed in pieces while the backward pass still computes; two processes that have the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit.distributed.buckets import Bucket, Overlapped
from trainkit.errors import RunError


class Twice:
    """A group of two processes that do the same: every sum is twice what one of them has."""

    def __init__(self, others: list[int] | None = None) -> None:
        self.sent: list[Tensor] = []
        self.others = others

    def begin_sum(self, tensor: Tensor) -> Tensor:
        self.sent.append(tensor)
        return tensor

    def end_sum(self, begun: Tensor) -> None:
        begun.mul_(2)

    def all_of(self, value: list[int]) -> list[list[int]]:
        return [value, value if self.others is None else self.others]


class Branches(nn.Module):
    """Two layers of which the second is used where it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, inputs: Tensor, both: bool = True) -> Tensor:
        hidden: Tensor = self.first(inputs).relu()
        return self.second(hidden) if both else hidden


def overlapped(model: nn.Module, others: list[int] | None = None, most: int = 1) -> tuple[Any, Twice]:
    group: Any = Twice(others)
    return Overlapped(list(model.parameters()), group, most), group


@pytest.fixture
def model() -> Branches:
    torch.manual_seed(0)
    return Branches().double()


INPUTS = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)


def gradients(model: nn.Module, both: bool = True) -> list[Tensor | None]:
    model.zero_grad()
    model(INPUTS, both).square().sum().backward()
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_the_sums_take_the_place_of_the_gradients(model: Branches) -> None:
    expected = gradients(model)
    model.zero_grad()
    pieces, group = overlapped(model)
    with pieces.last():
        model(INPUTS).square().sum().backward()
    pieces.finish()
    for parameter, own in zip(model.parameters(), expected, strict=True):
        assert own is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, 2 * own)
        assert parameter.grad.stride() == parameter.stride()
    assert len(group.sent) == len(pieces.buckets) == 4


def test_pieces_are_sent_before_the_backward_pass_ends(model: Branches) -> None:
    pieces, group = overlapped(model)
    seen = []
    model.first.weight.register_hook(lambda gradient: seen.append(len(group.sent)))
    with pieces.last():
        model(INPUTS).square().sum().backward()
    # Bias and weight of the second layer are on their way when the first layer's weight comes, which is not.
    assert len(seen) == 1
    assert 2 <= seen[0] < 4
    pieces.finish()


def test_earlier_passes_of_an_update_send_nothing(model: Branches) -> None:
    pieces, group = overlapped(model)
    model(INPUTS).square().sum().backward()
    assert group.sent == []
    with pieces.last():
        model(INPUTS).square().sum().backward()
    pieces.finish()
    found = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    for grad, own in zip(found, gradients(model), strict=True):
        assert grad is not None
        assert own is not None
        assert torch.allclose(grad, 4 * own, rtol=1e-12)


def test_who_has_no_gradient_sends_zeros_where_another_process_has_one(model: Branches) -> None:
    pieces, _ = overlapped(model, others=[0, 1, 2, 3])
    with pieces.last():
        model(INPUTS, both=False).square().sum().backward()
    pieces.finish()
    assert model.second.weight.grad is not None
    assert not model.second.weight.grad.any()


def test_all_pieces_are_sent_at_the_end_of_the_backward_pass(model: Branches) -> None:
    # Another process may have all gradients and send all pieces in it: whatever is sent next comes after them in both.
    pieces, group = overlapped(model)
    with pieces.last():
        model(INPUTS, both=False).square().sum().backward()
    assert [len(sent) for sent in group.sent] == [sum(bucket._sizes) for bucket in pieces.buckets]
    pieces.finish()
    assert len(group.sent) == len(pieces.buckets)


def test_a_gradient_that_comes_later_than_the_first_update_is_not_lost_in_silence(model: Branches) -> None:
    pieces, _ = overlapped(model)
    for both in (False, True):
        model.zero_grad()
        with pieces.last():
            model(INPUTS, both=both).square().sum().backward()
        if both:
            with pytest.raises(RunError, match="had none in any process when gradients were first summed"):
                pieces.finish()
        else:
            pieces.finish()


def test_a_parameter_without_a_gradient_anywhere_stays_without(model: Branches) -> None:
    pieces, _ = overlapped(model)
    with pieces.last():
        model(INPUTS, both=False).square().sum().backward()
    pieces.finish()
    assert model.second.weight.grad is None
    assert model.first.weight.grad is not None


def test_layouts_in_memory_are_kept_and_numbers_travel_along() -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    weight.grad = torch.randn(4, 3, 2, 2)
    bucket = Bucket([weight], extra=2)
    assert bucket.gather() == [True]
    assert torch.equal(bucket.views[0], weight.grad)
    assert bucket.views[0].stride() == weight.stride()
    bucket.rest.copy_(torch.tensor([7.0, 8.0]))
    assert bucket.flat[-2:].tolist() == [7.0, 8.0]
    assert len(bucket.flat) == 48 + 2
