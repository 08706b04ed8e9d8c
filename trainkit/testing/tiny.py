"""A recipe that trains in a moment on data that is made up, and what came of its run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from trainkit.component import Component
from trainkit.manager import Plugins
from trainkit.run import Report

# 3 updates an epoch of 2 batches of 8, 6 updates in all: stops lie within and between epochs and evaluations.
TINY: dict[str, Any] = {
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
    "data": {"use": "synthetic", "samples": 80, "features": [6], "batch_size": 8},
    "model": {"use": "mlp", "widths": [8], "dropout": 0.3, "norm": "batch"},
    "loss": {"use": "cross_entropy"},
    "metric": [{"use": "accuracy"}],
    "optimizer": {"use": "adamw", "lr": 0.01, "weight_decay": 0.1},
    "schedule": {"use": "cosine", "warmup": "2ba"},
}


@dataclass(frozen=True)
class TinyRun:
    """A tiny run that has ended.

    Args:
        folder: its run folder.
        report: how it ended.
    """

    folder: Path
    report: Report

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, without their times."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def write_tiny(file: Path, tables: Mapping[str, object]) -> Path:
    """Write the tiny recipe with these tables in the place of its own; ``None`` leaves one out."""
    whole = {name: table for name, table in {**TINY, **tables}.items() if table is not None}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomli_w.dumps(whole), encoding="utf-8")
    return file


def run_tiny(folder: Path, tables: Mapping[str, object], plugins: Plugins) -> TinyRun:
    """Train the tiny recipe with these tables, in a new folder below ``folder``.

    Raises:
        RecipeError: if the tables make no recipe.
        RunError: if it fails.
    """
    from trainkit.launch import launch
    from trainkit.recipe import load_recipe

    number = len(list(folder.glob("run-*")))
    recipe = load_recipe(write_tiny(folder / f"tiny-{number}.toml", tables), [], plugins)
    place = folder / f"run-{number}"
    return TinyRun(place, launch(recipe, plugins, folder=place))


def table_of(component: Component, unit: int = 1) -> dict[str, Any]:
    """The component's example as a table of the tiny recipe: its times become 1, 2, 3 ... units, in order.

    Args:
        component: the component.
        unit: so many updates.
    """
    count = 0

    def shortened(value: Any) -> Any:
        nonlocal count
        if isinstance(value, Mapping):
            return {key: shortened(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [shortened(part) for part in value]
        if isinstance(value, str) and re.fullmatch(r"(?!0ba)[\d.]+(ep|ba|sp|tok)", value):
            count += 1
            return f"{count * unit}ba"
        return value

    return {"use": component.name, **shortened(component.example)}
