"""Batches that go through the model in parts: the same update, found by itself where memory runs out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.soak import exceptions as soak
from tests.soak import rig
from trainkit import RecipeError, RunError, checkpoint, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

PARTS = Path(__file__).parent / "trainkit_test_parts.py"
PLAIN: dict[str, Any] = {
    "model": {"use": "exact"},
    "data": {"batch_size": 12, "augment": []},
    "schedule": {"use": "cosine"},
}


@pytest.fixture(scope="module")
def installed() -> Plugins:
    return Plugins([str(PARTS), str(soak.PLUGIN)])


@pytest.fixture
def go(tmp_path: Path, installed: Plugins) -> Any:
    """Run a recipe in a folder, continued if there is something to continue; the report and the weights."""

    def go(name: str, *listeners: object, run: Any = None, **tables: Any) -> Any:
        written = PLAIN | tables
        path = rig.write(tmp_path / "r.toml", run=run or {}, **written)
        if "model" in written:  # none of the settings of another model
            import tomli
            import tomli_w

            whole = tomli.loads(path.read_text(encoding="utf-8"))
            path.write_text(tomli_w.dumps({**whole, "model": written["model"]}), encoding="utf-8")
        recipe = load_recipe(path, [], installed)
        report = launch(recipe, installed, folder=tmp_path / name, listeners=listeners, resume=True)
        _, tensors, _ = checkpoint.load_newest(tmp_path / name / "checkpoints")
        return report, {key: value for key, value in tensors.items() if key.startswith("model/")}

    return go


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], rtol: float) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=rtol, atol=rtol) for name in one)


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"loss": {"use": "cross_entropy", "class_weights": [1.0, 5.0, 0.2]}},
        {"callback": [{"use": "clip_norm", "max_norm": 0.1}]},
        {"optimizer": {"use": "lbfgs", "lr": 0.1}, "callback": []},
    ],
    ids=["plain", "class weights", "clipped", "closure"],
)
@pytest.mark.parametrize("size", [1, 4, 8])
def test_parts_of_a_batch_make_the_same_update(go, tables, size):
    run = {"duration": "2ba" if "lbfgs" in str(tables) else "3ep"}  # it multiplies what rounding makes
    whole, weights = go("whole", run=run, **tables)
    parts, same = go("parts", run={"microbatch": size, **run}, **tables)
    assert close(weights, same, 1e-9)
    assert parts.metrics["train.loss"] == pytest.approx(whole.metrics["train.loss"], rel=1e-9)
    assert parts.metrics["train.accuracy"] == whole.metrics["train.accuracy"]
    assert parts.microbatch == size


def test_a_part_as_large_as_the_batch_is_the_batch(go):
    whole, _ = go("whole", run={"accumulate": 1})
    parts, _ = go("parts", run={"accumulate": 1, "microbatch": 16})
    found, _ = go("found", run={"accumulate": 1, "microbatch": "auto"})
    assert whole.weights_sha256 == parts.weights_sha256 == found.weights_sha256
    assert (whole.microbatch, parts.microbatch, found.microbatch) == (None, 16, None)


HUNGRY = {"model": {"use": "hungry", "most": 4}}


def test_what_fits_into_memory_is_found_said_once_and_kept(go, tmp_path, capsys):
    report, found = go("run", run={"microbatch": "auto"}, **HUNGRY)
    assert (report.status, report.microbatch) == ("finished", 3)
    said = capsys.readouterr().err
    assert said.count("out of memory at update 0: from here on") == 2  # 12 to 6, 6 to 3
    whole, weights = go("whole", model={"use": "hungry", "most": 99})
    assert close(weights, found, 1e-5)
    assert whole.metrics["val.loss"] == pytest.approx(report.metrics["val.loss"], rel=1e-4)
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert json.loads((newest / "state.json").read_text(encoding="utf-8"))["microbatch"] == 3
    assert rig.report_of(tmp_path / "run")["microbatch"] == 3


@pytest.mark.parametrize("stop", [1, 5])
def test_it_is_kept_when_the_run_goes_on(go, tmp_path, capsys, stop):
    whole, _ = go("straight", run={"microbatch": "auto"}, **HUNGRY)
    capsys.readouterr()
    go("broken", soak._Stop(stop), run={"microbatch": "auto"}, **HUNGRY)
    capsys.readouterr()
    report, _ = go("broken", run={"microbatch": "auto"}, **HUNGRY)
    assert "out of memory" not in capsys.readouterr().err
    assert report.weights_sha256 == whole.weights_sha256
    assert rig.differences(tmp_path / "straight", tmp_path / "broken") == []


def test_memory_that_runs_out_once_changes_no_random_number(go):
    class Once:
        """Runs out of memory after random numbers were drawn and a buffer has counted."""

        @hookimpl
        def trainkit_run_start(self, run):
            run.model.register_buffer("seen", torch.zeros(()))
            forward, failed = run.forward, []

            def once(inputs):
                if run.model.training:
                    run.model.seen += 1
                    torch.rand(())
                    if run.step == 4 and not failed:
                        failed.append(True)
                        raise MemoryError("no memory left")
                return forward(inputs)

            run.forward = once

    report, weights = go("run", Once(), run={"microbatch": "auto", "accumulate": 1, "duration": "1ep"})
    assert report.microbatch == 6
    # 4 updates of whole batches, then two parts a batch; the last batch has 8 samples.
    assert weights["model/seen"] == 4 + 2 * 6


def test_one_sample_that_does_not_fit_ends_the_run_with_the_cure(go, tmp_path):
    with pytest.raises(RunError, match="out of memory at update 0") as raised:
        go("run", run={"microbatch": "auto"}, model={"use": "hungry", "most": 0})
    assert raised.value.exit_code == 4
    with pytest.raises(RunError, match='write microbatch = "auto"'):
        go("plain", model={"use": "hungry", "most": 0})


def test_an_update_that_is_torn_is_not_made_again(go, tmp_path):
    whole, _ = go("straight", run={"microbatch": "auto"})
    with pytest.raises(RunError, match="out of memory at update 7"):
        go("broken", soak._Torn(7), run={"microbatch": "auto"})
    assert rig.whole_checkpoints(tmp_path / "broken") == []
    report, _ = go("broken", run={"microbatch": "auto"})
    assert report.weights_sha256 == whole.weights_sha256


def test_memory_that_evaluation_lacks_has_a_cure_of_its_own(go):
    class Full:
        @hookimpl
        def trainkit_run_start(self, run):
            forward = run.forward

            def full(inputs):
                if not run.model.training:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return forward(inputs)

            run.forward = full

    with pytest.raises(RunError, match=r"lower data\.eval_batch_size"):
        go("run", Full())


NORMED = {"model": {"use": "mlp", "widths": [8], "norm": "batch"}}


def test_batch_norm_refuses_to_depend_on_the_memory_that_is_free(go):
    with pytest.raises(RecipeError, match=r"the statistics of BatchNorm 'body.1' are those of a microbatch"):
        go("run", run={"microbatch": "auto"}, **NORMED)


def test_batch_norm_says_what_a_number_means(go, capsys):
    go("run", run={"microbatch": 4}, **NORMED)
    assert "microbatch = 4: the statistics of BatchNorm 'body.1' are those of a microbatch" in capsys.readouterr().err


def test_a_compiled_step_has_whole_batches(go):
    with pytest.raises(RecipeError, match='compile = "step" has whole batches in its program'):
        go("run", run={"microbatch": 4, "compile": "step"}, optimizer={"use": "adamw", "lr": 0.1})


def test_memory_that_runs_out_anywhere_leaves_a_run_that_goes_on():
    assert soak.check_memory(8, seed=2) == []
