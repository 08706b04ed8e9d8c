"""switch_ema: the average is put into the model at each epoch's end, and a continued run is the same bit for bit."""

from __future__ import annotations

import pytest
import torch

from trainkit import RecipeError, hookimpl, weights_of
from trainkit.finished import evaluate_run

MORE = '[[callback]]\nuse = "switch_ema"\ndecay = 0.9\n'
BATCH_NORM = ["model={use='mlp', widths=[8], norm='batch', dropout=0.2}", "optimizer.lr=0.3", "run.duration=4ep"]


class Follow:
    """Averages by hand what the updates leave, and holds that each epoch begins with the average."""

    def __init__(self) -> None:
        self.mean: dict = {}
        self.count = self.begun = 0

    @hookimpl
    def trainkit_run_start(self, run):
        self.mean = {name: tensor.double() for name, tensor in weights_of(run.model).items()}

    @hookimpl
    def trainkit_epoch_start(self, run):
        self.begun += 1
        for name, tensor in weights_of(run.model).items():
            if tensor.is_floating_point():
                torch.testing.assert_close(tensor.double(), self.mean[name], rtol=1e-5, atol=1e-6)

    @hookimpl
    def trainkit_step_end(self, run):
        self.count += 1
        decay = min(0.9, (1 + self.count) / (10 + self.count))
        for name, tensor in weights_of(run.model).items():
            self.mean[name] = decay * self.mean[name] + (1 - decay) * tensor.double()
            if not tensor.is_floating_point():
                assert int(tensor) == run.step, "batches go on being counted"


def test_each_epoch_begins_with_the_average(train):
    follow = Follow()
    switched = train(*BATCH_NORM, more=MORE, listeners=[follow])
    assert follow.begun == 4
    assert follow.count == switched.report.steps
    plain = train(*BATCH_NORM, more=MORE.replace("switch_ema", "ema"))
    ours, theirs = ([line["loss"] for line in made.of("val")] for made in (switched, plain))
    assert ours[0] == theirs[0], "until the first epoch ends they are the same"
    assert ours[1] != theirs[1]


def test_the_last_evaluation_is_that_of_the_weights_that_are_left(train, plugins):
    made = train(*BATCH_NORM, more=MORE)
    assert evaluate_run(made.folder, "val", plugins)["loss"] == made.report.metrics["val.loss"]


@pytest.mark.parametrize("step", [3, 8, 9, 16, 21])
def test_stopped_anywhere_and_continued_is_straight_through(halves, train, timeless, step):
    straight, resumed = train(*BATCH_NORM, more=MORE), halves(step, *BATCH_NORM, more=MORE)
    assert resumed.report.weights_sha256 == straight.report.weights_sha256
    assert resumed.report.metrics == straight.report.metrics
    assert timeless(resumed) == timeless(straight)


@pytest.mark.parametrize("other", ["ema", "swa", "lawa"])
def test_two_averages_are_a_problem(load, other):
    with pytest.raises(RecipeError, match="takes over the evaluation"):
        load(more=f'{MORE}[[callback]]\nuse = "{other}"\n')


def test_slow_weights_that_would_be_measured_too_are_a_problem(load):
    with pytest.raises(RecipeError, match='evaluate = "slow" takes over the evaluation, as switch_ema does'):
        load(more=f'{MORE}[[callback]]\nuse = "lookahead"\nevaluate = "slow"\n')
