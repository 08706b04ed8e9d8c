"""Residual networks against the published numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit import DataError, DataSpec
from trainkit_models import resnet
from trainkit_models.layers import mean_over_image

CIFAR = DataSpec((3, 32, 32), "classification", 10)
IMAGENET = DataSpec((3, 224, 224), "classification", 1000)


def size(data: DataSpec, **settings: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in resnet(data, **settings).parameters())


# Table 6 of arXiv 1512.03385: 0.27, 0.46, 0.66 and 0.85 million with option A.
@pytest.mark.parametrize(("depth", "count"), [(20, 269722), (32, 464154), (44, 658586), (56, 853018)])
def test_cifar_family_has_the_published_parameters(depth: Any, count: int) -> None:
    assert size(CIFAR, depth=depth) == count


# torchvision's counts; bottlenecks strided in the 3x3.
@pytest.mark.parametrize(("depth", "count"), [(18, 11689512), (34, 21797672), (50, 25557032)])
def test_imagenet_family_has_the_published_parameters(depth: Any, count: int) -> None:
    assert size(IMAGENET, depth=depth) == count


# The usual CIFAR-10 versions: 3x3 stem, no pooling, ten classes.
@pytest.mark.parametrize(("depth", "count"), [(18, 11173962), (34, 21282122), (50, 23520842)])
def test_small_stem_has_the_published_parameters(depth: Any, count: int) -> None:
    assert size(CIFAR, depth=depth) == count


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 18, 34, 50])
def test_depth_counts_the_layers_with_weights(depth: Any) -> None:
    with torch.device("meta"):
        model = resnet(CIFAR, depth=depth, shortcut="A")
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


def test_option_b_learns_what_option_a_pads() -> None:
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert size(CIFAR, depth=20, shortcut="B") - size(CIFAR, depth=20, shortcut="A") == projections
    assert size(CIFAR, depth=20) == size(CIFAR, depth=20, shortcut="A")
    assert size(CIFAR, depth=18) == size(CIFAR, depth=18, shortcut="B")


def test_option_a_takes_every_second_pixel_and_pads_with_zero_channels() -> None:
    shortcut = resnet(CIFAR, depth=8).get_submodule("stages.1.0.shortcut")
    inputs = torch.randn(2, 16, 7, 8)
    outputs = shortcut(inputs)
    assert outputs.shape == (2, 32, 4, 4)
    assert torch.equal(outputs[:, :16], inputs[:, :, ::2, ::2])
    assert not outputs[:, 16:].any()


def test_option_a_keeps_channels_last_forwards_and_backwards() -> None:
    """One layer that falls out of it makes every layer behind it convert."""
    shortcut = resnet(CIFAR, depth=8).get_submodule("stages.1.0.shortcut")
    inputs = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    outputs = shortcut(inputs)
    (gradient,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    for tensor in (outputs, gradient):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def test_the_mean_over_the_image_keeps_channels_last_in_its_gradient() -> None:
    inputs = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    outputs = mean_over_image(inputs)
    torch.testing.assert_close(outputs, inputs.mean((2, 3)))
    (gradient,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_width_scales_every_stage() -> None:
    model = resnet(CIFAR, depth=8, width=2.0)
    filters = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert filters == [32, 32, 32, 64, 64, 128, 128]
    assert resnet(CIFAR, depth=8, width=0.01)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def sides(model: nn.Module, inputs: Tensor) -> list[int]:
    """The image's side after the stem and each stage."""
    found: list[int] = []
    stages = model.get_submodule("stages")
    assert isinstance(stages, nn.Sequential)
    for module in (model.get_submodule("stem"), *stages):
        module.register_forward_hook(lambda _module, _inputs, outputs: found.append(outputs.shape[-1]))
    with torch.no_grad():
        model(inputs)
    return found


@pytest.mark.parametrize(
    ("side", "depth", "stem", "expected"),
    [
        (8, 8, "auto", [8, 8, 4, 2]),
        (32, 20, "auto", [32, 32, 16, 8]),
        (28, 18, "auto", [28, 28, 14, 7, 4]),
        (64, 18, "auto", [64, 64, 32, 16, 8]),
        (65, 18, "auto", [17, 17, 9, 5, 3]),
        (224, 18, "auto", [56, 56, 28, 14, 7]),
        (64, 18, "imagenet", [16, 16, 8, 4, 2]),
        (96, 8, "small", [96, 96, 48, 24]),
    ],
)
def test_stem_and_stages_halve_as_stated(side: int, depth: Any, stem: Any, expected: list[int]) -> None:
    model = resnet(DataSpec((3, side, side), "classification", 10), depth=depth, stem=stem, width=0.05).eval()
    assert sides(model, torch.zeros(1, 3, side, side)) == expected


def test_convolutions_start_as_he_over_the_fan_out() -> None:
    torch.manual_seed(0)
    model = resnet(CIFAR, depth=18, width=0.5)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            spread = 4 * expected / math.sqrt(2 * module.weight.numel())
            assert abs(module.weight.std().item() - expected) < spread + 1e-3 * expected
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert not module.bias.any()


@pytest.mark.parametrize("depth", [8, 18, 50])
def test_zero_init_makes_each_block_its_shortcut(depth: Any) -> None:
    model = resnet(CIFAR, depth=depth, width=0.25, zero_init_residual=True)
    block = model.get_submodule("stages.1.1" if depth != 8 else "stages.0.0")
    channels = block.conv1.in_channels
    inputs = torch.rand(2, channels, 8, 8)  # not negative, so that the closing relu lets it pass
    assert torch.equal(block(inputs), inputs)


@pytest.mark.parametrize("shape", [(13,), (8, 8), (3, 8, 8, 8)], ids=str)
def test_refuses_data_without_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        resnet(DataSpec(shape, "classification", 3))
    expected = f"model resnet needs images (channels, height, width), the data has {shape}: use model mlp"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("shape", "settings", "text"),
    [
        ((1, 3, 8), {"depth": 8}, r"at least 4 x 4 pixels, the data has \(1, 3, 8\): .*model mlp"),
        ((1, 7, 7), {"depth": 18}, r"depth 18 .* at least 8 x 8 pixels.*depth 8"),
        ((1, 8, 8), {"depth": 18, "stem": "imagenet"}, r'imagenet stem halves .* 5 times .* use stem = "small"'),
    ],
)
def test_refuses_images_too_small(shape: tuple[int, ...], settings: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        resnet(DataSpec(shape, "classification", 3), **settings)
