"""What our models do beyond what every model must: start sanely, say what they refuse, and have a head by that name."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional

import trainkit_models
from trainkit import DataError, DataSpec

COMPONENTS = {component.name: component for component in trainkit_models.trainkit_components()}
SMALL: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"widths": (24, 12)},
    "convnet": {"widths": (8, 12)},
    "resnet": {"depth": 8, "width": 0.5},
}
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 28)]


def spec(shape: tuple[int, ...] = (1, 8, 8), outputs: int = 10) -> DataSpec:
    return DataSpec(shape, "classification" if outputs > 1 else "regression", outputs)


def build(name: str, data: DataSpec | None = None, seed: int = 3, **settings: Any) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = COMPONENTS[name].factory(data or spec(), **(SMALL[name] | settings))
    return model


def images(count: int = 16, shape: tuple[int, ...] = (1, 8, 8)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))


@pytest.fixture(params=list(SMALL))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_listing_the_models_does_not_import_torch() -> None:
    code = "import sys, trainkit_models as m; m.trainkit_components(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("outputs", [1, 10])
def test_fits_input_shape_and_outputs(name: str, shape: tuple[int, ...], outputs: int) -> None:
    model = build(name, spec(shape, outputs))
    assert model(images(4, shape)).shape == (4, outputs)


def test_last_layer_is_called_head(name: str) -> None:
    head = build(name).head
    assert isinstance(head, nn.Linear)
    assert head.out_features == 10


def test_initial_loss_is_near_ln_classes(name: str) -> None:
    model = build(name, spec((3, 32, 32)))
    loss = functional.cross_entropy(model(images(64, (3, 32, 32))), torch.arange(64) % 10)
    assert abs(loss.item() - math.log(10)) < 0.35


def test_refuses_inputs_of_another_shape(name: str) -> None:
    model = build(name)
    for wrong in [(4, 1, 8, 9), (1, 8, 8), (4, 64)]:
        with pytest.raises(DataError, match=r"samples \(1, 8, 8\).*give it \(batch, 1, 8, 8\)"):
            model(torch.zeros(wrong))


def test_channels_last_gives_the_same(name: str) -> None:
    model = build(name, spec((3, 32, 32))).double()
    inputs = images(8, (3, 32, 32)).double()
    plain = model(inputs)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(inputs.contiguous(memory_format=torch.channels_last)), plain)


@pytest.mark.parametrize("training", [True, False])
def test_functional_gradient_equals_backward(name: str, training: bool) -> None:
    model = build(name).double().train(training)
    inputs, targets = images().double(), torch.arange(16) % 10
    params = {label: p.detach() for label, p in model.named_parameters()}
    buffers = {label: b.clone() for label, b in model.named_buffers()}

    def loss(params: dict[str, Tensor]) -> Tensor:
        # Batch norm writes its running figures, which a transform allows to what it made itself.
        fresh = {label: b.clone() for label, b in buffers.items()}
        return functional.cross_entropy(functional_call(model, (params, fresh), (inputs,)), targets)

    found = grad(loss)(params)
    functional.cross_entropy(model(inputs), targets).backward()
    for label, parameter in model.named_parameters():
        torch.testing.assert_close(found[label], parameter.grad)
