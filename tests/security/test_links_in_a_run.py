"""Links that somebody plants among the checkpoints while a run is going: nothing is written where they lead."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.soak.strangers import RECIPE
from trainkit import checkpoint, hookimpl, store
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.run import Run


def plant(parent: Path, name: str, victim: Path) -> None:
    """Put a link to a folder in the place of a spare or of a checkpoint that is no longer wanted."""
    path = parent / name
    if path.exists():
        shutil.rmtree(path)
    path.symlink_to(victim)


def held(folder: Path) -> dict[str, bytes]:
    assert not folder.is_symlink()
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", [".spare", "step-000000000001"])
def test_a_link_is_not_written_through(tmp_path: Path, name: str) -> None:
    parent, victim = tmp_path / "checkpoints", tmp_path / "victim"
    for step in (1, 2, 3):
        checkpoint.save(parent, step, {"w": torch.full((4,), float(step))}, {})
    shutil.copytree(parent / checkpoint.folder_name(3), victim)
    mine = held(victim)
    plant(parent, name, victim)
    for step in (4, 5, 6, 7):
        store.prune(parent, 2)
        checkpoint.save(parent, step, {"w": torch.full((4,), float(step))}, {})
    assert held(victim) == mine
    found, tensors, _ = checkpoint.load_newest(parent)
    assert (found, tensors["w"][0].item()) == (parent / checkpoint.folder_name(7), 7.0)
    assert not [path for path in parent.iterdir() if path.is_symlink()]


def test_a_link_that_comes_after_the_look_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is looked at once more when it has the name under which it is written."""
    parent, victim = tmp_path / "checkpoints", tmp_path / "victim"
    for step in (1, 2, 3):
        checkpoint.save(parent, step, {"w": torch.zeros(4)}, {})
    store.prune(parent, 2)
    shutil.copytree(parent / store.SPARE, victim)
    mine, real = held(victim), os.rename

    def late(source: str, target: str) -> None:
        if os.path.basename(source) == store.SPARE:
            plant(parent, store.SPARE, victim)
        real(source, target)

    monkeypatch.setattr(os, "rename", late)
    checkpoint.save(parent, 4, {"w": torch.ones(4)}, {})
    monkeypatch.undo()
    assert held(victim) == mine
    assert checkpoint.load_newest(parent)[1]["w"].tolist() == [1.0] * 4


class Planting:
    """A neighbour who replaces what lies between saves by a link to a folder of somebody else."""

    def __init__(self, parent: Path, victim: Path) -> None:
        self.parent, self.victim = parent, victim
        self.planted = 0

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        newest = checkpoint.newest_first(self.parent)
        if run.step in (8, 14) and newest:
            if not self.victim.exists():
                shutil.copytree(newest[0], self.victim)
                self.mine = held(self.victim)
            plant(self.parent, ".spare", self.victim)
            self.planted += 1


def test_a_run_goes_on_and_leaves_the_folder_behind_the_link_alone(tmp_path: Path) -> None:
    plugins = Plugins()
    plugins.load()
    (tmp_path / "r.toml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.toml", ["run.save_every=2ba", "run.save_in_background=false"], plugins)
    folder = tmp_path / "run"
    neighbour = Planting(folder / "checkpoints", tmp_path / "victim")
    report = launch(recipe, plugins, folder=folder, listeners=[neighbour])
    assert (report.status, neighbour.planted) == ("finished", 2)
    assert held(tmp_path / "victim") == neighbour.mine
    checkpoint.load_newest(folder / "checkpoints")
