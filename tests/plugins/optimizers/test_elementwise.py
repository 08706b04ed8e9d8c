"""sgd, adam and adamw against torch's own fused optimizers, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainkit_optimizers as ours
from tests.plugins.conftest import dense

pytestmark = pytest.mark.usefixtures("one_thread")
UPDATES = 30
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    "sgd momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "sgd momentum decay": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "sgd nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
    "adam": ("Adam", {"lr": 1e-2}),
    "adam decay": ("Adam", {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 1e-2, "weight_decay": 0.1}),
    "adamw betas": ("AdamW", {"lr": 3e-3, "betas": (0.95, 0.98), "eps": 1e-10, "weight_decay": 0.01}),
}
Groups = Callable[[nn.Module], list[dict[str, Any]]]


def pair(case: str, groups: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> tuple[Any, Any]:
    name, settings = CASES[case]
    mine = getattr(ours, name.lower())(groups[0], **settings)
    return mine, getattr(torch.optim, name)(groups[1], **settings, fused=True)


def mlp(dtype: torch.dtype = torch.float32) -> nn.Module:
    return dense(6, 16, 8, 3, dtype=dtype)


def whole(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(model.parameters())}]


def train(
    model: nn.Module, optimizer: Any, inputs: Tensor, between: Callable[[int, nn.Module, Any], None] | None = None
) -> None:
    for number in range(UPDATES):
        optimizer.zero_grad()
        # New inputs each time, the same for both models.
        outputs = model(inputs.roll(number, 0) * (1 + number % 3))
        (outputs.square().mean() + outputs.sum() * 0.01).backward()
        if between is not None:
            between(number, model, optimizer)
        optimizer.step()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), f"{name} differs by {(a - b).abs().max():g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_it_equals_torchs_fused_optimizer_bit_for_bit(case, dtype):
    one, other = mlp(dtype), mlp(dtype)
    mine, theirs = pair(case, (whole(one), whole(other)))
    inputs = torch.randn(12, 6, dtype=dtype)
    train(one, mine, inputs)
    train(other, theirs, inputs)
    assert_same(one, other)
    assert not torch.equal(one[0].weight, mlp(dtype)[0].weight), "it moved at all"


def two_groups(model: nn.Module) -> list[dict[str, Any]]:
    first, *rest = model.parameters()
    return [{"params": [first], "lr": 0.05, "weight_decay": 0.0}, {"params": rest}]


@pytest.mark.parametrize("case", CASES)
def test_groups_keep_their_own_numbers(case):
    one, other = mlp(), mlp()
    mine, theirs = pair(case, (two_groups(one), two_groups(other)))
    inputs = torch.randn(12, 6)
    train(one, mine, inputs)
    train(other, theirs, inputs)
    assert_same(one, other)


@pytest.mark.parametrize("case", CASES)
def test_numbers_may_change_between_updates(case):
    def fall(number: int, model: nn.Module, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= 0.9

    one, other = mlp(), mlp()
    mine, theirs = pair(case, (two_groups(one), two_groups(other)))
    inputs = torch.randn(12, 6)
    train(one, mine, inputs, fall)
    train(other, theirs, inputs, fall)
    assert_same(one, other)


def convolutions() -> nn.Module:
    torch.manual_seed(7)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(16, 3)
    )
    return layers.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES)
def test_it_equals_torch_where_weights_lie_channels_last(case):
    one, other = convolutions(), convolutions()
    mine, theirs = pair(case, (whole(one), whole(other)))
    inputs = torch.randn(5, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    train(one, mine, inputs)
    train(other, theirs, inputs)
    assert_same(one, other)
    assert one[0].weight.is_contiguous(memory_format=torch.channels_last)
    for state in mine.state.values():
        assert all(not isinstance(slot, Tensor) or slot.dim() != 4 or slot.stride()[1] == 1 for slot in state.values())


@pytest.mark.parametrize("case", CASES)
def test_a_gradient_of_another_memory_layout_is_the_same_gradient(case):
    def relay(number: int, model: nn.Module, optimizer: Any) -> None:
        if number % 2:
            model[0].weight.grad = model[0].weight.grad.contiguous()

    one, other = convolutions(), convolutions()
    (mine, _), (plain, _) = (pair(case, (whole(model), whole(convolutions()))) for model in (one, other))
    inputs = torch.randn(5, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    train(one, mine, inputs, relay)
    train(other, plain, inputs)
    assert_same(one, other)


@pytest.mark.parametrize("case", CASES)
def test_a_parameter_without_a_gradient_is_left_alone_and_counts_its_own_updates(case):
    def forget(number: int, model: nn.Module, optimizer: Any) -> None:
        if number % 3 == 1:
            model[2].weight.grad = None

    def watched(number: int, model: nn.Module, optimizer: Any) -> None:
        forget(number, model, optimizer)
        if number == 28:
            assert model[2].weight.grad is None
        before.append(model[2].weight.detach().clone())

    before: list[Tensor] = []
    one, other = mlp(), mlp()
    mine, theirs = pair(case, (whole(one), whole(other)))
    inputs = torch.randn(12, 6)
    train(one, mine, inputs, watched)
    train(other, theirs, inputs, forget)
    assert torch.equal(before[28], before[29]), "update 28 had no gradient and changed nothing"
    # Where counts differ, adam goes parameter by parameter, which rounds in its own way.
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
    assert mine.state[one[2].weight]["step"] == 20
    assert mine.state[one[0].weight]["step"] == UPDATES


@pytest.mark.parametrize("case", CASES)
def test_a_frozen_parameter_has_no_state_and_stays(case):
    one, other = mlp(), mlp()
    for model in (one, other):
        model[0].weight.requires_grad_(False)
    mine, theirs = pair(case, (whole(one), whole(other)))
    inputs = torch.randn(12, 6)
    train(one, mine, inputs)
    train(other, theirs, inputs)
    assert_same(one, other)
    assert torch.equal(one[0].weight, mlp()[0].weight)
    assert one[0].weight not in mine.state


def test_parameters_of_several_types_are_each_updated_in_their_own():
    one = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double(), nn.Linear(4, 4).bfloat16())
    mine = ours.adamw(whole(one), lr=1e-2)
    before = [parameter.detach().clone() for parameter in one.parameters()]
    for parameter in one.parameters():
        parameter.grad = torch.ones_like(parameter)
    mine.step()
    for old, parameter in zip(before, one.parameters(), strict=True):
        assert parameter.dtype == old.dtype
        torch.testing.assert_close(parameter.detach(), old * (1 - 1e-4) - 1e-2, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_pure_form_is_the_same_update_and_changes_nothing(case):
    one = mlp(torch.float64)
    mine, _ = pair(case, (whole(one), whole(mlp(torch.float64))))
    twin = {parameter: parameter.detach().clone() for parameter in one.parameters()}
    (group,) = mine.param_groups
    states = {parameter: [torch.zeros_like(parameter) for _ in mine.rule.slots(group)] for parameter in twin}
    inputs = torch.randn(12, 6, dtype=torch.float64)
    count = 0

    def alongside(number: int, model: nn.Module, optimizer: Any) -> None:
        nonlocal count
        count += 1
        for parameter in twin:
            given = twin[parameter], parameter.grad, states[parameter]
            kept = given[0].clone(), given[1].clone(), [slot.clone() for slot in given[2]]
            new, fresh = optimizer.rule.update(*given, optimizer.rule.numbers(group, count))
            assert torch.equal(kept[0], given[0])
            assert torch.equal(kept[1], given[1])
            assert all(torch.equal(a, b) for a, b in zip(kept[2], given[2], strict=True))
            twin[parameter], states[parameter] = new, list(fresh)

    train(one, mine, inputs, alongside)
    for parameter, value in twin.items():
        torch.testing.assert_close(value, parameter.detach(), rtol=1e-11, atol=1e-13)
        for name, slot in zip(mine.rule.slots(group), states[parameter], strict=True):
            torch.testing.assert_close(slot, mine.state[parameter][name], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_numbers_may_be_tensors_in_the_pure_form(case):
    mine, _ = pair(case, (whole(mlp()), whole(mlp())))
    (group,) = mine.param_groups
    parameter, gradient = torch.randn(4), torch.randn(4)
    state = [torch.rand(4) for _ in mine.rule.slots(group)]
    numbers = mine.rule.numbers(group, 3)
    plain, _ = mine.rule.update(parameter, gradient, state, numbers)
    held, _ = mine.rule.update(parameter, gradient, state, [torch.tensor(number) for number in numbers])
    torch.testing.assert_close(plain, held)


def test_a_sparse_gradient_is_refused():
    table = nn.Embedding(10, 3, sparse=True)
    optimizer = ours.sgd([{"params": list(table.parameters())}], lr=0.1)
    before = table.weight.detach().clone()
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        optimizer.step()
    assert torch.equal(before, table.weight)


def test_without_a_parameter_there_is_nothing_to_optimize():
    with pytest.raises(ValueError, match="no parameter"):
        ours.adam([{"params": []}])


def test_zero_grad_forgets_or_zeroes():
    model = mlp()
    optimizer = ours.sgd(whole(model), lr=0.1)
    model(torch.ones(1, 6)).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert all(not parameter.grad.any() for parameter in model.parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_closure_is_called_with_gradients_on_and_its_loss_returned():
    model = mlp()
    optimizer = ours.sgd(whole(model), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6)).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first


def test_building_and_stepping_leaves_the_compiler_unimported():
    code = (
        "import sys, torch, trainkit_optimizers as ours\n"
        "for make in (ours.sgd, ours.adam, ours.adamw):\n"
        "    p = torch.zeros(3, requires_grad=True)\n"
        "    o = make([{'params': [p]}], lr=0.1)\n"
        "    p.sum().backward()\n"
        "    o.step()\n"
        "    o.zero_grad()\n"
        "found = [name for name in sys.modules if name.startswith(('torch._dynamo', 'torch._inductor'))]\n"
        "assert not found, found[:5]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
