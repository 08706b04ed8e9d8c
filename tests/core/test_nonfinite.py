"""What is not finite: it never reaches a checkpoint, and a run can go back with smaller learning rates."""

from __future__ import annotations

import json
import signal
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.soak import nonfinite as soak
from tests.soak import rig
from trainkit import RecipeError, RunError, hookimpl
from trainkit import launch as launching
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.rollback import EVENT, following
from trainkit.run import ScheduledValue


@pytest.fixture(scope="module")
def installed() -> Plugins:
    return Plugins()


@pytest.fixture
def go(tmp_path: Path, installed: Plugins) -> Any:
    """Run the soak's recipe in a folder, continued if there is something to continue."""

    def go(name: str, *listeners: object, **run: Any) -> Any:
        recipe = load_recipe(rig.write(tmp_path / "r.toml", run={"nonfinite": "rollback", **run}), [], installed)
        return launch(recipe, installed, folder=tmp_path / name, listeners=listeners, resume=True)

    return go


class TooFast:
    """A loss that is not finite at an update if its learning rate is above a limit: a function of the run alone."""

    def __init__(self, step: int, limit: float) -> None:
        self.step, self.limit = step, limit

    @hookimpl
    def trainkit_loss(self, run, outputs, batch):
        spoilt = run.step == self.step and run.optimizer.param_groups[0]["lr"] > self.limit
        return run.loss(outputs, batch.targets) * (float("nan") if spoilt else 1.0)


def rates(folder: Path) -> dict[int, float]:
    return {line["step"]: line["lr/0"] for line in rig.lines_of(folder) if line["split"] == "train"}


def test_a_run_goes_back_with_smaller_rates_and_says_so(go, tmp_path, capsys):
    class Never:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets)

    plain = load_recipe(rig.write(tmp_path / "plain.toml", schedule={"use": "cosine"}), [], Plugins())
    launch(plain, Plugins(), folder=tmp_path / "plain", listeners=[Never()])
    before = rates(tmp_path / "plain")
    poison = soak.Poison("loss", 13, float("nan"), again=False)
    back = load_recipe(
        rig.write(tmp_path / "back.toml", schedule={"use": "cosine"}, run={"nonfinite": "rollback"}), [], Plugins()
    )
    report = launch(back, Plugins(), folder=tmp_path / "back", listeners=[poison])
    assert report.status == "finished"
    after = rates(tmp_path / "back")
    for step, rate in before.items():
        assert after[step] == (rate if step <= 12 else 0.5 * rate)
    said = capsys.readouterr().err
    assert "the loss is not finite at update 13 (epoch 1): got nan" in said
    assert "the run goes back to update 12, with learning rates times 0.5 (rollback 1 of 3)" in said
    newest = sorted((tmp_path / "back" / "checkpoints").glob("step-*"))[-1]
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    assert [12, f"{EVENT}0.5"] in state["events"]


@pytest.mark.parametrize("stop", [13, 15, 17])
def test_a_run_that_went_back_is_interrupted_and_goes_on_the_same(go, tmp_path, stop):
    class Stop:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == stop:
                run.stop_reason = "the test asked for it"

    go("straight", TooFast(14, 1e-6), rollback_factor=1e-4)
    go("broken", TooFast(14, 1e-6), Stop(), rollback_factor=1e-4)
    go("broken", TooFast(14, 1e-6), rollback_factor=1e-4)
    assert rig.differences(tmp_path / "straight", tmp_path / "broken") == []


def test_a_run_without_a_checkpoint_goes_back_to_its_start(go, tmp_path):
    assert go("run", soak.Poison("loss", 2, float("nan"), again=False)).status == "finished"
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert [0, f"{EVENT}0.5"] in json.loads((newest / "state.json").read_text(encoding="utf-8"))["events"]


def test_a_run_goes_back_so_often_and_no_more(go, tmp_path):
    with pytest.raises(RunError, match=r"has gone back 2 times, with learning rates times 0\.0625 at last") as raised:
        go("run", soak.Poison("loss", 14, float("nan"), again=True), rollbacks=2, rollback_factor=0.25)
    assert raised.value.exit_code == 4
    assert rig.report_of(tmp_path / "run")["status"] == "failed"
    assert rig.not_finite_on_disk(tmp_path / "run") == []


def test_nothing_of_what_failed_is_left_when_the_run_is_built_again(go, monkeypatch):
    """A model that fills the device must make room for itself."""
    seen: list[weakref.ref[Any]] = []
    left: list[list[Any]] = []
    build = launching.build

    def watched(*given: Any) -> Any:
        left.append([ref() for ref in seen if ref() is not None])
        built = build(*given)
        run = built.run
        seen.extend(map(weakref.ref, (run, run.model, run.optimizer, run.feed, *run.model.parameters())))
        return built

    monkeypatch.setattr(launching, "build", watched)
    before = signal.getsignal(signal.SIGTERM)
    caught: list[bool] = []

    class Catching:
        @hookimpl
        def trainkit_run_start(self):
            caught.append(signal.getsignal(signal.SIGTERM) != before)

    assert go("run", TooFast(14, 1e-6), Catching(), rollback_factor=0.02, rollbacks=8).status == "finished"
    assert len(left) > 2
    assert all(not parts for parts in left)
    assert caught == [True] * len(left)
    assert signal.getsignal(signal.SIGTERM) == before


def test_rates_follow_rollbacks_and_reactions_see_none_of_them():
    seen: list[Any] = []

    def body(t: int, T: int, events: Any = ()) -> float:
        seen.append(list(events))
        return 2.0

    lr, other = following([ScheduledValue("lr/0", 1.0, body, 0, "lr"), ScheduledValue("wd", 1.0, body, 0, "wd")])
    events = [(3, "plateau:reduce"), (5, f"{EVENT}0.5"), (9, f"{EVENT}0.1")]
    assert [lr.at(t, 20, events) for t in (4, 5, 8, 9)] == [2.0, 1.0, 1.0, 0.1]
    assert seen[-1] == [(3, "plateau:reduce")]
    assert other.schedule is body


def test_an_optimizer_that_sets_its_own_rate_cannot_go_back(tmp_path, installed):
    tables = {"optimizer": {"use": "adam_hd", "lr": 0.001}, "schedule": {"use": "constant"}}
    path = rig.write(tmp_path / "r.toml", run={"nonfinite": "rollback"}, **tables)
    with pytest.raises(
        RecipeError, match='sets its own learning rate, which nonfinite = "rollback" cannot make smaller'
    ):
        load_recipe(path, [], installed)


@pytest.mark.parametrize("place", ["parameter", "buffer", "optimizer", "state"])
def test_the_message_names_the_update_and_the_first_tensor(go, place):
    names = {
        "parameter": "'body.0.weight' is not finite after update 5",
        "buffer": "'body.1.running_mean' is not finite after update 5",
        "optimizer": "'body.0.weight/exp_avg' in the state of optimizer is not finite after update 5",
        "state": "'average' in the state of listener.0 is not finite after update 5",
    }
    later = ("the loss is not finite at update 5", "'body.0.weight'")
    with pytest.raises(RunError) as raised:
        go("run", soak.Poison(place, 5, float("nan"), again=True), nonfinite="error")
    assert names[place] in str(raised.value) or all(part in str(raised.value) for part in later)


def test_a_loss_that_is_not_finite_names_what_of_the_weights_is_not(go):
    with pytest.raises(RunError, match=r"at update 6 .*the first tensor that is not finite is 'body\.0\.weight'"):
        go("run", soak.Poison("loss", 6, float("inf"), again=True), nonfinite="error")


def test_an_update_that_is_left_out_changes_no_statistics(go, tmp_path, installed):
    class Wild:
        """Inputs that are not finite, once."""

        done = False

        @hookimpl
        def trainkit_run_start(self, run):
            forward = run.forward

            def wild(inputs: torch.Tensor) -> torch.Tensor:
                if run.model.training and run.step == 3 and not self.done:
                    self.done = True
                    inputs = inputs * float("nan")
                return forward(inputs)

            run.forward = wild

    report = go("run", Wild(), nonfinite="skip")
    assert (report.status, report.steps) == ("finished", 23)
    assert rig.not_finite_on_disk(tmp_path / "run") == []


def test_float16_fails_soon_where_no_scale_helps(tmp_path, installed):
    recipe = load_recipe(
        rig.write(tmp_path / "r.toml", run={"precision": "float16", "duration": "40ep"}, callback=[]), [], installed
    )

    class Wild:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * float("inf")

    with pytest.raises(RunError, match="the loss scale of float16 came down to") as raised:
        launch(recipe, installed, folder=tmp_path / "run", listeners=[Wild()])
    assert "bfloat16" in str(raised.value)


def test_sixteen_places(capsys):
    assert soak.check(16, seed=3) == []
