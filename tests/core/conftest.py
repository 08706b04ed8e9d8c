"""A recipe that trains in milliseconds, changed as a test needs it, run in this process and looked at afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import Report, Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe

PARTS = Path(__file__).parent / "trainkit_test_parts.py"
# 192 samples: 116 train, 38 val, 38 test. Batches of 16: 8 updates an epoch, the last one of 4 samples.
RECIPE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "2ep"
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
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.1
"""


@dataclass
class Finished:
    """A run that is over."""

    folder: Path
    report: Report
    run: Run

    @property
    def lines(self) -> list[dict[str, Any]]:
        """``metrics.jsonl``, line by line."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]

    def of(self, split: str) -> list[dict[str, Any]]:
        """The lines of one split."""
        return [line for line in self.lines if line["split"] == split]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The trained weights by name."""
        return dict(self.run.model.state_dict())

    @property
    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that are there."""
        return sorted(int(path.name.removeprefix("step-")) for path in (self.folder / "checkpoints").glob("step-*"))


class Catch:
    """Keeps the run that it takes part in."""

    run: Run

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors on one thread, and run folders in the test's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "runs"))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """The installed plugins and the parts of these tests."""
    return Plugins([str(PARTS)])


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path) -> Callable[..., Recipe]:
    """Load the small recipe, with changes as the command line would make them and text added at its end."""

    def load(*changes: str, more: str = "", text: str = RECIPE) -> Recipe:
        path = tmp_path / "small.toml"
        path.write_text(text + more, encoding="utf-8")
        return load_recipe(path, list(changes), plugins)

    return load


@pytest.fixture
def train(load: Callable[..., Recipe], plugins: Plugins, tmp_path: Path) -> Callable[..., Finished]:
    """Train the small recipe with changes."""
    count = 0

    def train(
        *changes: str, more: str = "", text: str = RECIPE, listeners: Sequence[object] = (), **options: Any
    ) -> Finished:
        nonlocal count
        count += 1
        folder, catch = tmp_path / f"run-{count}", Catch()
        recipe = load(*changes, more=more, text=text)
        report = launch(recipe, plugins, folder=folder, listeners=[*listeners, catch], **options)
        return Finished(folder, report, catch.run)

    return train
