"""What an evaluation costs beside the model: nothing that is not needed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainkit import DataError, hookimpl, recorder
from trainkit.device import Precision, choose_eval_batch_size
from trainkit.finished import evaluate_run


@pytest.mark.parametrize(
    ("changes", "more", "copied"),
    [((), "", False), (("data.eval_batch_size=8",), "", True), ((), '[[callback]]\nuse = "ema"\n', True)],
    ids=["one batch", "several batches", "a callback that evaluates"],
)
def test_random_states_are_copied_where_something_may_draw_before_a_cut(train, monkeypatch, changes, more, copied):
    taken = []
    copy = recorder.random_generators
    monkeypatch.setattr(recorder, "random_generators", lambda device: taken.append(device) or copy(device))
    train(*changes, more=more)
    assert bool(taken) == copied


@pytest.mark.parametrize(
    ("shape", "precision", "size"),
    [
        ((3, 32, 32), "float32", 32),
        ((3, 32, 32), "bfloat16", 64),
        ((1, 28, 28), "float32", 128),
        ((1, 8, 8), "float32", 2048),
        ((3, 224, 224), "float32", 8),
        ((64,), "float32", None),
        ((3, 0, 32), "float32", 2048),
    ],
)
def test_batches_of_images_are_as_large_as_the_caches_bear(shape, precision, size):
    assert choose_eval_batch_size(shape, Precision.choose(precision, torch.device("cpu"))) == size


def test_on_cuda_the_feed_chooses():
    assert choose_eval_batch_size((3, 32, 32), Precision.choose("float32", torch.device("cuda"))) is None


def test_a_recipe_says_how_large_they_are(train):
    images = "data.features=[3,32,32]", "model={use='convnet', widths=[4]}", "run.duration=1ep"
    assert train(*images).run.feed.plan.eval_batch_size == 32
    assert train(*images, "data.eval_batch_size=5").run.feed.plan.eval_batch_size == 5


def test_a_plugin_that_measures_a_split_that_is_not_there_is_told_which_there_are(train):
    class Measure:
        @hookimpl
        def trainkit_run_start(self, run):
            with pytest.raises(DataError, match="has no split 'nowhere'; it has: train"):
                run.hook.trainkit_evaluate(run=run, split="nowhere")

    train(listeners=[Measure()])


def test_a_finished_run_is_measured_without_what_would_update_it(train, plugins, monkeypatch):
    finished = train()
    monkeypatch.setattr("trainkit.build.make_program", None)
    figures = evaluate_run(finished.folder, "test", plugins)
    (logged,) = finished.of("test")
    assert figures["loss"] == logged["loss"]


class Frozen(nn.BatchNorm1d):
    """Stays in evaluation mode, whatever its model does."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def test_modules_that_have_a_mode_of_their_own_keep_it_around_evaluations(train):
    seen = []

    class Look:
        @hookimpl
        def trainkit_prepare_model(self, model):
            model.add_module("extra", nn.Sequential(nn.Dropout(), Frozen(3)))
            model.train()
            self.model = model

        @hookimpl(wrapper=True)
        def trainkit_evaluate(self, run):
            forward = run.forward
            run.forward = lambda inputs: seen.append([m.training for m in run.model.modules()]) or forward(inputs)
            figures = yield
            run.forward = forward
            return figures

        @hookimpl
        def trainkit_epoch_end(self):
            assert [module.training for module in self.model.extra] == [True, False]

    train(listeners=[Look()])
    assert seen
    assert not any(map(any, seen))
