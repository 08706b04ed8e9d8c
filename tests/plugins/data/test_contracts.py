"""Data that is read from files of the user's own keeps the contracts of data, with files of ours."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from trainkit import Component
from trainkit.testing import DataContract
from trainkit_data.files import arrays, csv, image_folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, arrays and a folder of images, each of 60 samples."""
    folder = tmp_path_factory.mktemp("files")
    drawn = numpy.random.default_rng(0)
    rows = ["height,colour,patient,label"]
    for number in range(60):
        height = "" if number == 7 else f"{drawn.normal():.6f}"
        rows.append(f"{height},{('red', 'green')[number % 2]},{number // 3},{('yes', 'no')[number % 3 == 0]}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    pixels = drawn.integers(0, 256, (60, 1, 6, 6), dtype=numpy.uint8)
    numpy.savez(folder / "arrays.npz", inputs=pixels, targets=numpy.arange(60) % 3)
    return folder


@pytest.fixture
def images(files: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    if (files / "images").is_dir():
        return
    drawn = numpy.random.default_rng(1)
    for number in range(60):
        place = files / "images" / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = drawn.integers(0, 256, (5, 5, 3), dtype=numpy.uint8)
        pillow.fromarray(pixels).save(place / f"{number}.png")


class OfFiles(DataContract):
    """Lets data find its files, and keep what it decodes beside them."""

    @pytest.fixture(autouse=True)
    def root(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRAINKIT_DATA", str(files))
        monkeypatch.setenv("TRAINKIT_CACHE", str(files / "cache"))


class TestCsv(OfFiles):
    component = Component(
        "data", csv, example={"path": "table.csv", "target": "label", "missing": "mean", "group": "patient"}
    )


class TestArrays(OfFiles):
    component = Component("data", arrays, example={"path": "arrays.npz"})


@pytest.mark.usefixtures("images")
class TestImages(OfFiles):
    component = Component("data", image_folder, example={"path": "images", "size": 4})
