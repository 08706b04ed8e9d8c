"""Small runs, trained alone and as lanes of one stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainkit.build import make_ready, prepare
from trainkit.lanes.lane import Lane, as_if_alone
from trainkit.lanes.stack import Stack
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.run import Batch, Run
from trainkit.steps import eager_step

# 116 training samples: an epoch has 7 batches of 16 and one of 4.
RECIPE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "20ep"
device = "cpu"
[data]
use = "synthetic"
samples = 192
features = [6]
batch_size = 16
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed plugins, and parts that no lane can take."""
    return Plugins([str(Path(__file__).parent / "trainkit_lane_parts.py")])


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path) -> Callable[..., Recipe]:
    """Load the small recipe, with changes as the command line would make them."""

    def load(*changes: str) -> Recipe:
        path = tmp_path / "small.toml"
        path.write_text(RECIPE, encoding="utf-8")
        return load_recipe(path, list(changes), plugins)

    return load


@dataclass
class Trained:
    """A run and the losses of its updates."""

    run: Run
    losses: list[float] = field(default_factory=list)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""
        return dict(self.run.model.state_dict())


class Trainer:
    """Trains the small recipe alone and as lanes."""

    def __init__(self, load: Callable[..., Recipe], plugins: Plugins, folder: Path) -> None:
        self._load = load
        self._plugins = plugins
        self._folder = folder

    def lane(self, *changes: str, double: bool = False) -> Lane:
        """A fresh run with its random numbers."""
        recipe = self._load(*changes)
        run = prepare(recipe, self._plugins, self._folder, lambda *_: None, say=lambda _: None)
        if double:
            run.model.double()
        make_ready(run)
        run.hook.trainkit_run_start(run=run)
        return Lane(run, recipe)

    def alone(self, *changes: str, epochs: int = 2, double: bool = False) -> Trained:
        """Train a run as the core does it eagerly."""
        lane = self.lane(*changes, double=double)
        with as_if_alone(lane):
            return self.on(lane, epochs)

    def on(self, lane: Lane, epochs: int) -> Trained:
        """Let a run train on, by itself."""
        run = lane.run
        step, trained = eager_step(run, bool(run.metrics)), Trained(run)
        for _ in range(epochs):
            for batch in run.feed.train(run.epoch):
                result = step([[_like(run, batch)]])
                trained.losses.append(float(result.losses))
                run.step += 1
                run.hook.trainkit_step_end(run=run, result=result)
            run.epoch += 1
        return trained

    def together(self, *changes: Sequence[str], epochs: int = 2, double: bool = False) -> list[Trained]:
        """Train runs as lanes of one stack."""
        lanes = [self.lane(*some, double=double) for some in changes]
        return self.stacked(Stack(lanes), epochs)

    def stacked(self, stack: Stack, epochs: int) -> list[Trained]:
        """Let the lanes of a stack train on."""
        lanes = stack.active
        found = [Trained(lane.run) for lane in lanes]
        for _ in range(epochs):
            for batches in zip(*[lane.run.feed.train(lane.run.epoch) for lane in lanes], strict=True):
                results = stack.update([_like(lane.run, batch) for lane, batch in zip(lanes, batches, strict=True)])
                for lane, trained, result in zip(lanes, found, results, strict=True):
                    trained.losses.append(float(result.losses))
                    lane.run.step += 1
                    lane.run.hook.trainkit_step_end(run=lane.run, result=result)
            for lane in lanes:
                lane.run.epoch += 1
        return found


def _like(run: Run, batch: Batch) -> Batch:
    """The batch in the number format of the model."""
    kind = next(run.model.parameters()).dtype
    targets = batch.targets.to(kind) if batch.targets.is_floating_point() else batch.targets
    return Batch(batch.inputs.to(kind), targets, batch.index)


@pytest.fixture
def trainer(load: Callable[..., Recipe], plugins: Plugins, tmp_path: Path) -> Trainer:
    """Trains the small recipe alone and as lanes."""
    return Trainer(load, plugins, tmp_path / "run")
