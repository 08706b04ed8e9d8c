"""What the folder of a finished run tells: whether it is over, what it measured, and what its weights come from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainkit import checkpoint, pretrained
from trainkit.branch import begun_with, is_there, parent_of
from trainkit.ensemble.base import Base
from trainkit.ensemble.rebuild import first_weights
from trainkit.errors import MachineError, TrainkitError, UsageError
from trainkit.finished import folder_of
from trainkit.lines import Lines
from trainkit.recipe import load_recipe
from trainkit.rundir import read_text
from trainkit.trial_results import ENDED

_IS = {"failed": "has failed", "interrupted": "was interrupted"}  # of a run, by the status of its report


def check_finished(path: Path) -> None:
    """Check that a run is over and has not failed; of a checkpoint that is named, that it is there.

    Raises:
        UsageError: saying what the run's report says, and how to go on.
    """
    folder = folder_of(path)
    if path != folder:
        if not path.is_dir():
            raise UsageError(f"{path}: no such checkpoint; {folder / 'checkpoints'} has those that the run has kept")
        return
    try:
        report = json.loads(read_text(folder / "report.json"))
        status, reason = str(report["status"]), str(report["reason"]).splitlines()[0]
    except FileNotFoundError:
        status, reason = "not finished", "it has no report.json"
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        status, reason = "not finished", f"its report.json cannot be read: {error}"
    if status not in ENDED:
        raise UsageError(
            f"{path}: this run {_IS.get(status, 'is ' + status)} ({reason}), and members are finished runs\n"
            f"  finish it with: trainkit resume {folder}"
            "\n  or name one of its checkpoints as it stands, such as "
            f"{folder / 'checkpoints' / 'step-...'}"
        )


def figures_at(folder: Path, step: int) -> dict[str, float]:
    """What a run measured after so many updates, those of the test left out: nothing may be chosen by them."""
    lines = Lines(folder / "metrics.jsonl")
    with contextlib.suppress(OSError, MachineError):
        lines.take_in((folder / "metrics.jsonl").stat().st_size)
    found: dict[str, float] = {}
    for line in lines:
        if line.get("step") != step or line.get("split") == "test":
            continue
        for name, value in line.items():
            if name not in ("split", "step", "epoch", "time") and "/" not in name and isinstance(value, int | float):
                found[f"{line['split']}.{name}"] = float(value)
    return found


def seconds_of(state: Mapping[str, Any]) -> float:
    """Wall seconds that a checkpoint's run had taken."""
    seconds = checkpoint.join_state(state.get("seconds", 0.0), {})
    return round(float(seconds), 3) if isinstance(seconds, int | float) else 0.0


def ancestors_of(folder: Path, first_sha256: str, base: Base) -> frozenset[str]:
    """What a run's weights come from, by SHA-256: those it began with, and of the checkpoints that it began from.

    Args:
        folder: the run folder.
        first_sha256: of the weights that its recipe makes.
        base: with whose plugins and data the recipe of an earlier run is built.
    """
    found: set[str] = set()
    seen: set[Path] = set()
    while folder not in seen:
        seen.add(folder)
        parent = parent_of(folder)
        if parent is None:
            return frozenset(found | {first_sha256})
        found.update(begun_with(folder))
        if not is_there(folder):  # what its own history says must do
            return frozenset(found)
        try:
            recipe = load_recipe(parent / "recipe.toml", [], base.plugins)
            first_sha256 = pretrained.first_sha256(parent) or first_weights(recipe, base)
        except TrainkitError:  # such as a model that is not installed any more
            return frozenset(found)
        folder = parent
    return frozenset(found)
