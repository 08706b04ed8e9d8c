"""A run that is interrupted and continued equals one that is not, bit for bit.

What is compared is the last checkpoint as a whole (weights, buffers, optimizer state, state of callbacks and reactions,
random generators, positions, events), the hash of the weights, and every line of ``metrics.jsonl`` but its time. Every
component is held to this by its contracts; here stands what no component of ours shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from trainkit import checkpoint
from trainkit.manager import Plugins
from trainkit.recipe import Recipe, load_recipe
from trainkit.testing.tiny import TINY
from trainkit.testing.whole import in_parts, trained

PARTS = Path(__file__).parent / "trainkit_test_parts.py"
INSTALLED = Plugins([str(PARTS)])
INSTALLED.load()


def load(path: Path, **tables: Any) -> Recipe:
    path.parent.mkdir(exist_ok=True)
    path.write_text(tomli_w.dumps(TINY | tables), encoding="utf-8")
    return load_recipe(path, [], INSTALLED)


def interrupted_equals_straight(tmp_path: Path, stops: Sequence[int] = (1, 3, 4), **tables: Any) -> None:
    """Train once in one go and once with interruptions, and compare."""
    recipe = load(tmp_path / "tiny.toml", **tables)
    straight, broken = trained(recipe, tmp_path / "straight"), in_parts(recipe, tmp_path / "broken", stops)
    assert straight.difference(broken) == ""


def test_augmented_batches_and_several_metrics_go_on(tmp_path):
    augmented = {**TINY["data"], "augment": [{"use": "shaken"}, {"use": "mixup"}]}
    interrupted_equals_straight(tmp_path, data=augmented, metric=[{"use": "accuracy"}, {"use": "ece"}])
    straight, broken = (
        {path.name for path in (tmp_path / name / "checkpoints").iterdir()} for name in ("straight", "broken")
    )
    stops = {checkpoint.folder_name(step) for step in (1, 3, 4)}
    assert straight <= broken <= straight | stops, "what is kept is kept"


def test_models_whose_gradients_are_sparse_go_on(tmp_path):
    interrupted_equals_straight(tmp_path, model={"use": "table"}, optimizer={"use": "sparse_adam", "lr": 0.01})


@pytest.mark.parametrize("seed", range(10))
def test_whatever_an_optimizer_keeps_may_change_its_kind(tmp_path, seed):
    """A state that a run saved itself is never refused: numbers become tensors, tuples lists, nothing something."""
    interrupted_equals_straight(
        tmp_path,
        stops=(1, 2, 3, 4, 5, 6),
        optimizer={"use": "moody", "seed": seed},
        schedule={"use": "constant"},
        run={**TINY["run"], "accumulate": 1, "save_pause": 0.0, "save_every": "1ba", "duration": "7ba"},
    )
