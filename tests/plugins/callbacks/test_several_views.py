"""test_time_augmentation: the mean over views is what is measured and predicted, and training knows nothing of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainkit import RecipeError, Run, hookimpl
from trainkit.finished import evaluate_run, predict_run
from trainkit.manager import Plugins

IMAGES = ["data.features=[3,6,5]", "model={use='convnet', widths=[4,6]}"]
VIEWS = '[[callback]]\nuse = "test_time_augmentation"\n'


def averaged(run: Run, images: Tensor, flip: bool, shift: int) -> Tensor:
    """The mean of the outputs, written out."""

    def sides(images: Tensor) -> Tensor:
        outputs: Tensor = run.model(images)
        return (outputs + run.model(images.flip(-1))) / 2 if flip else outputs

    if not shift:
        return sides(images)
    padded = functional.pad(images, (shift,) * 4, mode="reflect")
    corner = padded[..., 2 * shift :, 2 * shift :]
    return sides(images) / 2 + sides(padded[..., : images.shape[2], : images.shape[3]]) / 4 + sides(corner) / 4


@pytest.mark.parametrize(("flip", "shift"), [(True, 1), (False, 2), (True, 0)])
def test_the_mean_of_the_views_is_measured_and_predicted(train, flip, shift):
    settings = f"flip = {str(flip).lower()}\nshift = {shift}\n"
    finished = train(*IMAGES, more=VIEWS + settings)
    run = finished.run
    run.model.eval()
    plugins = Plugins(without=["reports"])
    for split in ("val", "test"):
        outputs, targets = [], []
        with torch.no_grad():
            for batch in run.feed.evaluate(split):
                outputs.append(averaged(run, batch.inputs, flip, shift))
                targets.append(batch.targets)
        loss = functional.cross_entropy(torch.cat(outputs), torch.cat(targets))
        accuracy = (torch.cat(outputs).argmax(1) == torch.cat(targets)).double().mean()
        measured = finished.of(split)[-1]
        assert measured["loss"] == pytest.approx(float(loss), rel=1e-5)
        assert measured["accuracy"] == pytest.approx(float(accuracy), abs=1e-12)
        torch.testing.assert_close(
            predict_run(finished.folder, split, plugins)["outputs"], torch.cat(outputs), rtol=1e-5, atol=1e-6
        )
        again = evaluate_run(finished.folder, split, plugins)
        assert (again["loss"], again["accuracy"]) == (measured["loss"], measured["accuracy"])


def test_training_is_what_it_is_without(train):
    plain, viewed = train(*IMAGES), train(*IMAGES, more=VIEWS)
    assert viewed.report.weights_sha256 == plain.report.weights_sha256
    assert [line["loss"] for line in viewed.of("train")] == [line["loss"] for line in plain.of("train")]
    assert [line["loss"] for line in viewed.of("val")] != [line["loss"] for line in plain.of("val")]


def test_only_the_named_splits_are_seen_from_several_sides(train):
    plain, viewed = train(*IMAGES), train(*IMAGES, more=VIEWS + 'splits = ["test"]\n')
    assert [line["loss"] for line in viewed.of("val")] == [line["loss"] for line in plain.of("val")]
    assert viewed.of("test")[-1]["loss"] != plain.of("test")[-1]["loss"]


def test_averages_of_weights_are_seen_from_several_sides(train):
    """Its place in the recipe does not matter: one exchanges the weights, the other what is done with them."""
    ema = '[[callback]]\nuse = "ema"\ndecay = 0.9\n'
    one, other = train(*IMAGES, more=ema + VIEWS), train(*IMAGES, more=VIEWS + ema)
    assert one.report.metrics == other.report.metrics
    assert one.report.metrics != train(*IMAGES, more=ema).report.metrics


def test_an_evaluation_that_fails_leaves_the_forward_pass_as_it_was(train):
    class Failing:
        stateless = True

        @hookimpl(trylast=True)
        def trainkit_run_start(self, run: Run) -> None:
            self.run, self.forward = run, run.forward

        @hookimpl(tryfirst=True)
        def trainkit_evaluate(self, run: Run, split: str) -> dict[str, float]:
            assert run.forward is not self.forward
            raise ArithmeticError(split)

    failing = Failing()
    with pytest.raises(Exception, match="val"):
        train(*IMAGES, more=VIEWS, listeners=[failing])
    assert failing.run.forward is failing.forward


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ([], "", r"test_time_augmentation needs images \(channels, height, width\), the data has \(6,\): leave it out"),
        (IMAGES, "shift = 5\n", r"needs images larger than its shift of 5, the data has \(3, 6, 5\): shift less"),
        (IMAGES, "shift = 0\nflip = false\n", "flip = false and shift = 0 leave one view"),
    ],
)
def test_what_cannot_be_seen_so_is_a_problem_of_the_recipe(train, changes, settings, message):
    with pytest.raises(RecipeError, match=message):
        train(*changes, more=VIEWS + settings)
