"""The models without shortcuts: linear, mlp and convnet."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trainkit import DataError, DataSpec
from trainkit_models import convnet, linear, mlp

MNIST = DataSpec((1, 28, 28), "classification", 10)
FLAT = DataSpec((13,), "classification", 3)


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.get_submodule("body")]


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_linear_is_one_layer() -> None:
    model = linear(MNIST)
    inputs = torch.randn(4, 1, 28, 28)
    assert count(model) == 7850
    assert count(linear(MNIST, bias=False)) == 7840
    head = model.get_submodule("head")
    torch.testing.assert_close(model(inputs), head(inputs.flatten(1)))


def test_the_classic_lesson_is_an_mlp() -> None:
    """Flatten, Dense 128, ReLU, Dense 10: 101,770 parameters on MNIST's shape."""
    model = mlp(MNIST, widths=(128,))
    assert kinds(model) == ["Linear", "ReLU"]
    assert count(model) == 101770
    assert list(dict(model.named_parameters())) == ["body.0.weight", "body.0.bias", "head.weight", "head.bias"]


def test_mlp_takes_a_recipes_list() -> None:
    assert kinds(mlp(FLAT, widths=[8, 4])) == ["Linear", "ReLU", "Linear", "ReLU"]


def test_mlp_layers_come_in_the_stated_order() -> None:
    model = mlp(FLAT, widths=(8,), norm="batch", activation="gelu", dropout=0.2)
    assert kinds(model) == ["Linear", "BatchNorm1d", "GELU", "Dropout"]
    assert model.get_submodule("body.0").bias is None
    assert kinds(mlp(FLAT, widths=(8,), norm="layer", activation="silu")) == ["Linear", "LayerNorm", "SiLU"]


def test_mlp_without_hidden_layers_is_linear() -> None:
    assert count(mlp(FLAT, widths=())) == count(linear(FLAT))


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_hidden_layers_start_as_he_over_the_fan_in(activation: Any) -> None:
    torch.manual_seed(0)
    layer = mlp(MNIST, widths=(256,), activation=activation).get_submodule("body.0")
    assert isinstance(layer, nn.Linear)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 784), rel=0.01)
    assert not layer.bias.any()


def test_tanh_layers_start_as_glorot() -> None:
    torch.manual_seed(0)
    layer = mlp(MNIST, widths=(256,), activation="tanh").get_submodule("body.0")
    assert isinstance(layer, nn.Linear)
    limit = math.sqrt(6 / (784 + 256))
    assert layer.weight.abs().max().item() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.01)


def test_dropout_acts_in_training_alone() -> None:
    model = mlp(FLAT, widths=(64,), dropout=0.5)
    inputs = torch.randn(8, 13)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_convnet_halves_between_its_convolutions() -> None:
    model = convnet(MNIST, widths=(4, 8, 16))
    assert kinds(model).count("MaxPool2d") == 2
    assert model.get_submodule("body")(torch.zeros(2, 1, 28, 28)).shape == (2, 16, 7, 7)
    assert kinds(convnet(MNIST, widths=(4,), norm="none", activation="tanh")) == ["Conv2d", "Tanh"]


def test_convnet_takes_the_smallest_image_it_can_halve() -> None:
    tiny = DataSpec((1, 4, 4), "classification", 3)
    assert convnet(tiny, widths=(2, 2, 2))(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    with pytest.raises(
        DataError, match=r"4 widths halves .* 3 times .* 8 x 8 pixels, the data has \(1, 4, 4\): .*fewer"
    ):
        convnet(tiny, widths=(2, 2, 2, 2))


def test_convnet_refuses_what_it_cannot_be() -> None:
    with pytest.raises(DataError, match=r"convnet needs images .*, the data has \(13,\): use model mlp"):
        convnet(FLAT)
    with pytest.raises(DataError, match="use a model of tokens, such as gpt"):
        convnet(DataSpec((13,), "tokens", 5))
    with pytest.raises(DataError, match="at least one convolution"):
        convnet(MNIST, widths=())
