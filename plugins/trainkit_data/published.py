"""Published image sets, downloaded once and checked against their published checksums. Importing this is cheap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit import DataError, Dataset, Fraction, NonNegativeInt

if TYPE_CHECKING:
    from torch import Tensor

    from trainkit import Progress
    from trainkit_data.cache import Room
    from trainkit_data.download import Archive

_CIFAR_TRAIN, _CIFAR_TEST = 50_000, 10_000
_MNIST_TRAIN, _MNIST_TEST = 60_000, 10_000
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def cifar10(
    cache_root: Path,
    progress: Progress,
    /,
    *,
    val: Fraction = 0.1,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images of 3x32x32 pixels, ten classes.

    Downloads 170 MB at the first use, from the authors' page.

    Args:
        val: share of the training images for validation; the test images are the published ones.
        split_seed: which images these are is a function of this number, not of the recipe's seed.
        standardise: give each channel mean 0 and standard deviation 1, fitted on the training split; else pixels go
            from 0 to 1.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    from trainkit_data.download import Archive

    archive = Archive(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        "c32a1d4ab5d03f1284b67883e8d87530",
    )
    files = [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)]
    return _cifar(
        "cifar10", archive, [*files, "cifar-10-batches-bin/test_batch.bin"], "cifar-10-batches-bin/batches.meta.txt", 1
    )(cache_root, progress, val, split_seed, standardise)


def cifar100(
    cache_root: Path,
    progress: Progress,
    /,
    *,
    val: Fraction = 0.1,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
) -> Dataset:
    """CIFAR-100: 50,000 training and 10,000 test images of 3x32x32 pixels, a hundred (fine) classes.

    Downloads 169 MB at the first use, from the authors' page.

    Args:
        val: share of the training images for validation; the test images are the published ones.
        split_seed: which images these are is a function of this number, not of the recipe's seed.
        standardise: give each channel mean 0 and standard deviation 1, fitted on the training split; else pixels go
            from 0 to 1.

    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".
    """
    from trainkit_data.download import Archive

    archive = Archive(
        "cifar-100-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        "03b5dce01913d631647c71ecec9e9cb8",
    )
    return _cifar(
        "cifar100",
        archive,
        ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"],
        "cifar-100-binary/fine_label_names.txt",
        2,
    )(cache_root, progress, val, split_seed, standardise)


def mnist(
    cache_root: Path,
    progress: Progress,
    /,
    *,
    val: Fraction = 0.1,
    split_seed: NonNegativeInt = 0,
    standardise: bool = False,
) -> Dataset:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 1x28x28 pixels from 0 to 1.

    Downloads 12 MB at the first use.

    Args:
        val: share of the training images for validation; the test images are the published ones.
        split_seed: which images these are is a function of this number, not of the recipe's seed.
        standardise: give the pixels mean 0 and standard deviation 1, fitted on the training split.

    Source: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition".
    """
    hosts = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    sums = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
    classes = tuple(str(digit) for digit in range(10))
    return _mnist("mnist", hosts, sums, classes, cache_root, progress, val, split_seed, standardise)


def fashion_mnist(
    cache_root: Path,
    progress: Progress,
    /,
    *,
    val: Fraction = 0.1,
    split_seed: NonNegativeInt = 0,
    standardise: bool = False,
) -> Dataset:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothing, 1x28x28 pixels from 0 to 1.

    Downloads 31 MB at the first use.

    Args:
        val: share of the training images for validation; the test images are the published ones.
        split_seed: which images these are is a function of this number, not of the recipe's seed.
        standardise: give the pixels mean 0 and standard deviation 1, fitted on the training split.

    Source: Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747.
    """
    hosts = (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    )
    sums = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
    return _mnist("fashion_mnist", hosts, sums, _FASHION, cache_root, progress, val, split_seed, standardise)


def _cifar(
    name: str, archive: Archive, files: list[str], names: str, labels: int
) -> Callable[[Path, Progress, float, int, bool], Dataset]:
    def load(cache_root: Path, progress: Progress, val: float, split_seed: int, standardise: bool) -> Dataset:
        import torch

        from trainkit_data.archives import read_cifar, read_members
        from trainkit_data.cache import decoded
        from trainkit_data.download import fetch

        def make(room: Room) -> tuple[Tensor, dict[str, Any]]:
            path = fetch(archive, cache_root / "downloads", progress)
            limits = {**dict.fromkeys(files, 1 << 28), names: 1 << 20}
            contents = read_members(path, limits)
            parts = [read_cifar(contents[file], f"{path}: {file}", labels) for file in files]
            if sum(len(targets) for _, targets in parts) != room.shape[0]:
                raise DataError(f"{path} does not hold {room.shape[0]:,} images; delete it and run again")
            torch.cat([images for images, _ in parts], out=room.tensor())
            words = contents[names].decode("utf-8", "replace").split()
            return torch.cat([targets for _, targets in parts]), {"classes": words}

        shape = (_CIFAR_TRAIN + _CIFAR_TEST, 3, 32, 32)
        kept = decoded(cache_root, name, [archive.name, archive.md5], shape, make)
        return _fixed(kept, _CIFAR_TRAIN, val, split_seed, standardise)

    return load


def _mnist(
    name: str,
    hosts: tuple[str, ...],
    sums: tuple[str, ...],
    classes: tuple[str, ...],
    cache_root: Path,
    progress: Progress,
    val: float,
    split_seed: int,
    standardise: bool,
) -> Dataset:
    import torch

    from trainkit_data.archives import read_idx
    from trainkit_data.cache import decoded
    from trainkit_data.download import Archive, fetch

    files = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]

    def make(room: Room) -> tuple[Tensor, dict[str, Any]]:
        paths = [
            # One folder a set: the files of both sets have the same names.
            fetch(Archive(file, [host + file for host in hosts], md5), cache_root / "downloads" / name, progress)
            for file, md5 in zip(files, sums, strict=True)
        ]
        pixels = room.tensor()
        pixels[:_MNIST_TRAIN, 0] = read_idx(paths[0], (_MNIST_TRAIN, 28, 28))
        pixels[_MNIST_TRAIN:, 0] = read_idx(paths[2], (_MNIST_TEST, 28, 28))
        targets = torch.cat((read_idx(paths[1], (_MNIST_TRAIN,)), read_idx(paths[3], (_MNIST_TEST,))))
        return targets.long(), {"classes": classes}

    kept = decoded(cache_root, name, sums, (_MNIST_TRAIN + _MNIST_TEST, 1, 28, 28), make)
    return _fixed(kept, _MNIST_TRAIN, val, split_seed, standardise)


def _fixed(kept: Any, train: int, val: float, split_seed: int, standardise: bool) -> Dataset:
    import torch

    from trainkit_data.pixels import hold_out, images

    numbers = torch.arange(len(kept.targets))
    parts = hold_out(kept.targets, {"train": numbers[:train], "test": numbers[train:]}, val, split_seed)
    return images(
        kept.pixels,
        kept.targets,
        parts,
        classes=kept.notes["classes"],
        standardise=standardise,
        known=kept.sha256,
    )
