"""What tests of optimizers share: a recipe that learns the digits, small networks, groups, and states saved by name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainkit import Report, Run, checkpoint, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.snapshot import optimizer_state

Groups = list[dict[str, Any]]
Saved = tuple[Any, dict[str, Tensor]]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small tensors on one thread, for modules that ask for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------- networks, groups, updates


def dense(*widths: int, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear layers with tanh between them, always with the same weights."""
    torch.manual_seed(5)
    layers = [(nn.Linear(one, other, bias=bias), nn.Tanh()) for one, other in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain.from_iterable(layers))[:-1].to(dtype)


def whole(model: nn.Module) -> Groups:
    """All parameters in one group, as the core gives it to a factory."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return [{"params": list(parameters), "names": list(names)}]


def two_groups(model: nn.Module, **overrides: Any) -> Groups:
    """The first parameter in a group with numbers of its own, and all others."""
    (group,) = whole(model)
    first = {"params": group["params"][:1], "names": group["names"][:1], **overrides}
    return [first, {"params": group["params"][1:], "names": group["names"][1:]}]


def closure_of(model: nn.Module, optimizer: Any, number: int) -> Callable[[], Tensor]:
    """Loss and gradients of update ``number`` where the weights are now; the model takes 6 features."""
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(12, 6, generator=generator).to(next(model.parameters()).dtype)

    def closure() -> Tensor:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = outputs.square().mean() + outputs.sum() * 0.01
        loss.backward()
        return loss.detach()

    return closure


def train(model: nn.Module, optimizer: Any, updates: range) -> list[float]:
    """Make these updates, each with its own closure; the loss of each."""
    return [float(optimizer.step(closure_of(model, optimizer, number))) for number in updates]


def assert_same(one: nn.Module, other: nn.Module) -> None:
    """Both have the same weights, bit for bit."""
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), f"{name} differs by {(a - b).abs().max():g}"


def save(optimizer: Any) -> Saved:
    """The state by name as a checkpoint holds it: plain data that has been JSON, and tensors apart."""
    tensors: dict[str, Tensor] = {}
    plain = checkpoint.split_state(optimizer_state(optimizer), "optimizer", tensors)
    return json.loads(json.dumps(plain)), {name: tensor.clone() for name, tensor in tensors.items()}


def load(optimizer: Any, saved: Saved) -> None:
    """Put a saved state into another optimizer, by name."""
    by_name = checkpoint.join_state(*saved)
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            if name in by_name:
                optimizer.state[parameter] = by_name[name]


# ---------------------------------------------------------------- whole recipes


def digits(
    optimizer: str, *, run: str = 'duration = "3ep"', batch_size: int = 128, model: str = 'use = "linear"'
) -> str:
    """The text of a recipe that learns the digits: the lines of its tables, ``[optimizer]`` being the last."""
    return f"""\
recipe = 1
seed = 3
logger = []
[run]
device = "cpu"
threads = 1
{run}
[data]
use = "digits"
batch_size = {batch_size}
[model]
{model}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
{optimizer}
"""


class Catch:
    """Keeps the run that it takes part in."""

    run: Run

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run


class Stop(Catch):
    """Ends the run, too, as a signal would after so many updates."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.step:
            run.stop_reason, run.interrupted = "signal TEST", True


def read(folder: Path, text: str, *changes: str) -> tuple[Recipe, Plugins]:
    """The recipe of a text, changed as the command line would."""
    (folder / "r.toml").write_text(text, encoding="utf-8")
    plugins = Plugins()
    return load_recipe(folder / "r.toml", changes, plugins), plugins


def run_text(
    folder: Path, text: str, *changes: str, name: str = "run", stop: int | None = None, **options: Any
) -> tuple[Report, Run]:
    """Train the recipe of a text in a folder of that name, and stop after so many updates."""
    recipe, plugins = read(folder, text, *changes)
    catch = Catch() if stop is None else Stop(stop)
    report = launch(recipe, plugins, folder=folder / name, listeners=[catch], **options)
    return report, catch.run
