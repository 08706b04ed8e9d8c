"""Whole runs of sequences: they go on bit for bit, fold forward in time, and say what they forecast."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from trainkit import RecipeError, Run, hookimpl, write_picture
from trainkit.finished import predict_run
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_sequences.drawing import FORECAST, panel

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins(without=["reports"])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Stop:
    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        if run.step == 7:
            run.stop_reason, run.interrupted = "signal SIGTERM", True


@pytest.mark.parametrize("name", ["forecast_airline", "sequences_lstm"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(plugins, tmp_path: Path, name: str) -> None:
    changes = ["run.duration=3ep", "run.save_every=2ba", "schedule.warmup=2ba"]
    changes += ["data.samples=12", "data.batch_size=8"] * name.startswith("sequences")
    recipe = load_recipe(RECIPES / f"{name}.toml", changes, plugins)
    whole = launch(recipe, plugins, folder=tmp_path / "whole")
    cut = launch(recipe, plugins, folder=tmp_path / "cut", listeners=[Stop()])
    on = launch(recipe, plugins, folder=tmp_path / "cut", resume=True)
    assert (cut.status, cut.steps) == ("interrupted", 7)
    assert (on.status, on.steps) == ("finished", whole.steps)
    assert on.weights_sha256 == whole.weights_sha256
    assert on.metrics == whole.metrics


def test_a_forecast_is_better_than_a_year_before_and_predicts_passengers(plugins, tmp_path: Path, monkeypatch) -> None:
    recipe = load_recipe(RECIPES / "forecast_airline.toml", ["run.duration=12ep"], plugins)
    drawn: list[Path] = []
    monkeypatch.setattr("trainkit_sequences.drawing.write_picture", lambda *given: drawn.append(write_picture(*given)))
    report = launch(recipe, plugins, folder=tmp_path / "run")
    assert len(drawn) < 6, "short epochs are not all drawn"
    assert report.metrics["test.mase"] < 0.9, "the seasonal naive forecast comes to 1.76 there"
    found = predict_run(tmp_path / "run", "test", Plugins(without=["reports"]))
    assert found["truth"][-1].tolist() == pytest.approx([417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432])
    error = (found["predicted"] - found["truth"]).abs().mean()
    assert float(error) == pytest.approx(report.metrics["test.mae"], rel=1e-4)
    assert (tmp_path / "run" / "pictures" / "forecasts.png").stat().st_size > 1000


def test_a_picture_shows_the_forecast_where_it_is_and_nothing_of_what_is_not_finite() -> None:
    past, came = numpy.zeros(10), numpy.linspace(0.0, 1.0, 5)
    shown = (panel(past, came, came[::-1].copy()) == FORECAST).all(2)
    across = shown.nonzero()[1]
    assert across.min() > 180, "the forecast begins at the last step that was seen"
    assert not (panel(past, came, numpy.full(5, numpy.nan)) == FORECAST).all(2).any()
    assert panel(past, numpy.zeros(5), numpy.zeros(5)).shape == (140, 320, 3)


def test_a_variance_does_not_continue_the_past(plugins) -> None:
    changes = ["loss=gaussian_nll"]
    with pytest.raises(RecipeError, match="half of those of gaussian_nll are variances"):
        load_recipe(RECIPES / "forecast_airline.toml", changes, plugins)
    load_recipe(RECIPES / "forecast_airline.toml", [*changes, "model.continues=0"], plugins)
