"""There is a recipe for every optimizer, each learns what its first lines say, and L-BFGS reaches least squares."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tomli

from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
OPTIMIZERS = sorted((RECIPES / "optimizers").glob("*.toml"))
LIBRARIES = {"prodigy": "prodigyopt", "schedulefree": "schedulefree"}
# None of trainkit's models has gradients that are all sparse.
WITHOUT_RECIPE = {"sparse_adam"}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return Plugins()


def test_every_optimizer_of_trainkits_own_has_a_recipe_of_its_name(plugins):
    own = {
        component.name
        for kind in ("optimizer", "wrapper")
        for found in plugins.components(kind).values()
        for component in found
        if plugins.owner(component).package == "trainkit_optimizers"
    }
    assert own - WITHOUT_RECIPE == {file.stem for file in OPTIMIZERS} - set(LIBRARIES) - {"base"}
    for file in OPTIMIZERS:
        tables = tomli.loads(file.read_text(encoding="utf-8"))
        used = [
            tables.get("optimizer", {}).get("use"),
            *(w["use"] for w in tables.get("optimizer", {}).get("wrap", [])),
        ]
        assert file.stem in ("base", "schedulefree", *used)


@pytest.mark.parametrize("file", OPTIMIZERS, ids=lambda file: file.stem)
def test_it_learns_to_read_digits_as_well_as_it_says(plugins, tmp_path, file):
    from trainkit.launch import launch

    if file.stem in LIBRARIES:
        pytest.importorskip(LIBRARIES[file.stem])
    said = re.search(r"Test accuracy seen: (0\.\d{3})\.$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert said is not None, "the first lines say which test accuracy was seen"
    loaded = load_recipe(file, ["logger=[]"], plugins)
    report = launch(loaded, plugins, folder=tmp_path / "run")
    assert report.status == "finished"
    # Other processors round otherwise, and a run that goes another way ends like one of another seed: the accuracies of
    # seeds differ by half a percent, as a standard deviation.
    assert report.metrics["test.accuracy"] == pytest.approx(float(said[1]), abs=0.03)


def test_lbfgs_reaches_the_least_squares_of_linear_algebra(plugins, tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    import torch

    from trainkit import checkpoint, split_by_fraction
    from trainkit.launch import launch

    loaded = load_recipe(RECIPES / "lbfgs_least_squares.toml", ["logger=[]"], plugins)
    report = launch(loaded, plugins, folder=tmp_path / "run")
    raw = datasets.load_diabetes(scaled=False)
    table = loaded.tables["data"]
    shares = {"val": table["val"], "test": table["test"]}
    rows = split_by_fraction(torch.from_numpy(raw.target), shares, table["split_seed"])["train"].numpy()
    assert len(rows) == table["batch_size"], "one batch holds all samples"

    def standard(values: np.ndarray) -> np.ndarray:
        return (values[rows] - values[rows].mean(0)) / values[rows].std(0)

    inputs, targets = np.c_[standard(raw.data), np.ones(len(rows))], standard(raw.target)
    best, *_ = np.linalg.lstsq(inputs, targets, rcond=None)
    tensors = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[1]
    found = torch.cat([tensors["model/head.weight"].flatten(), tensors["model/head.bias"]]).double().numpy()

    def loss(weights: np.ndarray) -> float:
        return float(np.mean((inputs @ weights - targets) ** 2))

    # The loss was searched in float32, whose rounding is 6e-8 of a value. Near its lowest point the loss rises with the
    # square of the distance, so that weights are only known to about the root of that.
    assert loss(best) <= loss(found) <= loss(best) * (1 + 2e-7)
    np.testing.assert_allclose(found, best, atol=1e-3)
    assert report.metrics["train.loss"] == pytest.approx(loss(best), rel=1e-6)
