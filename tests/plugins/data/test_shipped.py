"""The data sets that need no download, and the rule that listing them is cheap."""

import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch

from trainkit.feed import make_feed
from trainkit_data import shipped
from trainkit_data.shipped import breast_cancer, diabetes, digits, synthetic, wine


def test_listing_imports_no_heavy_library() -> None:
    code = (
        "import sys, trainkit_data\n"
        "for component in trainkit_data.trainkit_components():\n"
        "    component.model, component.accepts(), component.help\n"
        "print([name for name in ('torch', 'numpy', 'sklearn', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("make", "shape", "outputs", "samples"),
    [(digits, (1, 8, 8), 10, 1797), (wine, (13,), 3, 178), (breast_cancer, (30,), 2, 569), (diabetes, (10,), 1, 442)],
)
def test_shipped_sets(make: Any, shape: tuple[int, ...], outputs: int, samples: int) -> None:
    data = make()
    assert data.spec.input_shape == shape
    assert data.spec.outputs == outputs
    assert sum(data.spec.sizes.values()) == samples
    assert list(data.spec.sizes) == ["train", "val", "test"]
    assert {name: len(split) for name, split in data.splits.items()} == data.spec.sizes
    assert sum(data.spec.class_counts) in (0, data.spec.sizes["train"])
    batch = next(iter(make_feed(data, batch_size=16, seed=0, device="cpu").train(0)))
    assert batch.inputs.shape == (16, *shape)
    assert batch.inputs.dtype == torch.float32
    assert data.spec.fingerprint == make().spec.fingerprint != make(split_seed=1).spec.fingerprint


def test_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    loaded = datasets.load_digits()
    rows = shipped._digit_rows()
    assert (rows[:, :64] == loaded.data).all()
    assert (rows[:, 64] == loaded.target).all()
    # A version that keeps its file elsewhere is asked in the official way.
    monkeypatch.setattr(shipped.importlib.util, "find_spec", lambda name: None)
    assert (shipped._digit_rows() == rows).all()


def test_digits_go_from_0_to_1() -> None:
    data = digits()
    assert data.prepare is not None
    images = data.prepare(data.splits["train"].inputs[torch.arange(1000)])
    assert images.min() == 0
    assert images.max() == 1
    pickle.dumps(data.prepare)


def test_standardisation_is_fitted_on_the_training_split_alone() -> None:
    data = wine()
    train, test = data.splits["train"].inputs[torch.arange(115)], data.splits["test"].inputs[torch.arange(36)]
    assert train.mean(0).abs().max() < 1e-5
    assert (train.std(0, correction=0) - 1).abs().max() < 1e-4
    assert test.mean(0).abs().max() > 0.05


def test_regression_targets_can_be_brought_back() -> None:
    scaled, plain = diabetes(), diabetes(standardise_targets=False)
    (mean,), (std,) = scaled.spec.target_mean, scaled.spec.target_std
    assert plain.spec.target_mean == plain.spec.target_std == ()
    for name in ("train", "test"):
        torch.testing.assert_close(scaled.splits[name].targets * std + mean, plain.splits[name].targets)
    assert scaled.splits["train"].targets.mean().abs() < 1e-5


def test_binary_targets_are_floats_with_one_output() -> None:
    data = breast_cancer(task="binary")
    assert (data.spec.task, data.spec.outputs, len(data.spec.classes)) == ("binary", 1, 2)
    assert set(data.splits["train"].targets.tolist()) == {0.0, 1.0}
    make_feed(data, batch_size=16, seed=0, device="cpu")


@pytest.mark.parametrize(
    ("settings", "inputs", "outputs"),
    [
        ({"task": "classification", "features": (3, 4, 4), "classes": 5}, (3, 4, 4), 5),
        ({"task": "binary"}, (8,), 1),
        ({"task": "regression", "classes": 2}, (8,), 2),
        ({"task": "regression", "classes": 1, "val": 0.0}, (8,), 1),
    ],
)
def test_synthetic(settings: dict[str, Any], inputs: tuple[int, ...], outputs: int) -> None:
    data = synthetic(samples=60, **settings)
    assert (data.spec.input_shape, data.spec.outputs) == (inputs, outputs)
    make_feed(data, batch_size=8, seed=0, device="cpu")
    assert synthetic(samples=60, **settings).spec.fingerprint == data.spec.fingerprint
    assert synthetic(samples=60, **settings, data_seed=1).spec.fingerprint != data.spec.fingerprint
