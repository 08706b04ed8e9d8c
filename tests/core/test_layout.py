"""Models that do not bear channels_last are run without it, and the user is told why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit.fit import use_channels_last
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

INPUTS = torch.randn(2, 3, 8, 8)
PLUGIN = """
import torch
from torch import nn
from trainkit import Component, DataSpec, hookimpl


class Viewing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, inputs):
        return self.head(self.conv(inputs).view(len(inputs), -1))


def viewing(data_spec: DataSpec, /) -> nn.Module:
    \"\"\"A model that takes its activations to lie channel by channel.\"\"\"
    return Viewing()


@hookimpl
def trainkit_components() -> list[Component]:
    return [Component("model", viewing, example={})]
"""


class ByStorage(nn.Module):
    """Takes numbers as they lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, inputs):
        made = self.conv(inputs)
        return torch.as_strided(made, (len(made), 36), (144, 1))


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(context, inputs):
        return inputs * 2

    @staticmethod
    def backward(context, gradient):
        return gradient.view(-1).view_as(gradient) * 2


class OnTheWayBack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, inputs):
        return self.conv(Backward.apply(self.conv(inputs.repeat(1, 1, 2, 2))[:, :3]).relu())


class Volumes(nn.Module):
    """Has parameters of five dimensions, for which torch has no such layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.after = nn.Conv2d(3, 4, 3), nn.Conv3d(1, 1, 1)

    def forward(self, inputs):
        return self.after(self.conv(inputs)[:, None])


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        return self.conv(inputs.mul_(2))


class Changing(nn.Module):
    """Draws random numbers, and counts in buffers: one that it puts another in place of, and an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("image", torch.zeros(1, 4, 6, 6))

    def forward(self, inputs):
        self.calls = self.calls + 1
        self.image += 1
        return self.conv(inputs) * self.calls + self.image + torch.randn(6, 6)


class OtherShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, inputs):
        return self.conv(inputs)[:, : 4 if inputs.is_contiguous() else 3]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (ByStorage, "computes something else"),
        (OtherShape, "computes something else"),
        (OnTheWayBack, "raises RuntimeError in it: view size is not compatible"),
        (Volumes, "raises RuntimeError in it: required rank 4 tensor"),
    ],
)
def test_a_model_that_breaks_stays_as_it_was(model, why) -> None:
    module = model()
    expected = module(INPUTS)
    assert why in use_channels_last(module, INPUTS)
    assert module.training
    assert module.conv.weight.is_contiguous()
    assert torch.equal(module(INPUTS), expected)


def test_a_model_that_bears_it_is_laid_out_and_nothing_else_changes() -> None:
    model = Counting()
    inputs, drawn = INPUTS.clone(), torch.get_rng_state()
    assert use_channels_last(model, inputs) == ""
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert float(model.calls) == 0
    assert model.conv.weight.grad is None
    assert torch.equal(inputs, INPUTS)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_model_that_draws_and_replaces_its_buffers_is_tried_twice_from_the_same_state() -> None:
    model = Changing()
    calls = model.calls
    assert use_channels_last(model, INPUTS) == ""
    assert model.calls is calls
    assert float(model.calls) == 0
    assert not model.image.any()


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
def test_layers_that_learn_their_size_from_the_first_batch_are_laid_out() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    assert use_channels_last(model, INPUTS) == ""
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_breaks_anyway_is_left_to_the_check_of_what_fits() -> None:
    assert use_channels_last(nn.Conv2d(5, 4, 3), INPUTS) == ""


@pytest.mark.parametrize(("layout", "name"), [('"auto"', "viewing_auto"), ("false", "viewing_false")])
def test_a_recipe_with_such_a_model_runs_and_says_so_once(load, tmp_path, layout, name) -> None:
    (tmp_path / f"{name}.py").write_text(PLUGIN, encoding="utf-8")
    load()
    own = Plugins([str(tmp_path / f"{name}.py")])
    changes = ["data.features=[3,8,8]", "model={use='viewing'}", f"run.channels_last={layout}"]
    report = launch(load_recipe(tmp_path / "small.toml", changes, own), own, folder=tmp_path / "run")
    assert report.status == "finished"
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("channels_last is not used: the model raises RuntimeError in it") == (layout == '"auto"')
