"""The recipes of cifar10_speed: their numbers are the published ones, and their updates those of a loop by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainkit import Batch, Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit_optimizers import matrix_rules

RECIPES = Path(__file__).parents[1] / "recipes"
AUGMENT = "[{use='flip', alternate=true}, {use='random_crop', padding=2, mode='reflect'}]"
SMALL = [
    "data={use='synthetic', samples=400, classes=4, features=[3,9,9], batch_size=32, drop_last=true, "
    f"augment={AUGMENT}}}",
    "model.widths=[8,12]",
    "run.channels_last=false",
    "run.precision=float64",
    "run.duration=4ep",
    "logger=[]",
]


WITHIN = (
    1e-6  # of losses; of weights a hundred times: the smallest norm that is divided by is made sure of in another way
)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins(without=["reports"])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Watched:
    """Keeps the model as the run begins with it, each update's batch and loss, and the run; stops it where asked."""

    stateless = True

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.losses: list[float] = []

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run, self.model = run, copy.deepcopy(run.model)

    @hookimpl
    def trainkit_loss(self, batch: Batch) -> None:
        self.batches.append((batch.inputs.clone(), batch.targets.clone()))

    @hookimpl
    def trainkit_step_end(self, run: Run, result: Any) -> None:
        self.losses.append(float(result.losses))
        if run.step == self.stop:
            run.stop_reason, run.interrupted = "signal SIGTERM", True


def recipe_of(name: str, plugins: Plugins, *changes: str) -> Recipe:
    return load_recipe(RECIPES / f"{name}.toml", list(changes), plugins)


# ------------------------------------------------------------ the numbers


def rates(tables: Any, path: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The rate, and what is taken off the weights in an update, of each group of an optimizer's table."""
    own = tables["optimizer"]
    for key in path:
        own = own[key]
    found = {"": (own["lr"], own["lr"] * own["weight_decay"])}
    for group in tables["optimizer"]["group"]:
        rate = own["lr"] * group["lr_scale"]
        found[group["match"]] = rate, rate * group["weight_decay"]
    return found


def test_the_numbers_with_muon_are_the_published_ones(plugins: Plugins) -> None:
    tables = recipe_of("cifar10_speed", plugins).tables
    batch, width = tables["data"]["batch_size"], 256
    # The original sums losses over the batch, and its head of deviation 1 stands for one of 1 / sqrt(3 * width).
    head = math.sqrt(3 * width)
    decay = 2e-6 * 2000
    found = rates(tables, ["rest"])
    assert batch == 2000
    assert found[""] == pytest.approx((0.67 * batch / head**2, decay), rel=1e-3)
    for name in ("whiten.bias", "*norm*.bias"):
        assert found[name] == pytest.approx((0.053 * batch, decay), rel=1e-3)
    assert tables["model"]["logit_scale"] == pytest.approx(head / width, rel=1e-4)
    muon = tables["optimizer"]
    assert (muon["lr"], muon["momentum"], muon["ns_steps"], muon["weight_decay"]) == (0.24, 0.6, 3, 0.0)


def test_the_numbers_with_sgd_are_the_published_ones(plugins: Plugins) -> None:
    tables = recipe_of("cifar10_speed_sgd", plugins).tables
    assert tables["data"]["batch_size"] == 1024
    scale = 1 + 1 / (1 - 0.85)
    found = rates(tables, [])
    decay = 0.0153 / scale
    assert found[""] == found["whiten.bias"] == pytest.approx((11.5 / scale, decay), rel=1e-4)
    assert found["*norm*.bias"] == pytest.approx((64 * 11.5 / scale, decay), rel=1e-4)
    (lookahead,) = [table for table in tables["callback"] if table["use"] == "lookahead"]
    assert 1 - lookahead["alpha"] == pytest.approx(0.95**5, abs=1e-5)


def test_the_numbers_to_96_percent_are_the_published_ones(plugins: Plugins) -> None:
    tables = recipe_of("cifar10_speed_96", plugins).tables
    scale = 1 + 1 / (1 - 0.85)
    found = rates(tables, [])
    decay = 0.012 / scale
    assert found[""] == found["whiten.bias"] == pytest.approx((9 / scale, decay), rel=1e-4)
    assert found["*norm*.bias"] == pytest.approx((64 * 9 / scale, decay), rel=1e-4)


# ------------------------------------------------------------ the updates


def orthogonal(matrix: Tensor, steps: int, eps: float) -> Tensor:
    """The published Newton-Schulz iterations, but in 64 bits: in 16, any rounding makes another training."""
    wide = matrix.double() if len(matrix) <= matrix.shape[1] else matrix.double().T
    wide = wide / (wide.norm() + eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if len(matrix) <= matrix.shape[1] else wide.T


def with_muon(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], tables: Any) -> Iterator[float]:
    """The published training with Muon, of means over the batch; gives each update's loss."""
    total, first = len(batches), math.floor(0.375 * len(batches))
    named = dict(model.named_parameters())
    kernels = [p for p in named.values() if p.dim() == 4 and p.requires_grad]
    biases = [p for name, p in named.items() if "norm" in name and p.requires_grad]
    held = [torch.zeros_like(p) for p in kernels]
    found = rates(tables, ["rest"])
    groups = [([named["whiten.bias"]], "whiten.bias"), (biases, "*norm*.bias"), ([named["head.weight"]], "")]
    sgd = torch.optim.SGD(
        [
            {
                "params": params,
                "lr": found[key][0],
                "weight_decay": found[key][1] / found[key][0],
                "first": found[key][0],
            }
            for params, key in groups
        ],
        momentum=0.85,
        nesterov=True,
    )
    for t, (inputs, targets) in enumerate(batches):
        model.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets, label_smoothing=0.2)
        loss.backward()
        ends = [first, total, total]
        for group, end in zip(sgd.param_groups, ends, strict=True):
            group["lr"] = group["first"] * max(0.0, 1 - t / end)
        sgd.step()
        with torch.no_grad():
            for kernel, buffer in zip(kernels, held, strict=True):
                assert kernel.grad is not None
                buffer.mul_(0.6).add_(kernel.grad)
                step = orthogonal((kernel.grad + 0.6 * buffer).flatten(1), 3, 1e-7).reshape(kernel.shape)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm()).sub_(0.24 * (1 - t / total) * step)
        yield loss.item()


def with_sgd(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], tables: Any) -> Iterator[float]:
    """The published training with SGD and slow weights, of means over the batch; gives each update's loss."""
    total = len(batches)
    named = dict(model.named_parameters())
    biases = [p for name, p in named.items() if "norm" in name and p.requires_grad]
    others = [p for name, p in named.items() if "norm" not in name and name != "whiten.bias" and p.requires_grad]
    found, epoch = rates(tables, []), len(batches) // 4
    groups = [
        ([named["whiten.bias"]], found["whiten.bias"], 0.303, 0.0),
        (biases, found["*norm*.bias"], 1.0, 0.07),
        (others, found[""], 1.0, 0.07),
    ]
    sgd = torch.optim.SGD(
        [
            {"params": params, "lr": lr, "weight_decay": off / lr, "first": lr, "end": end, "last": last}
            for params, (lr, off), end, last in groups
        ],
        momentum=0.85,
        nesterov=True,
    )
    slow: dict[str, Tensor] = {}
    for t, (inputs, targets) in enumerate(batches):
        sgd.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets, label_smoothing=0.2)
        loss.backward()
        peak = math.floor(0.23 * total)
        for group in sgd.param_groups:
            end = math.floor(group["end"] * total)
            fall = 1 - (1 - group["last"]) * (t - peak) / (end - peak)
            group["lr"] = group["first"] * (0.2 + 0.8 * t / peak if t < peak else max(group["last"], fall))
        sgd.step()
        step, weights = t + 1, {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        if step >= 3 * epoch and step % 5 == 0:
            if slow:
                kept = (1 - 0.22622) * (step / total) ** 3
                slow = {name: held * kept + weights[name] * (1 - kept) for name, held in slow.items()}
                for name, held in slow.items():
                    weights[name].copy_(held)
            else:
                slow = {name: tensor.clone() for name, tensor in weights.items()}
        if slow and (step % epoch == 0 or step == total):
            for name, held in slow.items():
                weights[name].copy_(held)
        yield loss.item()


def apart(model: nn.Module, other: nn.Module, first: nn.Module) -> dict[str, float]:
    """How far two models lie from each other, as a share of the way that one has gone, by parameter."""
    ours, theirs, start = (one.state_dict() for one in (model, other, first))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return {name: ((ours[name] - theirs[name]).norm() / (theirs[name] - start[name]).norm()).item() for name in trained}


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [("cifar10_speed", with_muon), ("cifar10_speed_sgd", with_sgd)],
)
def test_its_updates_are_the_published_ones(
    plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, by_hand: Callable[..., Any]
) -> None:
    watched = Watched()
    monkeypatch.setattr(matrix_rules, "orthogonal", orthogonal)
    recipe = recipe_of(name, plugins, *SMALL)
    report = launch(recipe, plugins, folder=tmp_path / "run", listeners=[watched])
    assert report.status == "finished"
    assert report.steps == len(watched.batches) == 28
    model = copy.deepcopy(watched.model).train()
    losses = list(by_hand(model, watched.batches, recipe.tables))
    assert watched.losses == pytest.approx(losses, rel=WITHIN)
    assert losses[-1] < losses[0]
    distances = apart(watched.run.model, model, watched.model)
    assert max(distances.values()) < 100 * WITHIN, distances


@pytest.mark.parametrize("stop", [9, 23])
def test_a_run_with_slow_weights_goes_on_bit_for_bit(plugins: Plugins, tmp_path: Path, stop: int) -> None:
    recipe = recipe_of("cifar10_speed_sgd", plugins, *SMALL)
    whole = launch(recipe, plugins, folder=tmp_path / "whole", listeners=[])
    stopped = launch(recipe, plugins, folder=tmp_path / "parts", listeners=[Watched(stop)])
    assert (stopped.status, stopped.steps) == ("interrupted", stop)
    report = launch(recipe, plugins, folder=tmp_path / "parts", resume=True)
    assert (report.status, report.weights_sha256) == ("finished", whole.weights_sha256)
    assert report.metrics == whole.metrics


def test_it_trains_from_a_folder_of_pictures(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    chance = numpy.random.default_rng(3)
    for split, count in (("train", 50), ("test", 10)):
        for name in ("bird", "cat", "ship"):
            folder = tmp_path / "data" / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = chance.integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
                image.fromarray(pixels).save(folder / f"{number:03}.png")
    monkeypatch.setenv("TRAINKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    changes = ["data.path=pictures", "data.batch_size=40", "run.duration=2ep", "logger=[]"]
    report = launch(recipe_of("cifar10_speed_folder", plugins, *changes), plugins, folder=tmp_path / "run")
    assert (report.status, report.steps) == ("finished", 6), "135 of 150 pictures, a tenth held out"
    assert math.isfinite(report.metrics["test.loss"])
