"""From a recipe to a report: smoke, profile, errors with a name and a place, and finished runs opened again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from trainkit import CheckpointError, MachineError, RecipeError, RunError, checkpoint, hookimpl
from trainkit.errors import PluginDefect, UsageError
from trainkit.finished import evaluate_run, open_run, predict_run
from trainkit.launch import launch

PARTS = Path(__file__).parent / "trainkit_test_parts.py"


# ---------------------------------------------------------------- smoke and profile


def test_smoke_makes_two_updates_and_leaves_nothing(load, plugins, tmp_path):
    class Count:
        steps, evaluated = 0, 0

        @hookimpl
        def trainkit_step_end(self):
            Count.steps += 1

        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self):
            Count.evaluated += 1

    report = launch(load("run.duration=1000ep"), plugins, smoke=True, listeners=[Count()])
    assert (report.status, report.steps, Count.steps, Count.evaluated) == ("finished", 2, 2, 1)
    assert "val.accuracy" in report.metrics
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "changes",
    [
        ("run.duration=1ba",),
        ("run.accumulate=100",),
        ("data.val=0.0", "run.monitor=train.loss"),
        ("data.val=0.0", "data.test=0.0", "run.monitor=train.loss"),
        ("optimizer={use='lbfgs'}",),
        ("run.precision=float16",),
        ("model={use='tied'}",),
        ('schedule={use="cosine", warmup="1ep"}',),
        ("run.nonfinite=skip", "model.norm=batch", "optimizer={use='adam'}"),
    ],
    ids=str,
)
def test_smoke_works_for_recipes_of_every_form(load, plugins, changes):
    assert launch(load(*changes), plugins, smoke=True).status == "finished"


def test_smoke_finds_what_a_run_would_die_of(load, plugins):
    with pytest.raises(PluginDefect, match="in hook trainkit_save: KeyError: 'lost'"):
        launch(load(more='[[callback]]\nuse = "bad"\nhook = "save"\n'), plugins, smoke=True)


def test_a_profile_says_where_the_seconds_went(train):
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n[[callback]]\nuse = "ema"\n'
    plain = train(more=more)
    measured = train(more=more, profile=True)
    assert plain.run.profile == {}
    spent = measured.run.profile
    assert all(part.seconds >= 0 for part in spent.values())
    assert spent["step"].seconds > 0
    assert spent["data"].calls == spent["step"].calls == 16
    assert spent["callback.0 'clip_norm': gradients"].calls == 16
    assert spent["callback.1 'ema': step_end"].calls == 16
    assert spent["callback.1 'ema': evaluate"].calls == 3, "a wrapper, around two evaluations and the test"
    assert spent["trainkit: evaluate"].calls == 3
    total = sum(part.seconds for label, part in spent.items() if not label.endswith(": run_end"))
    assert 0.5 * measured.report.seconds < total <= measured.report.seconds, "each second counts once"
    assert measured.report.weights_sha256 == plain.report.weights_sha256, "measuring changes nothing"
    assert [line | {"time": 0} for line in measured.lines] == [line | {"time": 0} for line in plain.lines]


def test_a_profile_measures_what_callbacks_and_loggers_take(train):
    """Seconds go to the object that spends them, wherever it was called from."""

    class Slow:
        @hookimpl
        def trainkit_step_end(self):
            time.sleep(0.01)

        @hookimpl
        def trainkit_save(self):
            time.sleep(0.02)
            return {}

        @hookimpl
        def trainkit_restore(self):
            return None

        @hookimpl(wrapper=True)
        def trainkit_evaluate(self):
            time.sleep(0.03)
            figures = yield
            time.sleep(0.03)
            return figures

    spent = train(listeners=[Slow()], profile=True).run.profile
    assert spent["listener.0 Slow: step_end"].seconds >= 0.16
    saves = spent["save"].calls
    assert spent["listener.0 Slow: save"].seconds >= 0.02 * spent["listener.0 Slow: save"].calls > 0
    assert spent["save"].seconds < 0.02 * saves + 0.2
    assert spent["listener.0 Slow: evaluate"].seconds >= 0.18
    assert spent["trainkit: evaluate"].seconds < 0.15, "what stands around it is not its own"


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("hook", ["run_start", "step_end", "epoch_end", "save", "prepare_model"])
def test_an_error_inside_a_hook_names_plugin_hook_and_place(load, plugins, tmp_path, hook):
    with pytest.raises(PluginDefect) as raised:
        launch(load(more=f'[[callback]]\nuse = "bad"\nhook = "{hook}"\n'), plugins, folder=tmp_path / "run")
    text = str(raised.value)
    assert "trainkit_test_parts" in text
    assert f"in hook trainkit_{hook}: KeyError: 'lost'" in text
    line = next(i for i, row in enumerate(PARTS.read_text(encoding="utf-8").splitlines(), 1) if "KeyError" in row)
    assert f"{PARTS.name}:{line}" in text
    assert raised.value.exit_code == 1
    if hook == "prepare_model":
        assert not (tmp_path / "run").exists()
    else:
        assert json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_an_error_after_the_run_is_said_and_changes_nothing(train, capsys):
    finished = train(more='[[callback]]\nuse = "bad"\nhook = "run_end"\n')
    assert finished.report.status == "finished"
    told = capsys.readouterr().err
    assert "warning: the run is over and its report stands, but" in told
    assert "trainkit_run_end" in told
    assert "trainkit_run_end" in (finished.folder / "log.txt").read_text(encoding="utf-8")


def test_one_that_cannot_close_keeps_no_other_from_closing(train):
    class Closing:
        closed = 0

        @hookimpl
        def trainkit_run_end(self):
            self.closed += 1

    closing = Closing()
    train(more='[[callback]]\nuse = "bad"\nhook = "run_end"\n', listeners=[closing])
    assert closing.closed == 1


def test_a_factory_that_raises_names_its_table_and_place(load, plugins, tmp_path):
    with pytest.raises(PluginDefect) as raised:
        launch(load("model={use='raises'}"), plugins, folder=tmp_path / "run")
    for part in ("[model] raises", "RuntimeError: no such layer", PARTS.name):
        assert part in str(raised.value)


def test_a_factory_that_refuses_is_a_problem_of_the_recipe_at_its_place(load, plugins, tmp_path):
    recipe = load("model={use='refuses', text='7 is too small\\ntake 8'}".replace("'", '"'))
    with pytest.raises(RecipeError) as raised:
        launch(recipe, plugins, folder=tmp_path / "run")
    (problem,) = raised.value.problems
    assert (problem.message, problem.cure) == ("[model] refuses: 7 is too small", "take 8")
    assert problem.place.origin.startswith("command line")


def test_cuda_that_is_absent_is_an_error_of_the_machine_and_nothing_is_written(load, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError) as raised:
        launch(load("run.device=cuda"), plugins, folder=tmp_path / "run")
    assert raised.value.exit_code == 3
    assert '[run] device = "cuda": there is none' in str(raised.value)
    assert 'device = "auto"' in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_the_data_is_told_in_shapes(load, plugins, tmp_path):
    with pytest.raises(RecipeError, match=r"needs images \(channels, height, width\), the data has \(6,\)"):
        launch(load("model={use='resnet', depth=8}"), plugins, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_is_found_with_two_samples_before_anything_is_written(load, plugins, tmp_path):
    with pytest.raises(RecipeError) as caught:
        launch(load("model={use='misfit'}"), plugins, folder=tmp_path / "run")
    (problem,) = caught.value.problems
    assert problem.message.startswith("[model] misfit does not take inputs (2, 6) of data 'synthetic': RuntimeError")
    assert "2x6 and 7x3" in problem.message
    assert not (tmp_path / "run").exists()


def test_a_loss_that_does_not_fit_the_data_names_both_tasks(load, plugins, tmp_path):
    with pytest.raises(RecipeError, match="needs data with the task regression, the data's task is classification"):
        launch(load("loss={use='mse'}"), plugins, folder=tmp_path / "run")


def test_out_of_memory_says_how_to_need_less(train):
    class Full:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    with pytest.raises(RunError, match="out of memory at update 3") as raised:
        train(listeners=[Full()])
    assert "lower data.batch_size and raise run.accumulate" in str(raised.value)


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_at_the_next_update_and_saves(train, number):
    class Press:
        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == 5:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    finished = train("run.duration=100ep", listeners=[Press()])
    assert (finished.report.status, finished.report.reason) == ("interrupted", f"signal {signal.Signals(number).name}")
    assert finished.report.steps in (5, 6)
    assert finished.checkpoints[-1] == finished.report.steps
    assert not any(name.startswith("test.") for name in finished.report.metrics), "an unfinished run is not tested"
    assert signal.getsignal(number) is before, "handlers are put back"
    assert json.loads((finished.folder / "report.json").read_text(encoding="utf-8"))["status"] == "interrupted"


def test_a_signal_while_the_test_is_measured_finds_a_finished_run(train):
    class Late:
        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, split):
            if split == "test":
                os.kill(os.getpid(), signal.SIGTERM)

    finished = train(listeners=[Late()])
    assert (finished.report.status, finished.report.reason) == ("finished", "all planned updates made")
    assert "test.loss" in finished.report.metrics


def test_a_signal_while_the_run_is_built_leaves_nothing(load, plugins, tmp_path):
    class Early:
        @hookimpl
        def trainkit_prepare_model(self):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Exception, match="stopped by SIGTERM before the first update") as raised:
        launch(load(), plugins, folder=tmp_path / "run", listeners=[Early()])
    assert raised.value.exit_code == 75  # type: ignore[attr-defined]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_second_signal_ends_the_process_at_once(tmp_path, number, code):
    (tmp_path / "twice.py").write_text(
        textwrap.dedent(f"""
        import os, signal
        from trainkit import Component, hookimpl
        class Twice:
            @hookimpl
            def trainkit_step_end(self, run):
                if run.step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    os.kill(os.getpid(), signal.{number})
                    print("still here")
        def twice():
            "Press twice."
            return Twice()
        @hookimpl
        def trainkit_components():
            return [Component("callback", twice)]
        """),
        encoding="utf-8",
    )
    (tmp_path / "r.toml").write_text(
        'recipe = 1\nlogger = []\ncallback = [{use = "twice"}]\n[run]\nduration = "9ep"\nthreads = 1\n[data]\n'
        'use = "synthetic"\n[model]\nuse = "linear"\n[loss]\nuse = "cross_entropy"\n'
        '[optimizer]\nuse = "sgd"\nlr = 0.1\n',
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "trainkit", "r.toml", "-p", "./twice.py", "--run-dir", "run", "-q"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "still here" in done.stdout) == (code, False), done.stderr
    assert not (tmp_path / "run" / "report.json").exists()


# ---------------------------------------------------------------- finished runs


def test_a_finished_run_opens_with_its_weights_and_measures_the_same(train, plugins):
    finished = train("model.norm=batch", "optimizer={use='adamw'}")
    run = open_run(finished.folder, plugins)
    assert checkpoint.weights_sha256(run.model) == finished.report.weights_sha256
    for split in ("val", "test"):
        figures = evaluate_run(finished.folder, split, plugins)
        assert {f"{split}.{name}": value for name, value in figures.items()} == {
            name: value for name, value in finished.report.metrics.items() if name.startswith(split)
        }


def test_one_checkpoint_of_a_run_can_be_opened(train, plugins):
    finished = train("run.duration=3ep")
    older = finished.folder / "checkpoints" / "step-000000000016"
    figures = evaluate_run(older, "val", plugins)
    assert figures["loss"] == finished.of("val")[1]["loss"] != finished.report.metrics["val.loss"]


def test_plugins_take_their_state_back_before_they_measure(train, plugins):
    finished = train("optimizer.lr=0.5", more='[[callback]]\nuse = "averaged"\n')
    assert evaluate_run(finished.folder, "val", plugins)["loss"] == finished.report.metrics["val.loss"]


def test_predictions_come_in_the_order_of_the_split(train, plugins):
    finished = train()
    made = predict_run(finished.folder, "test", plugins)
    assert made["index"].tolist() == list(range(38))
    assert torch.equal(made["targets"], finished.run.feed.plan.dataset.splits["test"].targets)
    assert torch.allclose(made["probabilities"].sum(1), torch.ones(38))
    accuracy = (made["predicted"] == made["targets"]).double().mean().item()
    assert accuracy == finished.report.metrics["test.accuracy"]


def test_what_is_no_run_or_has_no_checkpoint_is_told(train, plugins, tmp_path):
    with pytest.raises(UsageError, match="not a run folder"):
        open_run(tmp_path, plugins)
    finished = train()
    with pytest.raises(UsageError, match="--split nowhere: the data has no such split; it has train, val, test"):
        evaluate_run(finished.folder, "nowhere", plugins)
    for folder in (finished.folder / "checkpoints").iterdir():
        (folder / "MANIFEST").unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        open_run(finished.folder, plugins)


def test_weights_of_another_model_are_refused(train, plugins):
    finished = train()
    filled = finished.folder / "recipe.toml"
    filled.write_text(filled.read_text(encoding="utf-8").replace("widths = [8]", "widths = [9]"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not fit the model: body.0.weight is \(8, 6\) torch.float32"):
        open_run(finished.folder, plugins)


def test_other_data_than_the_run_had_is_said(train, plugins, capsys):
    finished = train()
    filled = finished.folder / "recipe.toml"
    filled.write_text(filled.read_text(encoding="utf-8").replace("data_seed = 0", "data_seed = 1"), encoding="utf-8")
    open_run(finished.folder, plugins)
    assert "the data is not the data this run was trained on" in capsys.readouterr().err


def test_a_failed_run_keeps_its_last_good_weights(train, plugins, tmp_path):
    class Spoil:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * (float("nan") if run.step == 12 else 1.0)

    with pytest.raises(RunError):
        train(listeners=[Spoil()])
    run = open_run(tmp_path / "run-1", plugins)
    assert checkpoint.weights_sha256(run.model) == train("run.duration=1ep").report.weights_sha256
