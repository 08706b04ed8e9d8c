"""Ensembles from their recipe to their report: what is trained, what is kept, and what is never done twice."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ensemble.making_parts import Making, essence, trained
from trainkit.ensemble.asking import Asking
from trainkit.ensemble.folder import EnsembleFolder
from trainkit.ensemble.opened import load_ensemble
from trainkit.ensemble.outset import EnsembleFinished
from trainkit.errors import MachineError, UsageError
from trainkit.launch import launch
from trainkit.recipe import load_recipe
from trainkit.signals import Signals


def test_members_are_trained_and_the_ensemble_is_frozen_and_measured(tmp_path: Path, making: Making) -> None:
    made = making(tmp_path / "e")
    folder = tmp_path / "e"
    assert (made.status, made.folder) == ("finished", folder)
    assert json.loads((folder / "report.json").read_text()) == made.report
    assert len(set(trained(folder).values())) == 3
    for number in range(3):
        recipe = tomllib.loads((folder / f"members/{number:04d}/recipe.toml").read_text())
        assert "ensemble" not in recipe
        assert recipe["run"]["threads"] == 1
        assert recipe["logger"] == []
        assert recipe["data"]["seed"] == 5, "members do not see the same splits"
        report = json.loads((folder / f"members/{number:04d}/report.json").read_text())
        assert not [name for name in report["metrics"] if name.startswith("test.")], "a member met the test samples"
    opened = load_ensemble(folder, making.plugins)
    assert [member.name for member in opened.made_of] == ["member 0", "member 1", "member 2"]
    assert opened.temperature == made.report["temperature"] != 1.0


def test_a_member_is_the_run_that_its_recipe_makes_alone(tmp_path: Path, making: Making, made_once: Path) -> None:
    recipe = load_recipe(made_once / "members/0001/recipe.toml", [], making.plugins)
    alone = launch(recipe, making.plugins, folder=tmp_path / "alone", say=lambda text: None)
    assert alone.weights_sha256 == trained(made_once)["0001"]


def test_lanes_train_the_same_members(tmp_path: Path, making: Making, made_once: Path) -> None:
    making(tmp_path / "lanes", "ensemble.executor=lanes")
    wanted, found = (load_ensemble(folder, making.plugins) for folder in (made_once, tmp_path / "lanes"))
    inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.members(inputs), wanted.members(inputs), rtol=1e-4, atol=1e-5)


def test_the_longer_run_has_the_updates_of_all_members(tmp_path: Path, making: Making) -> None:
    made = making(tmp_path / "e", "ensemble.longer=true", "ensemble.members=2")
    updates = [json.loads(path.read_text())["steps"] for path in sorted((tmp_path / "e").glob("members/*/report.json"))]
    longer = json.loads((tmp_path / "e/longer/report.json").read_text())
    assert longer["steps"] == sum(updates) == 16
    assert made.report["longer"]["cost"]["updates"] == 16
    assert not [name for name in longer["metrics"] if name.startswith("test.")]


def test_one_member_is_itself(tmp_path: Path, making: Making) -> None:
    made = making(tmp_path / "e", "ensemble.members=1")
    assert made.report["temperature"] == 1.0
    assert made.report["ensemble"]["test"]["raw"] == made.report["members"][0]["test"]["raw"]


def test_a_run_may_begin_where_another_one_has_ended(tmp_path: Path, making: Making) -> None:
    making(tmp_path / "e", "ensemble=pair", "ensemble.wrong=parent")
    folder = tmp_path / "e"
    history = [json.loads(line) for line in (folder / "members/0002/history.jsonl").read_text().splitlines()]
    assert history[0]["event"] == "begin from"
    assert Path(history[0]["parent"]) == folder / "members/0000"
    assert json.loads((folder / "members/0002/report.json").read_text())["steps"] == 16
    assert len(load_ensemble(folder, making.plugins).made_of) == 3


# ------------------------------------------------------------ going on


class Stops(Signals):
    """Signals of which one comes when so many members are there."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__()
        self.folder, self.after = folder, after
        self._name = ""

    @property
    def name(self) -> str:
        if not self._name and len(trained(self.folder)) >= self.after:
            return "SIGTERM"
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value


def test_a_stopped_ensemble_goes_on_and_trains_no_member_twice(tmp_path: Path, making: Making, made_once: Path) -> None:
    made = making(tmp_path / "e", signals=Stops(tmp_path / "e", 2))
    assert (made.status, made.reason) == ("interrupted", "signal SIGTERM")
    assert list(trained(tmp_path / "e")) == ["0000", "0001"]
    before = (tmp_path / "e/members/0001/history.jsonl").read_text()
    assert making.resume(tmp_path / "e").status == "finished"
    assert essence(tmp_path / "e") == essence(made_once)
    assert (tmp_path / "e/members/0001/history.jsonl").read_text() == before


def test_a_signal_while_members_are_combined_loses_nothing(
    tmp_path: Path, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = making(tmp_path / "e", "ensemble=pair", "ensemble.wrong=signal in fit")
    assert made.status == "interrupted"
    assert made.reason == "stopped by SIGTERM while the ensemble was put together; its members are kept"
    assert making.resume(tmp_path / "e").status == "finished"
    assert (tmp_path / "stopped").exists()


class Dies(BaseException):
    """What a kill would be, in this process."""


@pytest.mark.parametrize(
    "where",
    [
        "trainkit.ensemble.making.validation_of",
        "trainkit.ensemble.making.write_artefact",
        "trainkit.ensemble.making.load_ensemble",
        "trainkit.ensemble.session.made_whole",
        "trainkit.ensemble.session.remember",
        "trainkit.ensemble.folder.EnsembleFolder.report",
    ],
)
def test_it_goes_on_wherever_the_process_died(
    tmp_path: Path, making: Making, made_once: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def dies(*given: Any, **named: Any) -> Any:
        raise Dies

    monkeypatch.setattr(EnsembleFolder, "__exit__", lambda self, *error: self._lock.release())  # nobody tidies up
    with monkeypatch.context() as patch:
        patch.setattr(where, dies)
        with pytest.raises(Dies):
            making(tmp_path / "e")
    before = trained(tmp_path / "e")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "e").glob("members/*/report.json")}
    making(tmp_path / "e", resume=True)
    assert trained(tmp_path / "e").items() >= before.items()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert essence(tmp_path / "e") == essence(made_once)


def test_what_is_frozen_is_not_chosen_again(
    own_ensemble: Path, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*given: Any, **named: Any) -> Any:
        raise Dies

    (own_ensemble / "report.json").unlink()  # as a process that was killed while it measured leaves it
    manifest = (own_ensemble / "ensemble.json").read_bytes()
    monkeypatch.setattr(Asking, "fit", dies)
    made = making.resume(own_ensemble)
    assert made.status == "finished"
    assert (own_ensemble / "ensemble.json").read_bytes() == manifest


def test_a_finished_one_is_left_alone(own_ensemble: Path, making: Making) -> None:
    before = {path: path.read_bytes() for path in own_ensemble.rglob("*") if path.is_file()}
    with pytest.raises(EnsembleFinished, match=r"the ensemble is finished; its report is .*\n  to make another one"):
        making.resume(own_ensemble)
    with pytest.raises(EnsembleFinished):  # where members are trained changes nothing
        making.resume(own_ensemble, "ensemble.executor=processes")
    assert {path: path.read_bytes() for path in before} == before


def test_more_members_join_those_that_there_are(tmp_path: Path, making: Making, made_once: Path) -> None:
    making(tmp_path / "e", "ensemble.members=2")
    before = trained(tmp_path / "e")
    made = making.resume(tmp_path / "e", "ensemble.members=3")
    assert trained(tmp_path / "e").items() > before.items()
    assert len(made.report["members"]) == 3
    assert any("was made here before, and measured on the test samples" in note for note in made.notes)
    assert essence(tmp_path / "e") == essence(made_once)


def test_one_that_was_killed_while_it_made_room_for_another_goes_on(tmp_path: Path, making: Making) -> None:
    folder = tmp_path / "e"
    making(folder, "ensemble.members=1", "ensemble.longer=true")
    for name in ("report.json", "ensemble.json"):  # what goes first
        (folder / name).unlink()
    made = making.resume(folder, "ensemble.members=2")
    assert made.report["longer"]["cost"]["updates"] == 16


def test_members_of_another_recipe_are_refused(tmp_path: Path, making: Making, own_ensemble: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "e").rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as refused:
        making.resume(tmp_path / "e", "optimizer.lr=0.2", "ensemble.members=4", "run.keep=3")
    assert str(refused.value).splitlines()[1:] == [
        "  optimizer.lr = 0.2 (was 0.1)",
        "  put it back, or name a new folder; settings of [ensemble] may change",
    ]
    with pytest.raises(UsageError, match=r"members/0001: member 1 was trained with another recipe\n  optimizer.lr"):
        making.resume(tmp_path / "e", "ensemble={ use = 'pair', lr = 0.5, bootstrap = 20 }")
    assert {path: path.read_bytes() for path in before} == before, "what was refused has changed something"
    assert making.resume(tmp_path / "e", "ensemble.members=4", "run.keep=3").status == "finished"


def test_a_folder_is_not_shared_and_not_overwritten(tmp_path: Path, making: Making, made_once: Path) -> None:
    with (
        EnsembleFolder(tmp_path / "e"),
        pytest.raises(MachineError, match="another process is writing to this"),
    ):
        making(tmp_path / "e")
    assert not (tmp_path / "e").exists()
    shutil.copytree(made_once, tmp_path / "e")
    with pytest.raises(MachineError, match="it holds an ensemble: continue that with --resume"):
        making(tmp_path / "e")
    before = trained(tmp_path / "e")
    making(tmp_path / "e", "ensemble.members=1", fresh=True)
    assert trained(tmp_path / "e/.old-1") == before
    assert len(trained(tmp_path / "e")) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear")
    for options in ({}, {"resume": True}, {"fresh": True}):
        with pytest.raises(MachineError, match="the folder is not empty"):
            making(tmp_path / "other", **options)


def test_what_somebody_else_has_in_a_folder_is_not_taken_for_an_ensemble(tmp_path: Path, making: Making) -> None:
    (tmp_path / "e/weights").mkdir(parents=True)
    (tmp_path / "e/weights/mine.txt").write_text("dear")
    with pytest.raises(MachineError, match="there is no ensemble to continue, and the folder is not empty"):
        making(tmp_path / "e", "data={ use = 'synthetic', samples = 96, features = [6], val = 0.0 }", resume=True)
    assert (tmp_path / "e/weights/mine.txt").read_text() == "dear"


def test_where_nothing_began_nothing_is_left(tmp_path: Path) -> None:
    with EnsembleFolder(tmp_path / "e") as place:
        place.describe("", {})
        for name in ("teacher/weights", "weights", "recipes"):
            (place.path / name).mkdir(parents=True)
    assert not (tmp_path / "e").exists()


def test_the_same_members_trained_again_make_the_same_ensemble(tmp_path: Path, making: Making) -> None:
    first, second = making(tmp_path / "e"), making(tmp_path / "e", fresh=True)
    assert first.report["ensemble_sha256"] == second.report["ensemble_sha256"]
    assert first.report["cost"]["training"]["all"]["seconds"] > 0


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, making: Making, own_ensemble: Path) -> None:
    (tmp_path / "e/members/0001").rename(tmp_path / "away")
    (tmp_path / "e/members/0001").symlink_to(tmp_path / "away")
    with pytest.raises(MachineError, match="is a link out of the ensemble folder"):
        making.resume(own_ensemble, "ensemble.members=4")
