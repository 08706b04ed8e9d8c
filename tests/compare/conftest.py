"""Folders of runs as `run` writes them, made without training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainkit.manager import Plugins

RECIPE = """recipe = 1
seed = {seed}
requires = []

[run]
duration = "4ep"
save_every = "1ep"

[data]
use = "digits"
{data}

[model]
use = "mlp"
widths = [8]

[[metric]]
use = "accuracy"

[optimizer]
use = "{optimizer}"
lr = {lr}
{more}

[schedule]
use = "constant"
"""
ENVIRONMENT = {"device": "cpu", "device_name": "one", "torch": "2", "threads": 1}


def write_run(
    folder: Path,
    seed=0,
    losses=(2.0, 1.0, 0.5, 0.4),
    accuracies=(0.2, 0.5, 0.9, 0.8),
    *,
    optimizer="sgd",
    lr=0.1,
    more="",
    data="",
    status="finished",
    report=None,
    epochs_of=10,
) -> Path:
    """A run with an evaluation at each epoch of ten updates; ``report`` is laid over its report."""
    folder.mkdir(parents=True)
    text = RECIPE.format(seed=seed, optimizer=optimizer, lr=lr, more=more, data=data)
    (folder / "recipe.toml").write_text(text)
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    lines = []
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), 1):
        step, time = epochs_of * epoch, 0.5 * epoch + seed / 100
        train = {"loss": None if loss is None else loss - 0.1, "accuracy": accuracy, "lr/0": lr / epoch}
        lines.append({"step": step, "epoch": epoch, "split": "train", "time": time, **train})
        lines.append({"step": step, "epoch": epoch, "split": "val", "time": time, "loss": loss, "accuracy": accuracy})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if status:
        metrics = {f"{line['split']}.{name}": line[name] for line in lines[-2:] for name in ("loss", "accuracy")}
        made = {"status": status, "steps": lines[-1]["step"], "seconds": 2.0, "metrics": metrics, **(report or {})}
        (folder / "report.json").write_text(json.dumps(made))
    return folder


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return Plugins()
