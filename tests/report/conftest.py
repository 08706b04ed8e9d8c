"""Runs that are made once, of which reports are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

PICTURES = """\
recipe = 1
seed = 3
[run]
duration = "4ep"
threads = 1
device = "cpu"
[data]
use = "synthetic"
samples = 160
features = [1, 6, 6]
noise = 3.0
batch_size = 16
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
weight_decay = 0.01
[schedule]
use = "cosine"
[[callback]]
use = "norms"
[[callback]]
use = "update_ratio"
every = "6ba"
[[callback]]
use = "ema"
[[logger]]
use = "report"
"""
NUMBERS = """\
recipe = 1
seed = 3
[run]
duration = "3ep"
threads = 1
device = "cpu"
[data]
use = "synthetic"
task = "regression"
classes = 2
samples = 120
batch_size = 16
[model]
use = "linear"
[loss]
use = "mse"
[[metric]]
use = "rmse"
[optimizer]
use = "sgd"
lr = 0.05
[[logger]]
use = "report"
split = "none"
"""


def run_of(text: str, folder: Path, plugins: Plugins, *changes: str) -> Path:
    """The folder of a run of a recipe."""
    file = folder / "recipe.toml"
    file.write_text(text)
    launch(load_recipe(file, list(changes), plugins), plugins, folder=folder / "run", say=lambda text: None)
    return folder / "run"


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins) -> Path:
    """A run that learns to tell pictures apart, not too well; it must stay as it is."""
    return run_of(PICTURES, tmp_path_factory.mktemp("pictures"), plugins)


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins) -> Path:
    """A run that learns two numbers; it must stay as it is."""
    return run_of(NUMBERS, tmp_path_factory.mktemp("numbers"), plugins)
