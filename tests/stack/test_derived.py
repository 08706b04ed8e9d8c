"""Formulas that take the place of recorded graphs and of fused kernels give what these give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.lanes.stack import Stack
from trainkit_losses.classes import CrossEntropy
from trainkit_optimizers.rules import Adam, Sgd


def chain(run, *layers: nn.Module) -> None:
    """Give a run another model of the same parameters."""
    body, head = (module for module in run.model.modules() if isinstance(module, nn.Linear))
    run.model = run.forward = nn.Sequential(body, *layers, head)


SMOOTH = [nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ELU(0.7), nn.Softplus(2.0, 1.0)]


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.Identity(), *SMOOTH], ids=str
)
def test_slopes_of_activations_are_those_of_torch(trainer, layer: nn.Module) -> None:
    lanes = [trainer.lane(f"seed={i}", double=True) for i in range(3)]
    others = [trainer.lane(f"seed={i}", double=True) for i in range(3)]
    for lane in (*lanes, *others):
        chain(lane.run, layer)
    stack = Stack(lanes)
    assert stack.vector.layers is not None
    assert stack.vector.layers.derived is not None
    found = trainer.stacked(stack, 2)
    for lane, other in zip(found, others, strict=True):
        alone = trainer.on(other, 2)
        assert lane.losses == pytest.approx(alone.losses, rel=1e-11)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(lane.weights[name], tensor, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("turned", [False, True])
def test_slopes_of_cross_entropy_are_those_of_torch(smoothing: float, turned: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64) * 30
    if turned:
        outputs = outputs.transpose(1, 2).contiguous().transpose(1, 2)
    targets = torch.randint(5, (3, 7), generator=generator)
    loss = CrossEntropy(smoothing)
    made = loss.sloped(outputs, targets)
    assert made is not None
    graded = outputs.clone().requires_grad_()
    each = loss.each(graded.flatten(0, 1), targets.flatten())
    (slopes,) = torch.autograd.grad(each.sum(), [graded])
    torch.testing.assert_close(made[0].flatten(), each.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made[1], slopes, rtol=1e-12, atol=1e-12)
    assert made[1].stride() == outputs.stride()
    assert loss.sloped(outputs, torch.softmax(outputs, -1)) is None


def test_what_is_not_finite_stays_so() -> None:
    outputs = torch.tensor([[[float("inf"), 0.0], [float("nan"), 1.0], [float("-inf"), 1.0], [1.0, 2.0]]])
    losses, slopes = CrossEntropy(0.0).sloped(outputs, torch.tensor([[0, 0, 0, 0]]))  # type: ignore[misc]
    expected = CrossEntropy(0.0).each(outputs[0], torch.tensor([0, 0, 0, 0]))
    torch.testing.assert_close(losses[0], expected, equal_nan=True)
    assert slopes[0, 3].isfinite().all()
    assert slopes[0, :2].isnan().all()


RULES = [Sgd(False), Sgd(True), Sgd(False, True), Sgd(True, True), Adam(False), Adam(True)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rows_are_updated_as_each_alone(rule, momentum: float) -> None:
    groups = [
        {"lr": lr, "momentum": momentum, "weight_decay": 0.1 * lr, "betas": (0.9 - lr, 0.99), "eps": 1e-8}
        for lr in (0.0, 0.01, 0.3)
    ]
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(3, 11, generator=generator, dtype=torch.float64)
    slots = [torch.zeros_like(values) for _ in rule.slots(groups[0])]
    alone, states = values.clone(), [slot.clone() for slot in slots]
    for k in range(1, 6):
        gradient = torch.randn(3, 11, generator=generator, dtype=torch.float64)
        for row, group in enumerate(groups):
            held = [state[row] for state in states]
            new, fresh = rule.update(alone[row].clone(), gradient[row], held, rule.numbers(group, k))
            alone[row] = new
            for state, value in zip(states, fresh, strict=True):
                state[row] = value
        numbers = torch.tensor([rule.numbers(group, k) for group in groups], dtype=torch.float64)
        rule.update_rows(values, gradient, slots, list(numbers.T[:, :, None]))
    torch.testing.assert_close(values, alone, rtol=1e-12, atol=1e-14)
    for slot, state in zip(slots, states, strict=True):
        torch.testing.assert_close(slot, state, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", ['{use="sgd", lr=0.05, momentum=0.9, weight_decay=0.01}', '{use="adamw"}'])
@pytest.mark.parametrize("hook", [[], ['callback=[{use="clip_norm", max_norm=0.5}]']])
def test_many_lanes_are_the_runs_alone(trainer, optimizer: str, hook: list[str]) -> None:
    """As many as are updated at once."""
    changes = [[f"seed={i}", f"optimizer={optimizer}", f"optimizer.lr=0.0{i + 1}", *hook] for i in range(9)]
    stack = Stack([trainer.lane(*some, double=True) for some in changes])
    found = trainer.stacked(stack, 4)
    assert all(stack._at_once)
    for lane, some in zip(found, changes, strict=True):
        alone = trainer.alone(*some, epochs=4, double=True)
        assert lane.losses == pytest.approx(alone.losses, rel=1e-10)
        for name, tensor in alone.weights.items():
            torch.testing.assert_close(lane.weights[name], tensor, rtol=1e-10, atol=1e-12)
