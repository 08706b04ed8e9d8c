"""lbfgs through whole recipes: the least-squares optimum of a linear regression, which has a closed form."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from tests.plugins.conftest import Catch
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPE = """\
recipe = 1
seed = 2
logger = []
[run]
duration = "{updates}ba"
device = "cpu"
threads = 1
accumulate = {accumulate}
[data]
use = "arrays"
path = "points.npz"
standardise_targets = false
standardise = false
val = 0.0
test = 0.0
batch_size = {batch}
[model]
use = "linear"
[loss]
use = "mse"
[optimizer]
use = "lbfgs"
"""


@pytest.mark.parametrize(("batch", "accumulate"), [(120, 1), (40, 3), (50, 3)])
def test_it_reaches_the_least_squares_optimum(tmp_path: Path, monkeypatch, batch, accumulate):
    random = numpy.random.default_rng(0)
    inputs = random.normal(size=(120, 5)).astype("float32") * [1, 2, 0.5, 3, 1]
    targets = inputs @ [1.0, -2.0, 0.5, 3.0, 0.0] + 4.0 + 0.3 * random.normal(size=120)
    numpy.savez(tmp_path / "points.npz", inputs=inputs.astype("float32"), targets=targets.astype("float32"))
    monkeypatch.setenv("TRAINKIT_DATA", str(tmp_path))
    text = RECIPE.format(updates=6, batch=batch, accumulate=accumulate)
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    threads = torch.get_num_threads()
    catch, plugins = Catch(), Plugins()
    recipe = load_recipe(tmp_path / "r.toml", ['run.monitor="train.loss"'], plugins)
    report = launch(recipe, plugins, folder=tmp_path / "run", listeners=[catch])
    torch.set_num_threads(threads)

    design = numpy.column_stack([inputs, numpy.ones(120)])
    optimum, residual, *_ = numpy.linalg.lstsq(design, targets, rcond=None)
    head = catch.run.model.head
    assert head.weight.detach().numpy().ravel() == pytest.approx(optimum[:5], abs=2e-4)
    assert head.bias.item() == pytest.approx(optimum[5], abs=2e-4)
    assert report.metrics["train.loss"] >= residual[0] / 120 - 1e-4, "the mean over losses before each update"
