"""What an elementwise optimizer remembers of a group from one update to the next must not outlive a change to it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from trainkit import ElementwiseOptimizer
from trainkit_optimizers.rules import Sgd


def made() -> tuple[list[nn.Parameter], ElementwiseOptimizer]:
    """Two parameters and their optimizer, after two updates."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))]
    groups = [{"params": list(parameters)}]
    optimizer = ElementwiseOptimizer(groups, Sgd(nesterov=False), lr=0.1, momentum=0.9, weight_decay=0.0)
    update(parameters, optimizer)
    update(parameters, optimizer)
    return parameters, optimizer


def update(parameters: Sequence[nn.Parameter], optimizer: ElementwiseOptimizer, without: int | None = None) -> None:
    """One update with gradients of 1, 2, ...; none for the parameter at place ``without``."""
    for place, parameter in enumerate(parameters):
        parameter.grad = None if place == without else torch.full_like(parameter, place + 1.0)
    optimizer.step()


def values(parameter: nn.Parameter) -> torch.Tensor:
    return parameter.detach().clone()


def test_a_state_put_in_as_a_resumed_run_does_is_used() -> None:
    parameters, optimizer = made()
    first = parameters[0]
    optimizer.state[first] = {"step": 7, "momentum_buffer": torch.zeros_like(first)}
    before = values(first)
    update(parameters, optimizer)
    assert [optimizer.state[p]["step"] for p in parameters] == [8, 3]
    torch.testing.assert_close(values(first), before - 0.1)


def test_a_buffer_replaced_within_a_state_is_used() -> None:
    parameters, optimizer = made()
    optimizer.state[parameters[0]]["momentum_buffer"] = torch.full_like(parameters[0], 10.0)
    before = values(parameters[0])
    update(parameters, optimizer)
    torch.testing.assert_close(values(parameters[0]), before - 1.0)


def test_a_parameter_without_a_gradient_stays_and_counts_no_update() -> None:
    parameters, optimizer = made()
    before = values(parameters[1])
    update(parameters, optimizer, without=1)
    assert torch.equal(values(parameters[1]), before)
    assert [optimizer.state[p]["step"] for p in parameters] == [3, 2]
    update(parameters, optimizer)
    assert [optimizer.state[p]["step"] for p in parameters] == [4, 3]


def test_parameters_that_join_or_take_the_place_of_others_are_updated() -> None:
    parameters, optimizer = made()
    joined = nn.Parameter(torch.zeros(2))
    optimizer.param_groups[0]["params"].append(joined)
    update([*parameters, joined], optimizer)
    torch.testing.assert_close(values(joined), torch.full((2,), -0.3))
    update([*parameters, joined], optimizer)
    new = nn.Parameter(torch.zeros(3))
    optimizer.param_groups[0]["params"][1] = new
    before = values(parameters[1])
    update([parameters[0], new, joined], optimizer)
    assert torch.equal(values(parameters[1]), before)
    torch.testing.assert_close(values(new), torch.full((3,), -0.2))


def test_momentum_that_begins_later_gets_its_buffer() -> None:
    parameters, optimizer = made()
    group = optimizer.param_groups[0]
    group["momentum"] = 0.0
    before = values(parameters[0])
    update(parameters, optimizer)
    torch.testing.assert_close(values(parameters[0]), before - 0.1)
    for parameter in parameters:
        del optimizer.state[parameter]["momentum_buffer"]
    update(parameters, optimizer)
    group["momentum"] = 0.9
    before = values(parameters[0])
    update(parameters, optimizer)
    torch.testing.assert_close(values(parameters[0]), before - 0.1)
    assert optimizer.state[parameters[1]]["momentum_buffer"].tolist() == [2.0, 2.0, 2.0]


def test_a_gradient_laid_out_in_another_way_moves_the_right_weights() -> None:
    parameters, optimizer = made()
    gradient = torch.arange(12.0).reshape(3, 4).t()
    parameters[0].grad, parameters[1].grad = gradient, torch.zeros(3)
    optimizer.state[parameters[0]]["momentum_buffer"].zero_()
    before = values(parameters[0])
    optimizer.step()
    torch.testing.assert_close(values(parameters[0]), before - 0.1 * gradient)


def test_parameters_on_several_devices_are_updated_each_on_its_own() -> None:
    """``meta`` stands for a second device: it takes part in no operation with another."""
    here, there = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, device="meta"))
    rule = Sgd(nesterov=False)
    optimizer = ElementwiseOptimizer([{"params": [here, there]}], rule, lr=0.1, momentum=0.9, weight_decay=0.0)
    for _ in range(3):
        update([here, there], optimizer)
    torch.testing.assert_close(values(here), torch.full((3,), 1 - 0.1 * (1 + 1.9 + 2.71)))
    assert [optimizer.state[p]["step"] for p in (here, there)] == [3, 3]


def test_a_sparse_gradient_is_refused() -> None:
    parameters, optimizer = made()
    parameters[0].grad = torch.zeros(4, 3).to_sparse()
    with pytest.raises(ValueError, match="sparse"):
        optimizer.step()
