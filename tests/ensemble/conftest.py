"""Finished runs to make ensembles of, trained once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ensemble.making_parts import RECIPE as MAKING
from tests.ensemble.making_parts import Making
from trainkit.ensemble import costs
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import recipe_from_text

RECIPE = """\
recipe = 1
seed = 1
logger = []
[run]
duration = "3ep"
device = "cpu"
[data]
use = "wine"
batch_size = 16
seed = 0
[model]
use = "mlp"
widths = [8]
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "adam"
lr = 0.01
"""
REGRESSION = ('data.use="diabetes"', 'loss.use="mse"', "metric=[{use='mae'}]")
# Of these, tests take what they need; each is trained in a fraction of a second.
RUNS: dict[str, tuple[str, ...]] = {
    "a": (),
    "b": ("seed=2",),
    "c": ("seed=3",),
    "a-other-rate": ("optimizer.lr=0.02",),
    "wide": ("seed=4", "model.widths=[16, 8]"),
    "averaged": ("seed=5", "callback=[{use='ema', decay=0.9}]"),
    "raw-inputs": ("seed=6", "data.standardise=false"),
    "fold-0": ("data.folds=3", "data.fold=0"),
    "fold-1": ("data.folds=3", "data.fold=1"),
    "fold-2": ("data.folds=3", "data.fold=2"),
    "bag": ("seed=7", "data.bag=1"),
    "all-samples": ("data.train_on='train+val'",),
    "cut-otherwise": ("data.split_seed=1",),
    "other-data": ("data.use='breast_cancer'",),
    "no-validation": ("data.val=0.0",),
    "number": REGRESSION,
    "number-fold-0": (*REGRESSION, "data.folds=3", "data.fold=0"),
    "number-fold-1": (*REGRESSION, "data.folds=3", "data.fold=1"),
    "number-fold-2": (*REGRESSION, "data.folds=3", "data.fold=2"),
    "two-classes": ('data.use="breast_cancer"', 'data.task="binary"', 'loss.use="binary"'),
    "two-classes-b": ("seed=2", 'data.use="breast_cancer"', 'data.task="binary"', 'loss.use="binary"'),
}


def train(folder: Path, plugins: Plugins, *changes: str, text: str = RECIPE) -> Path:
    """Train the recipe above, changed, in a folder."""
    recipe = recipe_from_text(text, "the test's recipe", list(changes), plugins)
    launch(recipe, plugins, folder=folder, say=lambda text: None)
    return folder


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """All that is installed but reports."""
    found = Plugins(without=["reports"])  # pictures have tests of their own
    found.load()
    return found


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory, plugins: Plugins) -> Callable[[str], Path]:
    """The folder of one of the runs above, trained when it is first asked for; nobody changes it."""
    home = tmp_path_factory.mktemp("runs")

    def folder(name: str) -> Path:
        path = home / name
        return path if path.exists() else train(path, plugins, *RUNS[name])

    return folder


@pytest.fixture
def own_run(run_of: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the runs above, to be changed."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(run_of(name), tmp_path / "runs" / name))

    return copied


@pytest.fixture(scope="session")
def train_run(plugins: Plugins) -> Callable[..., Path]:
    """Trains the recipe above, changed, in a folder, and gives the folder."""
    return lambda folder, *changes: train(folder, plugins, *changes)


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Making:
    """The recipe above, in a file; how long predictions take is not measured."""
    monkeypatch.setattr(costs, "latency_ms", lambda *given: 1.0)
    file = tmp_path / "ensemble.toml"
    file.write_text(MAKING, encoding="utf-8")
    return Making(file)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ensemble that the recipe above makes, undisturbed; nobody changes it."""
    home = tmp_path_factory.mktemp("undisturbed")
    (home / "ensemble.toml").write_text(MAKING, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "latency_ms", lambda *given: 1.0)
        Making(home / "ensemble.toml")(home / "it")
    return home / "it"


@pytest.fixture
def own_ensemble(made_once: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(made_once, tmp_path / "e"))
