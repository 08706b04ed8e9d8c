"""Members inside one model: what each is, how they are trained, and which models can be made of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import DataSpec, Run, hookimpl
from trainkit.errors import RecipeError
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_ensemblers.factors import Factored
from trainkit_ensemblers.grouped import GroupedLinear
from trainkit_ensemblers.inside import batch_ensemble, packed
from trainkit_ensemblers.several import Several
from trainkit_models import convnet, linear, mlp, resnet

IMAGES = DataSpec((1, 8, 8), "classification", 10)
ROWS = DataSpec((6,), "classification", 3)
NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: linear(IMAGES),
    "mlp": lambda: mlp(IMAGES, widths=(24, 12), norm="batch"),
    "mlp, layer norm": lambda: mlp(IMAGES, widths=(24,), norm="layer"),
    "convnet": lambda: convnet(IMAGES, widths=(6, 12)),
    "resnet": lambda: resnet(IMAGES, depth=8, width=0.25, shortcut="B"),
}
Make = Callable[..., Any]


def made(make: Make, net: str, **settings: Any) -> Several:
    torch.manual_seed(2)
    model: Several = make(IMAGES, of=NETS[net](), **{"members": 3, **settings})
    return model.eval()


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("make", [packed, batch_ensemble])
def test_gives_the_mean_of_members_that_differ(make: Make, net: str) -> None:
    model = made(make, net)
    each = model.each(images())
    assert each.shape == (3, 5, 10)
    assert not torch.allclose(each[0], each[1])
    assert not torch.allclose(each[1], each[2])
    mean = each.softmax(dim=-1).mean(0)
    assert torch.allclose(model(images()).exp(), mean, atol=1e-6)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("gamma", [1, 2])
def test_a_packed_member_is_touched_by_its_own_weights_alone(net: str, gamma: int) -> None:
    model = made(packed, net, gamma=gamma)
    before = model.each(images())
    with torch.no_grad():
        for weights in model.parameters():  # member 1's rows
            weights.unflatten(0, (3, -1))[1].add_(0.5)
    after = model.each(images())
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])


def test_a_packed_member_is_a_narrow_model_of_its_own() -> None:
    torch.manual_seed(0)
    model = packed(ROWS, of=mlp(ROWS, widths=(9,)), members=3, alpha=2.0).eval()
    assert isinstance(model, Several)
    first, last = model.net.body[0], model.net.head  # type: ignore[index]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, GroupedLinear)
    assert first.weight.shape == (18, 6)
    assert last.weight.shape == (9, 6)
    inputs = torch.randn(4, 6)
    for member in range(3):
        own, out = slice(6 * member, 6 * member + 6), slice(3 * member, 3 * member + 3)
        hidden = functional.relu(functional.linear(inputs, first.weight[own], first.bias[own]))
        assert last.bias is not None
        alone = functional.linear(hidden, last.weight[out], last.bias[out])
        assert torch.allclose(model.each(inputs)[member], alone, atol=1e-6)


def test_a_packed_model_is_built_where_nothing_is_trained() -> None:
    with torch.no_grad():
        model = made(packed, "mlp")
        assert model.each(images()).shape == (3, 5, 10)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_widths_are_rounded_up_to_whole_shares() -> None:
    model = packed(ROWS, of=mlp(ROWS, widths=(10,)), members=4, alpha=1.5, gamma=2)
    assert model.net.body[0].out_features == 16  # type: ignore[union-attr, index]


def test_packed_layers_keep_the_variance_of_the_model() -> None:
    torch.manual_seed(0)
    net = mlp(IMAGES, widths=(400, 400))
    spread = float(net.body[2].weight.detach().std())  # type: ignore[union-attr, index]
    model = packed(IMAGES, of=net, members=4, alpha=2.0)
    weight = model.net.body[2].weight  # type: ignore[union-attr, index]
    assert weight.shape == (800, 200)
    assert float(weight.detach().std()) == pytest.approx(spread * (400 / 200) ** 0.5, rel=0.02)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 3, padding=1)])
def test_a_factored_member_is_the_layer_with_its_weights_times_the_factors(layer: Any) -> None:
    torch.manual_seed(1)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    factored = Factored(copy.deepcopy(layer), 2)
    with torch.no_grad():
        for numbers in (factored.r, factored.s, factored.bias):
            assert numbers is not None
            numbers.normal_()
    assert factored.bias is not None
    inputs = torch.randn(5, 4, *[6, 6] * (layer.weight.dim() == 4))
    both = factored(torch.cat([inputs, inputs])).unflatten(0, (2, -1))
    assert not torch.allclose(bias, factored.bias[:3])
    for member in range(2):
        r, s = factored.r.view(2, 4)[member], factored.s.view(2, 3)[member]
        scaled = weight * torch.outer(s, r).reshape(3, 4, *[1] * (weight.dim() - 2))
        own = factored.bias.view(2, 3)[member]
        call: Any = functional.linear if weight.dim() == 2 else lambda *x: functional.conv2d(*x, padding=1)
        assert torch.allclose(both[member], call(inputs, scaled, own), atol=1e-5)


def test_factors_begin_as_signs_that_no_weight_decay_pulls() -> None:
    torch.manual_seed(0)
    model = batch_ensemble(ROWS, of=mlp(ROWS, widths=(50,)), members=4)
    for name, numbers in model.named_parameters():
        if re.search(r"\.[rs]$", name):
            assert numbers.dim() == 1
            assert set(numbers.tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("make", [packed, batch_ensemble])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_other_tasks(make: Make, task: Any) -> None:
    torch.manual_seed(0)
    spec = DataSpec((6,), task, 1)
    model = make(spec, of=mlp(spec, widths=(8,)), members=3).eval()
    inputs = torch.randn(7, 6)
    each = model.each(inputs)
    mean = each.sigmoid().mean(0) if task == "binary" else each.mean(0)
    assert torch.allclose(model(inputs).sigmoid() if task == "binary" else model(inputs), mean, atol=1e-6)


class _OfTwo:
    @staticmethod
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)


class _Given:
    targets = torch.tensor([0, 1, 2, 3, 4])


@pytest.mark.parametrize("make", [packed, batch_ensemble])
def test_each_member_learns_from_its_own_loss(make: Make) -> None:
    model = made(make, "convnet").train()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model(images())
    run: Any = _OfTwo
    batch: Any = _Given
    loss = model.trainkit_loss(run, batch)
    for name, value in model.named_buffers():
        value.copy_(buffers[name])
    each = model.each(images())
    losses = torch.stack([functional.cross_entropy(outputs, _Given.targets) for outputs in each])
    assert torch.allclose(loss, losses.mean(), atol=1e-6)
    assert not torch.allclose(loss, functional.cross_entropy(each.softmax(-1).mean(0).log(), _Given.targets))


class _Mixing(nn.Module):
    """Turns the order of channels around, which parts no member's from another's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.first(inputs).flip(1))
        return outputs


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: resnet(IMAGES, depth=8, width=0.25), "counts on the number of its channels"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Bilinear(64, 64, 10)), "1 \\(Bilinear\\), unknown"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(1)), "no linear and no convolutional layer"),
        (lambda: nn.Linear(64, 10), "one layer by itself"),
        (lambda: packed(IMAGES, of=mlp(IMAGES), members=2), "members inside already"),
    ],
)
def test_models_that_cannot_be_packed(net: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        packed(IMAGES, of=net(), members=3)
    assert "\n" in str(caught.value)  # a cure


def test_members_that_would_see_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="mixes the channels of members behind first"):
        packed(ROWS, of=_Mixing(), members=2)


def test_without_layers_nothing_is_shared() -> None:
    with pytest.raises(ValueError, match="no linear and no convolutional layer that members could share"):
        batch_ensemble(ROWS, of=nn.Sequential(nn.Flatten()), members=2)


class _Stop:
    stateless = True

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 14:  # in the second epoch
            run.stop_reason, run.interrupted = "a test", True


RECIPE = """
recipe = 1
seed = 3
logger = []
[run]
duration = "3ep"
threads = 1
[data]
use = "digits"
batch_size = 128
[model]
use = "{use}"
members = 3
of = {{ use = "mlp", widths = [32], dropout = 0.1 }}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adam"
lr = 0.01
"""


@pytest.mark.parametrize("use", ["packed", "batch_ensemble"])
def test_a_recipe_trains_it_and_goes_on_bit_for_bit(use: str, tmp_path: Path) -> None:
    file = tmp_path / "inside.toml"
    file.write_text(RECIPE.format(use=use))
    plugins = Plugins([], [])

    recipe = load_recipe(file, [], plugins)

    def train(folder: str, *listeners: object, resume: bool = False) -> Any:
        return launch(
            recipe, plugins, folder=tmp_path / folder, listeners=listeners, resume=resume, say=lambda text: None
        )

    whole = train("whole")
    assert whole.status == "finished"
    assert whole.metrics["val.accuracy"] > 0.8
    assert train("parts", _Stop()).status == "interrupted"
    parts = train("parts", resume=True)
    assert parts.weights_sha256 == whole.weights_sha256
    assert parts.metrics["test.loss"] == whole.metrics["test.loss"]


def test_a_second_loss_beside_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "twice.toml"
    file.write_text(
        RECIPE.format(use="packed")
        .replace('{ use = "mlp"', '{ use = "batch_ensemble", of = { use = "mlp"')
        .replace("0.1 }", "0.1 } }")
    )
    with pytest.raises(RecipeError, match="takes over the loss"):
        load_recipe(file, [], Plugins([], []))
