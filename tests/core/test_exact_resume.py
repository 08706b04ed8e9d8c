"""A run that is interrupted and continued equals one that is not, bit for bit, with every installed component.

What is compared is the last checkpoint as a whole (weights, buffers, optimizer state, state of callbacks and reactions,
random generators, positions, events), the hash of the weights, and every line of ``metrics.jsonl`` but its time.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from trainkit import Component, RecipeError, checkpoint, hookimpl
from trainkit.cli import main
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe

PARTS = Path(__file__).parent / "trainkit_test_parts.py"
INSTALLED = Plugins([str(PARTS)])
INSTALLED.load()
# 3 updates an epoch of 2 batches of 8, 6 updates: stops within and between epochs, evaluations and log lines.
STOPS = (1, 3, 4)
RECIPE: dict[str, Any] = {
    "recipe": 1,
    "seed": 5,
    "logger": [],
    "run": {
        "duration": "2ep",
        "device": "cpu",
        "threads": 1,
        "accumulate": 2,
        "log_every": "4ba",
        "evaluate_every": "2ba",
        "save_every": "5ba",
    },
    "data": {
        "use": "synthetic",
        "samples": 80,
        "features": [6],
        "batch_size": 8,
        "augment": [{"use": "shaken"}, {"use": "mixup"}],
    },
    "model": {"use": "mlp", "widths": [8], "dropout": 0.3, "norm": "batch"},
    "loss": {"use": "cross_entropy"},
    "metric": [{"use": "accuracy"}, {"use": "ece"}],
    "optimizer": {"use": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "schedule": {"use": "cosine", "warmup": "2ba"},
}
# What a component cannot be combined with, or needs; tried in this order until the recipe has no problem.
PLAINER: tuple[dict[str, Any], ...] = (
    {},
    {"schedule": {"use": "constant"}},
    {"run": {**RECIPE["run"], "accumulate": 1, "duration": "1ep"}},
    {"run": {**RECIPE["run"], "accumulate": 1, "duration": "1ep"}, "schedule": {"use": "constant"}},
    {"model": {"use": "mlp", "widths": [8], "dropout": 0.3}},
    {"model": {"use": "mlp", "widths": [8]}, "schedule": {"use": "constant"}},
    {"model": {"use": "linear"}},
)


class Stop:
    """Asks the run to end after an update."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    @hookimpl
    def trainkit_step_end(self, run: Any) -> None:
        if run.step == self.step:
            run.stop_reason = "the test asked for it"


def components(kind: str) -> list[Any]:
    plugins = [plugin for plugin in INSTALLED.plugins if plugin.name != PARTS.stem]
    parts = [part for plugin in plugins for part in plugin.components or [] if part.kind == kind]
    many = {plugin.name for plugin in plugins if len(plugin.components or []) > 60}  # a whole library
    return [pytest.param(part, id=part.name, marks=[pytest.mark.slow] if part.plugin in many else []) for part in parts]


def shortened(value: Any, count: list[int]) -> Any:
    """An example for a run of six updates: its times become 1, 2, 3 ... updates, in order."""
    if isinstance(value, Mapping):
        return {key: shortened(part, count) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(part, count) for part in value]
    if isinstance(value, str) and re.fullmatch(r"(?!0ba)[\d.]+(ep|ba|sp|tok)", value):
        count[0] += 1
        return f"{count[0]}ba"
    return value


def table_of(component: Component) -> dict[str, Any]:
    return {"use": component.name, **shortened(component.example, [0])}


def load(path: Path, **tables: Any) -> Recipe:
    path.parent.mkdir(exist_ok=True)
    path.write_text(tomli_w.dumps(RECIPE | tables), encoding="utf-8")
    return load_recipe(path, [], INSTALLED)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert line.pop("time") >= 0
    return lines


def assert_alike(one: Path, other: Path) -> None:
    """Two finished run folders are the same but for times."""
    assert lines_of(one) == lines_of(other)
    (first, tensors, state), (second, tensors_too, state_too) = (
        checkpoint.load_newest(folder / "checkpoints") for folder in (one, other)
    )
    assert first.name == second.name
    for plain in (state, state_too):
        del plain["seconds"], plain["metrics_bytes"]
    assert state == state_too
    assert tensors.keys() == tensors_too.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == tensors_too[name].dtype, name
        assert checkpoint.raw_bytes(tensor) == checkpoint.raw_bytes(tensors_too[name]), name
    kept, kept_too = (sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (one, other))
    best, best_too = ((folder / "best.json").read_text(encoding="utf-8") for folder in (one, other))
    assert best == best_too
    assert set(kept_too) <= {*kept, *(checkpoint.folder_name(step) for step in STOPS)}


def interrupted_equals_straight(tmp_path: Path, stops: tuple[int, ...] = STOPS, **tables: Any) -> None:
    """Train once in one go and once with interruptions, and compare."""
    recipe = load(tmp_path / "tiny.toml", **tables)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    whole = launch(recipe, INSTALLED, folder=straight)
    for stop in (*stops, None):
        report = launch(recipe, INSTALLED, folder=broken, listeners=[Stop(stop)], resume=True)
        if report.status == "stopped" and report.reason != "the test asked for it":
            break
    assert (report.status, report.reason, report.steps) == (whole.status, whole.reason, whole.steps)
    assert report.weights_sha256 == whole.weights_sha256
    assert (report.metrics, report.best) == (whole.metrics, whole.best)
    assert_alike(straight, broken)


def try_plainer(tmp_path: Path, variants: tuple[dict[str, Any], ...] = PLAINER, **tables: Any) -> None:
    """As `interrupted_equals_straight`, with as much else going on as the component bears."""
    refused: Exception | None = None
    for plainer in variants:
        try:
            interrupted_equals_straight(tmp_path, **(plainer | tables))
        except RecipeError as error:
            assert not (tmp_path / "broken").exists(), error  # refused from the start, not by the continued run
            refused = refused or error
        else:
            return
    assert refused is not None
    raise refused


@pytest.mark.parametrize("component", components("schedule"))
def test_every_schedule(tmp_path, component):
    halves = {"cycle": "2ba"} if component.name == "fge_tail" else {}  # a cycle of two equal parts
    try_plainer(tmp_path, schedule=table_of(component) | halves)


@pytest.mark.parametrize("component", components("reaction"))
def test_every_reaction(tmp_path, component):
    eager = {"patience": 0} if "patience" in component.example else {}
    react = {"monitor": "val.loss"} | table_of(component) | eager
    try_plainer(tmp_path, schedule={"use": "cosine", "warmup": "1ba", "react": [react]})


# What plugins of whole libraries list and say themselves that no recipe can use.
UNUSABLE = re.compile(
    "measured at|create_graph|no checkpoint can hold|left the weights|keeps to itself|LoRA|must be given the model|"
    "several processes|without gradients|no learning rate that|which is missing"
)


@pytest.mark.parametrize("component", components("optimizer"))
def test_every_optimizer(tmp_path, component):
    table = table_of(component)
    variants = PLAINER
    if component.capabilities.get("sparse"):
        variants = ({"model": {"use": "table"}},)
    elif component.capabilities.get("min_ndim") or component.capabilities.get("hidden_weights"):
        table["rest"] = {"use": "adamw"}
    try:
        try_plainer(tmp_path, variants, optimizer=table)
    except RecipeError as error:
        if not UNUSABLE.search(str(error)):
            raise
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize("component", components("wrapper"))
def test_every_wrapper(tmp_path, component):
    wrap = table_of(component) | ({"k": 2} if "k" in component.example else {})
    try_plainer(tmp_path, optimizer={**RECIPE["optimizer"], "wrap": [wrap]})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """An ensemble of one run on the data of these tests."""
    folder = tmp_path_factory.mktemp("teacher")
    launch(load(folder / "tiny.toml"), INSTALLED, folder=folder / "run")
    words = ["ensemble", str(folder / "run"), "--use", "seeds", "--out", str(folder / "made"), "test=false"]
    assert main([*words, "-q", "-p", str(PARTS)]) == 0
    return folder / "made"


@pytest.mark.parametrize("component", components("callback"))
def test_every_callback(tmp_path, component, request):
    table = table_of(component)
    if component.name == "distil":
        made = tmp_path / "made"
        shutil.copytree(request.getfixturevalue("teacher"), made)  # beside the recipe, which may read it there
        table["teacher"] = str(made)
    try_plainer(tmp_path, callback=[table])


@pytest.mark.parametrize("seed", range(10))
def test_whatever_an_optimizer_keeps_may_change_its_kind(tmp_path, seed):
    """A state that a run saved itself is never refused: numbers become tensors, tuples lists, nothing something."""
    whole_run = {**RECIPE["run"], "accumulate": 1, "save_pause": 0.0, "save_every": "1ba", "duration": "7ba"}
    interrupted_equals_straight(
        tmp_path,
        stops=(1, 2, 3, 4, 5, 6),
        optimizer={"use": "moody", "seed": seed},
        schedule={"use": "constant"},
        run=whole_run,
    )
