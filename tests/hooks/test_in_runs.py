"""Each hook of a run: when it is called, in what state, and what becomes of its result."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

from trainkit import RunError, StepResult, checkpoint, hookimpl
from trainkit.errors import PluginDefect
from trainkit.finished import open_run, predictions_of
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe


class Heard:
    """Listeners below write down here what they saw."""

    def __init__(self) -> None:
        self.heard: list = []


def test_trainkit_prepare_model(small):
    """Called once, before there is an optimizer; what it freezes is not trained, what it exchanges is."""

    class Prepare(Heard):
        @hookimpl
        def trainkit_prepare_model(self, run, model):
            self.heard.append(hasattr(run, "optimizer"))
            assert model is run.model
            assert all(parameter.device == run.device for parameter in model.parameters())
            model.body.requires_grad_(False)
            model.head = nn.Linear(4, 3)
            nn.init.zeros_(model.head.weight)

    prepare = Prepare()
    _, run = small(prepare)
    assert prepare.heard == [False]
    assert [group["names"] for group in run.optimizer.param_groups] == [["head.weight", "head.bias"]]
    assert run.model.head.weight.any()


def test_trainkit_parameter_groups(small):
    """Called once, after every preparation; the first list decides, and its factors and overrides count."""

    class Prepare(Heard):
        @hookimpl
        def trainkit_prepare_model(self):
            order.append("prepare")

    class Nobody(Heard):
        @hookimpl(tryfirst=True)
        def trainkit_parameter_groups(self, run, model):
            order.append("nobody")

    class One(Heard):
        @hookimpl
        def trainkit_parameter_groups(self, run, model):
            order.append("one")
            chosen = {"params": [model.head.weight], "names": ["head.weight"], "lr_scale": 3.0, "momentum": 0.5}
            return [chosen]

    class Late(Heard):
        @hookimpl
        def trainkit_parameter_groups(self, run, model):
            order.append("late")
            return []

    order: list[str] = []
    _, run = small(Prepare(), Nobody(), One(), Late())
    assert order == ["prepare", "nobody", "one"]
    (group,) = run.optimizer.param_groups
    assert (group["names"], group["momentum"]) == (["head.weight"], 0.5)
    assert group["lr"] == pytest.approx(0.3)


def test_trainkit_run_start(small):
    """Called once, when everything is built and nothing is trained; the folder is there."""

    class Start(Heard):
        @hookimpl
        def trainkit_run_start(self, run):
            self.heard.append((run.step, run.epoch, (run.folder / "recipe.toml").is_file(), len(run.schedules)))

    start = Start()
    small(start)
    assert start.heard == [(0, 0, True, 1)]


def test_trainkit_restore(small, tmp_path):
    """Called with exactly what the same object saved, when weights are loaded; never in a fresh run."""
    module = tmp_path / f"keeper_{tmp_path.name}.py"
    module.write_text(
        "import torch\n"
        "from trainkit import Component, hookimpl\n"
        "class Keeper:\n"
        "    restored = []\n"
        "    @hookimpl\n"
        "    def trainkit_save(self, run):\n"
        "        return {'at': run.step, 'seen': torch.arange(run.step), 'deep': {'x': [1.5, None, 'y']}}\n"
        "    @hookimpl\n"
        "    def trainkit_restore(self, run, state):\n"
        "        Keeper.restored.append((checkpoint(run), state))\n"
        "def checkpoint(run):\n"
        "    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}\n"
        "def keeper():\n    '''Keep.'''\n    return Keeper()\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('callback', keeper)]\n",
        encoding="utf-8",
    )
    plugins = Plugins([str(module)])
    recipe = load_recipe(tmp_path / "small.toml", ['callback=[{use="keeper"}]'], plugins)
    launch(recipe, plugins, folder=tmp_path / "kept")
    restored = sys.modules[module.stem].Keeper.restored
    assert restored == []
    open_run(tmp_path / "kept", plugins)
    ((weights, state),) = restored
    assert (state["at"], state["deep"]) == (8, {"x": [1.5, None, "y"]})
    assert state["seen"].tolist() == list(range(8))
    _, tensors, _ = checkpoint.load_newest(tmp_path / "kept" / "checkpoints")
    assert all(torch.equal(tensor, tensors[f"model/{name}"]) for name, tensor in weights.items()), "weights come first"


def test_trainkit_epoch_start(small):
    """Called before the first batch of each epoch, with its number."""

    class Epoch(Heard):
        @hookimpl
        def trainkit_epoch_start(self, run):
            self.heard.append((run.epoch, run.step, run.batch_in_epoch))

    epoch = Epoch()
    small(epoch, changes=('run.duration="10ba"',))
    assert epoch.heard == [(0, 0, 0), (1, 4, 0), (2, 8, 0)]


def test_trainkit_train_step(small):
    """Called once for each update with its batches and scheduled values; the first result decides."""

    class Step(Heard):
        @hookimpl
        def trainkit_train_step(self, run, batches):
            assert run.model.training
            rate = run.optimizer.param_groups[0]["lr"]
            self.heard.append((run.step, [len(batch) for batch in batches], round(rate, 12)))
            return StepResult(torch.tensor(0.25), sum(map(len, batches)))

    class Late(Heard):
        @hookimpl
        def trainkit_train_step(self, run, batches):
            self.heard.append("called")

    step, late = Step(), Late()
    report, run = small(step, late, changes=("run.accumulate=2", 'schedule={use="linear"}'))
    assert step.heard == [(0, [16, 16], 0.1), (1, [16, 10], 0.075), (2, [16, 16], 0.05), (3, [16, 10], 0.025)]
    assert late.heard == []
    assert report.metrics["train.loss"] == 0.25
    untouched = small(changes=("optimizer.lr=1e-300",))[1]
    assert checkpoint.weights_sha256(run.model) == checkpoint.weights_sha256(untouched.model)


def test_trainkit_loss(small):
    """Called once for each training batch; the first loss decides, and evaluation keeps the recipe's."""

    class Loss(Heard):
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            assert outputs.requires_grad
            assert outputs.shape == (len(batch), 3)
            self.heard.append(len(batch))
            return run.loss(outputs, batch.targets) * 0 + 7

    loss = Loss()
    report, _ = small(loss)
    assert loss.heard == [16, 16, 16, 10] * 2
    assert report.metrics["train.loss"] == 7.0
    assert report.metrics["val.loss"] < 7.0


def test_trainkit_gradients(small):
    """Called once for each update with every gradient; what is changed in place is what the update uses."""

    class Zero(Heard):
        @hookimpl
        def trainkit_gradients(self, run, gradients):
            held = [parameter.grad for group in run.optimizer.param_groups for parameter in group["params"]]
            self.heard.append(len(gradients))
            assert all(a is b for a, b in zip(gradients, held, strict=True))
            for gradient in gradients:
                gradient.zero_()

    zero = Zero()
    _, run = small(zero, changes=("run.accumulate=2",))
    assert zero.heard == [4] * 4
    untouched = small(changes=("optimizer.lr=1e-300",))[1]
    assert checkpoint.weights_sha256(run.model) == checkpoint.weights_sha256(untouched.model)


def test_trainkit_step_end(small):
    """Called after each update, which ``run.step`` counts already; the result holds its loss and samples."""

    class End(Heard):
        @hookimpl
        def trainkit_step_end(self, run, result):
            assert not result.losses.requires_grad
            self.heard.append((run.step, result.losses.shape, result.weights, result.updates, result.skipped))

    end = End()
    small(end)
    assert end.heard == [(n + 1, (), (16, 16, 16, 10)[n % 4], 1, 0) for n in range(8)]


def test_trainkit_figures(small):
    """Called for each training line alone, with the updates up to it; its figures stand between metrics and values."""

    class Figures(Heard):
        @hookimpl
        def trainkit_figures(self, run):
            self.heard.append(run.step)
            return {"twice": torch.tensor(2.0 * run.step), "odd": float("nan")} if run.step < 8 else None

    class Stop:
        @hookimpl
        def trainkit_step_end(self, run):
            run.stop_reason = "enough" if run.step == 6 else None

    figures = Figures()
    report, run = small(figures)
    assert figures.heard == [4, 8]
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first, second = (line for line in lines if line["split"] == "train")
    assert list(first)[4:] == ["loss", "twice", "odd", "lr/0"]
    assert (first["twice"], first["odd"]) == (8.0, None)
    assert "twice" not in second
    assert "train.twice" not in report.metrics
    assert all("twice" not in line for line in lines if line["split"] != "train")
    figures.heard.clear()
    small(figures, Stop())
    assert figures.heard == [4, 6]


@pytest.mark.parametrize("name", ["loss", "lr/0", "step", "mine"])
def test_a_figure_that_the_line_has_already_names_who_gives_it(small, name):
    class Figures:
        @hookimpl
        def trainkit_figures(self):
            return {name: 1.0}

    both = [Figures(), Figures()] if name == "mine" else [Figures()]
    giver = "listener.0" if name == "mine" else "the line itself"
    with pytest.raises(PluginDefect, match=f"listener.{len(both) - 1} .*the figure '{name}' is given by {giver}"):
        small(*both)


def test_predict_takes_the_weights_that_evaluations_measure(small):
    """Wrappers stand around what predict does; a plugin's own way of measuring does not keep it from its outputs."""

    class Negative(Heard):
        @hookimpl(wrapper=True)
        def trainkit_evaluate(self, run, split):
            for parameter in run.model.parameters():
                parameter.data.neg_()
            try:
                figures = yield
                self.heard.append((split, sorted(figures)))
                return figures
            finally:
                for parameter in run.model.parameters():
                    parameter.data.neg_()

    class Own:
        @hookimpl
        def trainkit_evaluate(self):
            return {"loss": 1.0}

    _, run = small(changes=("model.widths=[]",))  # a linear model: other weights of the same size, other outputs
    plain = predictions_of(run, "val")["outputs"]
    trained = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    negative = Negative()
    _, run = small(negative, Own(), changes=("model.widths=[]",))
    negative.heard.clear()
    torch.testing.assert_close(predictions_of(run, "val")["outputs"], -plain, rtol=0, atol=0)
    assert negative.heard == [("val", ["loss"])]
    assert all(torch.equal(tensor, trained[name]) for name, tensor in run.model.state_dict().items())


def test_trainkit_evaluate(small):
    """Called when an evaluation is due, before saving, and once on the test split; figures replace the core's."""

    class Evaluate(Heard):
        @hookimpl
        def trainkit_evaluate(self, run, split):
            self.heard.append((split, run.step))
            return {"loss": float(run.step)}

        @hookimpl
        def trainkit_save(self, run):
            self.heard.append(("save", run.step))

    class Around(Heard):
        @hookimpl(wrapper=True)
        def trainkit_evaluate(self, run, split):
            figures = yield
            return {**figures, "double": 2 * figures["loss"]}

    evaluate = Evaluate()
    report, run = small(evaluate, Around())
    assert evaluate.heard == [("val", 4), ("save", 4), ("val", 8), ("save", 8), ("test", 8)]
    assert (report.metrics["val.loss"], report.metrics["val.double"], report.metrics["test.double"]) == (
        8.0,
        16.0,
        16.0,
    )
    assert report.best["step"] == 4
    assert run.model.training


def test_trainkit_epoch_end(small):
    """Called after each whole epoch and its evaluation, before its checkpoint, with the epoch's own number."""

    class End(Heard):
        @hookimpl
        def trainkit_epoch_end(self, run, metrics):
            saved = len(list((run.folder / "checkpoints").glob("step-*")))
            self.heard.append((run.epoch, run.step, sorted(metrics), saved))

    end = End()
    small(end, changes=('run.duration="10ba"', "run.save_in_background=false"))
    assert end.heard == [(0, 4, ["train.loss", "val.loss"], 0), (1, 8, ["train.loss", "val.loss"], 1)]


def test_trainkit_stop_reason(small):
    """Called after each evaluation; the first reason ends the run once the checkpoint is saved."""

    class Reason(Heard):
        def __init__(self, reason) -> None:
            super().__init__()
            self.reason = reason

        @hookimpl
        def trainkit_stop_reason(self, run, metrics):
            self.heard.append((run.step, sorted(metrics)))
            return self.reason if run.step >= 6 else None

    silent, first, late = Reason(None), Reason("seen enough"), Reason("too late")
    report, run = small(silent, first, late, changes=('run.evaluate_every="3ba"', "run.duration=9ep"))
    assert (report.status, report.reason, report.steps) == ("stopped", "seen enough", 6)
    assert [step for step, _ in silent.heard] == [3, 4, 6]
    assert [step for step, _ in late.heard] == [3, 4]
    assert silent.heard[0][1] == ["val.loss"]
    assert checkpoint.load_newest(run.folder / "checkpoints")[2]["step"] == 6


def test_trainkit_save(small):
    """Called at each save; what it gives lies in the checkpoint, and what cannot be saved is named."""

    class Save(Heard):
        def __init__(self, state) -> None:
            super().__init__()
            self.state = state

        @hookimpl
        def trainkit_save(self, run):
            self.heard.append(run.step)
            return self.state

    save, none = Save({"kept": torch.ones(2), "n": 3}), Save(None)
    _, run = small(save, none, changes=('run.save_every="3ba"', 'run.evaluate_every="9ep"'))
    assert save.heard == [3, 6, 8]
    _, tensors, state = checkpoint.load_newest(run.folder / "checkpoints")
    assert list(state["plugins"]) == ["listener.0"]
    assert checkpoint.join_state(state["plugins"]["listener.0"], tensors)["kept"].tolist() == [1.0, 1.0]
    with pytest.raises(Exception, match="set cannot be saved"):
        small(Save({"odd": {1, 2}}))


def test_trainkit_run_end(small):
    """Called once, however the run ends, when the report is written."""

    class End(Heard):
        @hookimpl
        def trainkit_run_end(self, run, report):
            written = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
            self.heard.append((report.status, written["status"]))

    class Stop:
        @hookimpl
        def trainkit_stop_reason(self):
            return "enough"

    class Fail:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * float("nan")

    end = End()
    small(end)
    small(end, Stop())
    with pytest.raises(RunError):
        small(end, Fail())
    assert end.heard == [("finished", "finished"), ("stopped", "stopped"), ("failed", "failed")]
