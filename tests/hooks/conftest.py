"""A run of a few updates with one listener, for the test of each hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from trainkit import Report, Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

# 58 samples to train on in batches of 16: 4 updates an epoch.
RECIPE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "2ep"
device = "cpu"
[data]
use = "synthetic"
samples = 96
batch_size = 16
[model]
use = "mlp"
widths = [4]
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""


class Catch:
    """Keeps the run that it takes part in."""

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[..., tuple[Report, Run]]]:
    """Run the small recipe with listeners and changes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "small.toml").write_text(RECIPE, encoding="utf-8")
    plugins = Plugins()
    count = 0

    def small(*listeners: object, changes: tuple[str, ...] = ()) -> tuple[Report, Run]:
        nonlocal count
        count += 1
        recipe, catch = load_recipe(tmp_path / "small.toml", list(changes), plugins), Catch()
        report = launch(recipe, plugins, folder=tmp_path / f"run-{count}", listeners=[*listeners, catch])
        return report, catch.run

    yield small
    torch.set_num_threads(before)
