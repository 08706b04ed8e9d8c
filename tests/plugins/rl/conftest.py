"""A recipe that plays a corridor and trains in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainkit import Run, checkpoint, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe

PARTS = Path(__file__).parent / "trainkit_rl_parts.py"
RECIPE = """\
recipe = 1
seed = 3
logger = []
[run]
duration = "6ep"
device = "cpu"
monitor = "val.return"
evaluate_every = "1ep"
log_every = "1ep"
[data]
use = "gym"
environment = "tests/Corridor-v0"
environments = 3
steps = 16
val = 4
test = 6
batch_size = 16
[model]
use = "actor_critic"
widths = [8]
[loss]
use = "ppo"
[optimizer]
use = "adam"
lr = 0.01
[[callback]]
use = "ppo"
passes = 2
"""


@pytest.fixture(autouse=True)
def one_thread(plugins: Plugins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Small tensors on one thread, run folders in the test's own, and the environments registered."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("TRAINKIT_RUNS", str(tmp_path / "runs"))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return Plugins([str(PARTS)])


@pytest.fixture
def load(plugins: Plugins, tmp_path: Path) -> Callable[..., Recipe]:
    """Load the recipe of a method, with changes as the command line would make them and text added at its end."""

    def load(*changes: str, more: str = "", method: str = "ppo") -> Recipe:
        text = RECIPE if method == "ppo" else RECIPE.replace('"ppo"', f'"{method}"').replace("passes = 2\n", "")
        path = tmp_path / "played.toml"
        path.write_text(text + more, encoding="utf-8")
        return load_recipe(path, list(changes), plugins)

    return load


class Watching:
    """Keeps the run, stops it where it is told, and looks at each epoch's batches."""

    def __init__(self, stop: int | None) -> None:
        self.stop = stop
        self.run: Run | None = None

    @hookimpl
    def trainkit_run_start(self, run: Run) -> None:
        self.run = run

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == self.stop:
            run.stop_reason, run.interrupted = "signal SIGTERM", True


@pytest.fixture
def train(load: Callable[..., Recipe], plugins: Plugins, tmp_path: Path) -> Callable[..., Any]:
    """Train the recipe, in a new folder or further in one; its lines, last checkpoint, report and run."""
    count = 0

    def train(*changes: str, folder: Path | None = None, stop: int | None = None, **texts: Any) -> Any:
        nonlocal count
        count += 1
        place = folder or tmp_path / f"run-{count}"
        watching = Watching(stop)
        recipe = load(*changes, **texts)
        report = launch(
            recipe, plugins, folder=place, listeners=[watching], resume=folder is not None, say=lambda text: None
        )
        _, tensors, state = checkpoint.load_newest(place / "checkpoints")
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        for line in lines:
            del line["time"]
        kept = {key: value for key, value in state.items() if key not in ("seconds", "metrics_bytes")}
        return SimpleNamespace(
            folder=place,
            report=report,
            run=watching.run,
            lines=lines,
            tensors=tensors,
            state=kept,
        )

    return train
