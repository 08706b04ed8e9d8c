"""NumPy files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainkit import DataError, Dataset
from trainkit.feed import make_feed
from trainkit_data.files import arrays

INPUTS = np.arange(120.0).reshape(40, 3)
CLASSES = np.arange(40) % 4


def load(folder: Path, settings: dict[str, Any] | None = None, **held: Any) -> Dataset:
    np.savez(folder / "data.npz", **held)
    return arrays(folder, path=Path("data.npz"), **(settings or {}))


def test_classification(tmp_path: Path) -> None:
    data = load(tmp_path, inputs=INPUTS, targets=CLASSES)
    assert (data.spec.task, data.spec.outputs, data.spec.input_shape) == ("classification", 4, (3,))
    assert data.spec.classes == ("0", "1", "2", "3")
    make_feed(data, batch_size=8, seed=0, device="cpu")


def test_names_and_binary(tmp_path: Path) -> None:
    named = load(tmp_path, {"classes": tuple("abcd")}, inputs=INPUTS, targets=CLASSES)
    assert named.spec.classes == tuple("abcd")
    binary = load(tmp_path, {"task": "binary"}, inputs=INPUTS, targets=CLASSES > 1)
    assert (binary.spec.outputs, binary.splits["train"].targets.dtype) == (1, torch.float32)


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_regression(tmp_path: Path, outputs: tuple[int, ...]) -> None:
    targets = np.linspace(0, 5, 40 * max(1, *outputs, 1)).reshape(40, *outputs)
    data = load(tmp_path, inputs=INPUTS, targets=targets)
    assert (data.spec.task, data.spec.outputs) == ("regression", max((1, *outputs)))
    assert len(data.spec.target_mean) == data.spec.outputs
    assert data.splits["train"].targets.shape[1:] == outputs


def test_bytes_of_four_dimensions_are_images(tmp_path: Path) -> None:
    pixels = np.arange(40 * 3 * 4 * 4, dtype=np.uint8).reshape(40, 3, 4, 4)
    data = load(tmp_path, inputs=pixels, targets=CLASSES)
    assert data.prepare is not None
    train = data.splits["train"].inputs[torch.arange(26)]
    assert train.dtype == torch.uint8
    assert data.prepare(train).mean().abs() < 1e-5


def test_splits_of_the_file_are_kept(tmp_path: Path) -> None:
    held = {"train_inputs": INPUTS, "train_targets": CLASSES, "test_inputs": INPUTS[:7], "test_targets": CLASSES[:7]}
    data = load(tmp_path, {"standardise": False}, **held)
    assert data.spec.sizes == {"train": 40, "test": 7}
    assert torch.equal(data.splits["test"].inputs[torch.arange(7)], torch.from_numpy(INPUTS[:7]).float())


def test_two_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", INPUTS)
    np.save(tmp_path / "y.npy", CLASSES)
    data = arrays(tmp_path, path=Path("x.npy"), targets=Path("y.npy"))
    assert data.spec.fingerprint == load(tmp_path, inputs=INPUTS, targets=CLASSES).spec.fingerprint


@pytest.mark.parametrize(
    ("held", "settings", "message"),
    [
        ({"inputs": INPUTS}, {}, "needs arrays 'inputs' and 'targets', .*; it holds: inputs"),
        ({"inputs": INPUTS, "targets": CLASSES[:9]}, {}, "40 inputs, but 9 targets"),
        ({"train_inputs": INPUTS}, {}, "has train_inputs but no train_targets"),
        ({"inputs": np.where(INPUTS == 9, np.nan, INPUTS), "targets": CLASSES}, {}, r"inputs: row 3 \(from 0\)"),
        ({"inputs": INPUTS, "targets": np.where(CLASSES == 2, np.inf, 0.5)}, {}, r"targets: row 2 .* 10 rows in all"),
        ({"inputs": INPUTS, "targets": CLASSES - 1}, {}, "targets go from -1 to 2"),
        ({"inputs": INPUTS, "targets": CLASSES}, {"classes": ("a", "b")}, "go from 0 to 3; they must be from 0 to 1"),
        ({"inputs": INPUTS, "targets": CLASSES + 0.5}, {"task": "classification"}, "are whole numbers"),
        ({"inputs": np.array(["a", "b"]), "targets": CLASSES[:2]}, {}, "use arrays of numbers"),
        ({"inputs": INPUTS[:0], "targets": CLASSES[:0]}, {}, "holds no samples"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, held: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, settings, **held)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(DataError, match="cannot be read as NumPy arrays"):
        load(tmp_path, inputs=np.array([Evil()], dtype=object), targets=np.zeros(1))
    assert not (tmp_path / "ran").exists()


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none\.npz"):
        arrays(tmp_path, path=Path("none.npz"))
    load(tmp_path, inputs=INPUTS, targets=CLASSES)
    path = tmp_path / "data.npz"
    for content in (path.read_bytes()[:200], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as NumPy arrays"):
            arrays(tmp_path, path=Path("data.npz"))
