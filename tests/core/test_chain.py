"""A chain of layers called directly computes what the model does, and sees hooks and exchanged layers at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations

from trainkit.chain import Chain, chained, is_chain


class Doubled(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * inputs


def model() -> nn.Sequential:
    torch.manual_seed(3)
    inner = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.BatchNorm1d(8), Doubled())
    return nn.Sequential(inner, nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(8, 3, bias=False))


def both(net: nn.Module, call: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients of the model and of the call, from the same random state and buffers."""
    inputs = torch.linspace(-1, 1, 30).reshape(5, 6)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    found = []
    for forward in (net, call):
        net.load_state_dict(kept)
        net.zero_grad()
        torch.manual_seed(7)
        outputs = forward(inputs)
        outputs.square().sum().backward()
        gradients = [p.grad.clone() for p in net.parameters()]
        found.append([outputs.detach().clone(), *gradients, *(value.clone() for value in net.buffers())])
    return found[0], found[1]


@pytest.mark.parametrize("training", [True, False])
def test_values_gradients_and_buffers_are_those_of_the_model(training: bool) -> None:
    net = model().train(training)
    chain = chained(net)
    assert isinstance(chain, Chain)
    for expected, found in zip(*both(net, chain), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("place", [(), (0,), (0, 0), (0, 2), (3,)])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_a_hook_on_any_module_is_called_while_it_is_there(place: tuple[int, ...], kind: str) -> None:
    net = model()
    chain = Chain(net)
    module: nn.Module = net
    for number in place:
        module = module[number]  # type: ignore[index]
    seen: list[int] = []

    def hook(*given: object) -> None:
        seen.append(len(given))

    handle = getattr(module, f"register_{kind}_hook")(hook)
    chain(torch.randn(5, 6, requires_grad=True)).sum().backward()
    assert len(seen) == 1
    handle.remove()
    chain(torch.randn(5, 6, requires_grad=True)).sum().backward()
    assert len(seen) == 1


def test_a_hook_on_all_modules_is_called() -> None:
    net = model()
    chain = Chain(net)
    names: list[str] = []
    handle = register_module_forward_hook(lambda module, inputs, outputs: names.append(type(module).__name__))
    try:
        chain(torch.randn(5, 6))
    finally:
        handle.remove()
    assert sorted(names) == sorted(type(module).__name__ for module in net.modules())


def test_exchanged_layers_and_weights_are_used() -> None:
    net = model().eval()
    chain = Chain(net)
    inputs = torch.randn(5, 6)
    net[0][0].weight = nn.Parameter(torch.zeros(8, 6))  # type: ignore[index]
    assert torch.equal(chain(inputs), net(inputs))
    net[0].append(nn.Linear(8, 8))  # type: ignore[operator]
    assert torch.equal(chain(inputs), net(inputs))
    net[3] = nn.Linear(8, 2)
    assert chain(inputs).shape == (5, 2)
    assert torch.equal(chain(inputs), net(inputs))

    class Odd(nn.Linear):
        def __call__(self, inputs: Tensor) -> Tensor:
            return super().__call__(inputs) + 1

    net[3] = Odd(8, 2)
    assert torch.equal(chain(inputs), net(inputs))


def test_a_weight_that_is_computed_is_computed() -> None:
    net = model().eval()
    parametrizations.weight_norm(net[3])
    chain = Chain(net)
    for expected, found in zip(*both(net, chain), strict=True):
        assert torch.equal(expected, found)


class Own(nn.Sequential):
    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) + 1


def overridden() -> nn.Module:
    net = model()
    net[0][0].forward = lambda inputs: torch.zeros(len(inputs), 8)  # type: ignore[index,method-assign,assignment]
    return net


@pytest.mark.parametrize(
    "net",
    [nn.Linear(2, 2), Own(nn.Linear(2, 2)), overridden(), lambda inputs: inputs],
    ids=["layer", "own", "set", "f"],
)
def test_what_is_no_chain_is_left_as_it_is(net: Callable[[Tensor], Tensor]) -> None:
    assert not is_chain(net)
    assert chained(net) is net
