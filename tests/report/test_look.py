"""What a model makes of a split, beside the same computed from all its outputs at once."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from trainkit.dataset import Batch, DataSpec
from trainkit.finished import evaluate_run, open_run, predict_run
from trainkit.manager import Plugins
from trainkit.report import look as module
from trainkit.report.look import BINS, Look, first_layer, look_at
from trainkit.report.samples import MOST, Samples, as_pixels
from trainkit.scoring import scores


@pytest.fixture(scope="module")
def looked(pictures: Path, plugins: Plugins) -> Look:
    return look_at(open_run(pictures, plugins), "val")


@pytest.fixture(scope="module")
def outputs(pictures: Path, plugins: Plugins) -> Any:
    return predict_run(pictures, "val", plugins)


def test_confusion_counts_every_sample_once(looked: Look, outputs: Any) -> None:
    expected = numpy.zeros((3, 3), dtype=int)
    for true, taken in zip(outputs["targets"].tolist(), outputs["predicted"].tolist(), strict=True):
        expected[true, taken] += 1
    assert (looked.confusion == expected).all()
    assert looked.samples == expected.sum() == 32
    assert 0 < expected.trace() < 32  # the run is to have made mistakes


def test_figures_are_those_of_evaluations_with_the_averaged_weights(
    looked: Look, outputs: Any, pictures: Path, plugins: Plugins
) -> None:
    run = open_run(pictures, plugins)
    assert looked.figures == pytest.approx(scores(outputs["outputs"], outputs["targets"], run.feed.spec), abs=1e-12)
    assert looked.figures["accuracy"] == evaluate_run(pictures, "val", plugins)["accuracy"]
    assert looked.parameters == sum(parameter.numel() for parameter in run.model.parameters())


def test_bins_hold_how_sure_and_how_right(looked: Look, outputs: Any) -> None:
    confidence, likeliest = outputs["outputs"].double().softmax(1).max(1)
    right = likeliest == outputs["targets"]
    for one in looked.bins:
        inside = (confidence > one.low) & (confidence <= one.high)
        assert one.samples == int(inside.sum()) > 0
        assert one.confidence == pytest.approx(float(confidence[inside].mean()), abs=1e-12)
        assert one.accuracy == pytest.approx(float(right[inside].double().mean()), abs=1e-12)
    assert sum(one.samples for one in looked.bins) == 32
    error = sum(one.samples * abs(one.confidence - one.accuracy) for one in looked.bins) / 32
    assert error == pytest.approx(looked.figures["ece"], abs=1e-12)


def test_the_worst_and_the_surest_mistakes_are_shown_as_they_are(
    looked: Look, outputs: Any, pictures: Path, plugins: Plugins
) -> None:
    logarithms = outputs["outputs"].double().log_softmax(1)
    loss = -logarithms.gather(1, outputs["targets"][:, None])[:, 0]
    worst = outputs["index"][loss.argsort(descending=True)][:MOST].tolist()
    assert [sample.index for sample in looked.worst] == worst
    wrong = outputs["predicted"] != outputs["targets"]
    order = logarithms.max(1).values.masked_fill(~wrong, -torch.inf).argsort(descending=True)
    assert [sample.index for sample in looked.sure] == outputs["index"][order][: min(MOST, int(wrong.sum()))].tolist()
    for sample in looked.sure:
        assert sample.told["truth"] != sample.told["taken"]
        assert sample.told["confidence"] == pytest.approx(float(logarithms[sample.index].exp().max()), abs=1e-12)
    inputs = torch.cat([batch.inputs for batch in open_run(pictures, plugins).feed.evaluate("val")])
    shown = inputs[[sample.index for sample in looked.sure]]
    for sample, picture in zip(looked.sure, shown, strict=True):
        assert sample.pixels.shape == (6, 6)
        expected = (picture[0] - shown.min()) / (shown.max() - shown.min()) * 255
        assert numpy.abs(sample.pixels - expected.numpy()).max() <= 0.51


def test_numbers_are_in_the_units_of_the_data(numbers: Path, plugins: Plugins) -> None:
    looked, outputs = look_at(open_run(numbers, plugins), "test"), predict_run(numbers, "test", plugins)
    assert looked.truth.shape == looked.predicted.shape == (24, 2)
    error = looked.predicted - looked.truth
    assert (error**2).mean() == pytest.approx(looked.figures["mse"], rel=1e-6)
    assert looked.figures["mse"] ** 0.5 == pytest.approx(evaluate_run(numbers, "test", plugins)["rmse"], rel=1e-5)
    apart = (outputs["outputs"] - outputs["targets"]).abs().amax(1)
    assert [s.index for s in looked.worst] == outputs["index"][apart.argsort(descending=True)][:MOST].tolist()


def test_the_weights_of_the_run_stay_its_own(pictures: Path, plugins: Plugins) -> None:
    run = open_run(pictures, plugins)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    training, random = run.model.training, torch.get_rng_state()
    look_at(run, "train")
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert run.model.training == training
    assert torch.equal(torch.get_rng_state(), random)


def spec_of(shape: tuple[int, ...], **more: Any) -> DataSpec:
    return DataSpec(shape, "classification", 3, **more)


def test_first_weights_have_the_form_of_what_they_look_at() -> None:
    images = spec_of((3, 8, 8))
    conv = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 100, 5), nn.Conv2d(100, 4, 3))
    layer = first_layer(conv, images)
    assert layer is not None
    assert (layer.name, layer.shape, layer.pictures.shape) == ("1.weight", (100, 3, 5, 5), (64, 5, 5, 3))
    assert layer.pictures.dtype == numpy.uint8
    own = conv[1].weight[7].detach()
    expected = (own / own.abs().max()).permute(1, 2, 0) * 127 + 128
    assert numpy.abs(layer.pictures[7] - expected.numpy()).max() <= 0.51
    dense = first_layer(nn.Linear(192, 5), images)
    assert dense is not None
    assert dense.pictures.shape == (5, 8, 8, 3)
    table = first_layer(nn.Linear(9, 5), spec_of((9,)))
    assert table is not None
    assert table.pictures is None
    assert (table.matrix == table.matrix.astype(numpy.float32)).all()
    assert table.matrix.shape == (5, 9)


def test_first_weights_that_stand_for_no_inputs_are_not_shown() -> None:
    assert first_layer(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)), spec_of((9,))) is None
    assert first_layer(nn.Flatten(), spec_of((9,))) is None
    assert first_layer(nn.Linear(100_000, 3), spec_of((100_000,))) is None
    zero = nn.Linear(16, 2)
    nn.init.zeros_(zero.weight)
    layer = first_layer(zero, spec_of((1, 4, 4)))
    assert layer is not None
    assert (layer.pictures == 128).all()


@pytest.mark.parametrize(
    ("values", "std", "pixels"),
    [
        ([0.0, 0.5, 1.0], (), [0, 128, 255]),  # already from 0 to 1
        ([-1.0, 0.0, 1.0], (0.5,), [0, 128, 255]),  # standardised, put back
        ([0.0, 0.5, 1.0], (255.0,), [0, 128, 255]),  # bytes
        ([0.0, 4.0, 16.0], (), [0, 64, 255]),  # sixteen levels
        ([-3.0, -3.0, -3.0], (), [0, 0, 0]),
    ],
)
def test_pixels_can_be_seen(values: list[float], std: tuple[float, ...], pixels: list[int]) -> None:
    spec = spec_of((1, 1, 3), input_std=std, input_mean=(0.5,) if std == (0.5,) else ())
    assert as_pixels([torch.tensor(values).reshape(1, 1, 3)], spec)[0].tolist() == [pixels]


def test_large_pictures_become_small_ones() -> None:
    made = as_pixels([torch.rand(3, 224, 130)], spec_of((3, 224, 130)))
    assert made[0].shape == (56, 44, 3)


def test_few_samples_are_kept_whatever_comes() -> None:
    kept = Samples(spec_of((2,)))
    torch.manual_seed(1)
    numbers = torch.randn(200)
    numbers[[3, 50]] = torch.tensor([float("nan"), -float("inf")])
    for first in range(0, 200, 7):
        index = torch.arange(first, min(first + 7, 200))
        kept.add(Batch(torch.zeros(len(index), 2), index, index), numbers[index], {"n": numbers[index]})
    best = numbers.nan_to_num(-99.0).argsort(descending=True)[:MOST]
    assert [sample.index for sample in kept.taken()] == best.tolist()
    assert all(sample.pixels is None for sample in kept.taken())


def test_outputs_of_another_form_are_said_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def showing(outputs: torch.Tensor, targets: torch.Tensor, batches: int = 1) -> Look:
        batch = Batch(torch.zeros(len(targets), 4), targets, torch.arange(len(targets)))

        def measure(run: Any, split: str, keep: Any) -> dict[str, float]:
            for _ in range(batches):
                keep(batch, outputs)
            return {}

        monkeypatch.setattr(module, "measure", measure)
        spec = DataSpec((4,), "classification", 3)
        hook = types.SimpleNamespace(call_extra=lambda extra, given: extra[0](**given))
        run: Any = types.SimpleNamespace(
            feed=types.SimpleNamespace(spec=spec),
            events=[(3, "plateau:0")],
            model=nn.Linear(4, 3),
            loss=None,
            decided=None,
            hook=types.SimpleNamespace(trainkit_evaluate=hook),
        )
        return look_at(run, "val")

    sequence = showing(torch.randn(4, 3, 5), torch.zeros(4, dtype=torch.long))
    assert "(4, 3, 5)" in sequence.notes[0]
    assert sequence.confusion is None
    assert sequence.layer is not None
    broken = showing(torch.full((4, 3), float("nan")), torch.zeros(4, dtype=torch.long))
    assert broken.notes == ["4 samples have outputs that are not finite: they count as wrong"]
    assert broken.figures["accuracy"] == broken.confusion.sum() == 0
    assert broken.bins == broken.worst == []
    nothing = showing(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), batches=0)
    assert "shows no outputs" in nothing.notes[0]
    assert nothing.events == [(3, "plateau:0")]
    whole = showing(torch.randn(4, 3), torch.arange(4) % 3, batches=5)
    assert whole.samples == 20
    assert len(whole.bins) <= BINS
