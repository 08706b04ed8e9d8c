"""Image folders and their cache."""

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from trainkit import DataError, Dataset, MachineError
from trainkit.feed import make_feed
from trainkit_data import cache, helpers
from trainkit_data.files import image_folder

Image = pytest.importorskip("PIL.Image")
np = pytest.importorskip("numpy")
PHOTOGRAPHS = Path(os.environ.get("TRAINKIT_DATA") or ".") / "cifar10-jpeg.tar.gz"


def paint(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value // 2, 255 - value)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for number in range(10):
            paint(tmp_path / "images" / name / f"{number}.png", 100 * label + number)
    return tmp_path / "images"


def load(tree: Path, **settings: Any) -> tuple[Dataset, list[tuple[int, int, str]]]:
    seen: list[tuple[int, int, str]] = []
    root = tree.parent
    data = image_folder(root, root / "cache", lambda *given: seen.append(given), path=Path(tree.name), **settings)
    return data, seen


def test_images_targets_and_splits(tree: Path) -> None:
    data, seen = load(tree, val=0.2, test=0.2, standardise=False)
    assert data.spec.sizes == {"train": 12, "val": 4, "test": 4}
    assert data.spec.input_shape == (3, 5, 6)
    assert data.spec.classes == ("cat", "dog")
    assert seen[-1] == (20, 20, "decoding images")
    for split in data.splits.values():
        pixels = split.inputs[torch.arange(len(split))]
        assert torch.equal(pixels[:, 0, 0, 0] // 100, split.targets.to(torch.uint8))
        assert torch.equal(pixels[:, 2], 255 - pixels[:, 0])


def test_given_splits_are_kept(tmp_path: Path) -> None:
    tree = tmp_path / "images"
    for part, count in (("train", 6), ("valid", 2), ("test", 3)):
        for name in ("a", "b"):
            for number in range(count):
                paint(tree / part / name / f"{number}.png", number * 20)
    assert load(tree, val=0.5)[0].spec.sizes == {"train": 12, "val": 4, "test": 6}


def test_second_load_decodes_nothing(tree: Path) -> None:
    first, _ = load(tree)
    again, seen = load(tree)
    assert seen == []
    assert again.spec == first.spec


def test_changed_file_and_changed_settings_decode_anew(tree: Path) -> None:
    first, _ = load(tree)
    paint(tree / "cat" / "3.png", 77)
    os.utime(tree / "cat" / "3.png", ns=(1, 1))
    changed, seen = load(tree)
    assert seen
    assert changed.spec.fingerprint != first.spec.fingerprint
    assert load(tree, channels=1)[1]
    paint(tree / "dog" / "new.png", 8)
    assert load(tree)[0].spec.sizes["train"] == 15


def test_broken_cache_is_made_anew(tree: Path) -> None:
    first, _ = load(tree)
    for pixels in (tree.parent / "cache").rglob("pixels.bin"):
        pixels.write_bytes(b"short")
    again, seen = load(tree)
    assert seen
    assert again.spec == first.spec


def test_failed_decoding_leaves_no_cache(tree: Path) -> None:
    (tree / "dog" / "5.png").write_bytes((tree / "dog" / "5.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"dog.5\.png cannot be read as an image .*; mend it or remove it"):
        load(tree)
    assert [path.name for path in (tree.parent / "cache" / "decoded").iterdir() if path.is_dir()] == []
    paint(tree / "dog" / "5.png", 105)
    load(tree)


def test_first_odd_size_is_named(tree: Path) -> None:
    paint(tree / "dog" / "4.png", 3, size=(9, 8))
    with pytest.raises(DataError, match=r"dog.4\.png has 9x8 pixels, .*cat.0\.png has 6x5; set size = 5"):
        load(tree)
    assert load(tree, size=4)[0].spec.input_shape == (3, 4, 4)


def test_resizing_cuts_the_middle_square(tmp_path: Path) -> None:
    tree = tmp_path / "images"
    for name in ("a", "b"):
        for number in range(4):
            (tree / name).mkdir(parents=True, exist_ok=True)
            wide = np.zeros((8, 24), np.uint8)
            wide[:, 8:16] = 200
            Image.fromarray(wide).save(tree / name / f"{number}.png")
    data, _ = load(tree, size=4, channels=1, val=0.0, test=0.0)
    assert data.splits["train"].inputs[torch.arange(8)].unique().tolist() == [200]


def test_grey_and_colour_files_mix(tree: Path) -> None:
    paint(tree / "cat" / "0.png", 50, mode="L")
    assert load(tree)[0].spec.input_shape == (3, 5, 6)
    assert load(tree, channels=1)[0].spec.input_shape == (1, 5, 6)


def test_standardised_channels(tree: Path) -> None:
    data, _ = load(tree, val=0.2, test=0.2)
    feed = make_feed(data, batch_size=4, seed=0, device="cpu")
    train = torch.cat([batch.inputs for batch in feed.train(0)])
    assert train.mean((0, 2, 3)).abs().max() < 1e-5
    assert (train.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("workers", [0, 1])
def test_streaming_from_the_cache_gives_the_same(tree: Path, workers: int) -> None:
    data, _ = load(tree)
    resident = make_feed(data, batch_size=4, seed=0, device="cpu")
    streamed = make_feed(data, batch_size=4, seed=0, device="cpu", loading="streamed", workers=workers)
    for one, other in zip(resident.train(0), streamed.train(0), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tree: None, "is no folder; path must name a folder"),
        (lambda tree: tree.mkdir(), "two or more classes; it has none"),
        (lambda tree: paint(tree / "cat" / "0.png", 1), "two or more classes; it has only 'cat'"),
        (lambda tree: [(tree / name).mkdir(parents=True) for name in "ab"], "a holds no images"),
        (lambda tree: (tree / "test").mkdir(parents=True), "a folder 'test' but no folder 'train'"),
    ],
)
def test_what_is_no_image_folder(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "images")
    with pytest.raises(DataError, match=message):
        load(tmp_path / "images")


def test_class_of_the_test_alone_is_named(tmp_path: Path) -> None:
    for place in ("train/a", "train/b", "test/c"):
        paint(tmp_path / "images" / place / "0.png", 1)
    with pytest.raises(DataError, match=r"test.c is a class that has no training images"):
        load(tmp_path / "images")


def test_cache_that_cannot_be_written(tree: Path) -> None:
    (tree.parent / "cache").write_text("in the way")
    with pytest.raises(MachineError, match=r"cannot write the cache .* set TRAINKIT_CACHE"):
        load(tree)


def test_abandoned_work_is_cleared_away(tree: Path) -> None:
    old, new = (tree.parent / "cache" / "decoded" / f".unfinished-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    load(tree)
    assert not old.exists()
    assert new.exists()
    assert cache._ABANDONED_S > 3600


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [20, 100])
def test_pixels_of_small_and_large_images_lie_in_planes(tmp_path: Path, side: int, channels: int) -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (4, side, side + 3, channels), dtype=np.uint8)
    for number, image in enumerate(pixels):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image if channels == 3 else image[:, :, 0]).save(path)
    data, _ = load(tmp_path / "images", channels=channels, val=0.0, test=0.0)
    found = data.splits["train"].inputs[torch.arange(4)]
    assert np.array_equal(found.numpy(), pixels[[0, 2, 1, 3]].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("side", [8, 70])
def test_images_decoded_by_helpers_are_those_of_a_plain_loop(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = np.random.default_rng(0)
    for number in range(130):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    expected = [
        np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
        for path in sorted((tmp_path / "images").rglob("*.jpg"))
    ]
    fingerprints = set()
    for processors in (3, 1):
        monkeypatch.setattr(helpers, "_processors", lambda count=processors: count)
        data, seen = load(tmp_path / "images", val=0.0, test=0.0, standardise=False)
        found = data.splits["train"].inputs[torch.arange(130)]
        assert np.array_equal(found.numpy(), np.stack(expected))
        assert seen[-1] == (130, 130, "decoding images")
        fingerprints.add(data.spec.fingerprint)
        shutil.rmtree(tmp_path / "cache")
    assert len(fingerprints) == 1
    (tmp_path / "images" / "b" / "121.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b.121\.jpg cannot be read as an image \(of no known kind\)"):
        load(tmp_path / "images")


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="no cifar10-jpeg.tar.gz in TRAINKIT_DATA")
def test_real_photographs(tmp_path: Path) -> None:
    count = 0
    with tarfile.open(PHOTOGRAPHS) as packed:
        for member in packed:
            if member.isfile() and member.name.endswith(("/000.jpg", "/0000.jpg", "/0001.jpg", "/0002.jpg")):
                path = tmp_path / "images" / member.name.split("/", 1)[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(member)
                assert content is not None
                path.write_bytes(content.read())
                count += 1
    assert count >= 40
    data, _ = load(tmp_path / "images", val=0.0, standardise=False)
    assert data.spec.input_shape == (3, 32, 32)
    assert len(data.spec.classes) == 10
    assert sum(data.spec.sizes.values()) == count
    first = data.splits["test"].inputs[torch.tensor([0])]
    path = tmp_path / "images" / "test" / "airplane" / "0000.jpg"
    expected = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")).transpose(2, 0, 1)
    assert torch.equal(first[0], torch.from_numpy(expected.copy()))
