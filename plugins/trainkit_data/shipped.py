"""Small data sets that need no download: those inside scikit-learn, and made-up ones. Importing this is cheap."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainkit import DataError, Dataset, Fraction, NonNegative, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor


def digits(*, val: Fraction = 0.1, test: Fraction = 0.2, split_seed: NonNegativeInt = 0) -> Dataset:
    """1,797 handwritten digits: images of 1x8x8 pixels from 0 to 1, ten classes.

    Args:
        val: share of the samples for validation.
        test: share of the samples for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI; the part in scikit-learn.
    """
    import torch

    from trainkit_data.pixels import images
    from trainkit_data.tabular import split_randomly

    rows = torch.from_numpy(_digit_rows())
    targets = rows[:, 64].long()
    # Sixteen grey levels, kept as they are: one byte a pixel.
    pixels = rows[:, :64].to(torch.uint8).view(-1, 1, 8, 8)
    parts = split_randomly(targets, val, test, split_seed)
    return images(pixels, targets, parts, classes=[str(digit) for digit in range(10)], white=16.0)


def wine(
    *, val: Fraction = 0.15, test: Fraction = 0.2, split_seed: NonNegativeInt = 0, standardise: bool = True
) -> Dataset:
    """178 wines: 13 chemical measurements, three growers.

    Args:
        val: share of the samples for validation.
        test: share of the samples for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each feature mean 0 and standard deviation 1, fitted on the training split.

    Source: Forina et al. 1988, PARVUS, UCI; the copy in scikit-learn.
    """
    return _classes("wine", "classification", val, test, split_seed, standardise)


def breast_cancer(
    *,
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
    task: Literal["classification", "binary"] = "classification",
) -> Dataset:
    """569 tumours: 30 measurements of cell nuclei, malignant or benign.

    Args:
        val: share of the samples for validation.
        test: share of the samples for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each feature mean 0 and standard deviation 1, fitted on the training split.
        task: two outputs (``classification``, with the loss ``cross_entropy``) or one logit for benign (``binary``).

    Source: Street, Wolberg & Mangasarian 1993, UCI; the copy in scikit-learn.
    """
    return _classes("breast_cancer", task, val, test, split_seed, standardise)


def diabetes(
    *,
    val: Fraction = 0.15,
    test: Fraction = 0.2,
    split_seed: NonNegativeInt = 0,
    standardise: bool = True,
    standardise_targets: bool = True,
) -> Dataset:
    """442 patients: ten measurements, and the progression of diabetes a year later.

    Args:
        val: share of the samples for validation.
        test: share of the samples for the test.
        split_seed: the random split is a function of this number, not of the recipe's seed.
        standardise: give each feature mean 0 and standard deviation 1, fitted on the training split.
        standardise_targets: the same for the targets; metrics are given in the original units all the same.

    Source: Efron et al. 2004, "Least angle regression", Annals of Statistics 32; the copy in scikit-learn.
    """
    import torch

    from trainkit_data.tabular import split_randomly, tabular

    loaded = _load("diabetes", scaled=False)
    targets = torch.from_numpy(loaded.target)
    return tabular(
        torch.from_numpy(loaded.data),
        targets,
        task="regression",
        parts=split_randomly(targets, val, test, split_seed),
        scale_inputs=standardise,
        scale_targets=standardise_targets,
    )


def _load(name: str, **options: Any) -> Any:
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(**options)


def _digit_rows() -> Any:
    """Rows of 64 pixels and a class.

    The file inside scikit-learn is read directly where it lies: importing the library takes most of a second, and the
    first recipe that anyone runs is on digits.
    """
    import numpy as np

    spec = importlib.util.find_spec("sklearn")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="ascii") as file:
                return np.loadtxt(file, delimiter=",")
    loaded = _load("digits")
    return np.concatenate((loaded.data, loaded.target[:, None]), 1)


def _classes(
    name: str, task: Literal["classification", "binary"], val: float, test: float, split_seed: int, standardise: bool
) -> Dataset:
    import torch

    from trainkit_data.tabular import split_randomly, tabular

    loaded = _load(name)
    targets = torch.from_numpy(loaded.target).long()
    return tabular(
        torch.from_numpy(loaded.data),
        targets,
        task=task,
        parts=split_randomly(targets, val, test, split_seed),
        classes=[str(label) for label in loaded.target_names],
        scale_inputs=standardise,
    )


def synthetic(
    *,
    task: Literal["classification", "binary", "regression", "tokens"] = "classification",
    samples: PositiveInt = 512,
    features: tuple[PositiveInt, ...] = (8,),
    classes: PositiveInt = 3,
    noise: NonNegative = 0.5,
    val: Fraction = 0.2,
    test: Fraction = 0.2,
    data_seed: NonNegativeInt = 0,
) -> Dataset:
    """Made-up data, for tests and first steps: noisy class centres, a noisy linear function, or tokens in turn.

    Args:
        task: what is learned; ``binary`` has two classes whatever ``classes`` says; of ``tokens`` which one follows, at
            each position of a row.
        samples: samples in all splits together.
        features: shape of one sample, such as [8] or, for images, [3, 16, 16]; for tokens [positions].
        classes: number of classes; of outputs for regression; of different tokens.
        noise: standard deviation of the noise; the signal's is 1. For tokens the share that does not follow the rule.
        val: share of the samples for validation.
        test: share of the samples for the test.
        data_seed: the data and its split are a function of this number, not of the recipe's seed.
    """
    import torch

    from trainkit_data.tabular import split_randomly, tabular

    generator = torch.Generator().manual_seed(data_seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    labels: list[str] = []
    if task == "regression":
        inputs = normal(samples, *features)
        flat = inputs.flatten(1)
        weights = normal(flat.shape[1], classes) / flat.shape[1] ** 0.5
        targets = flat @ weights + noise * normal(samples, classes)
        targets = targets.squeeze(1) if classes == 1 else targets
    elif task == "tokens":
        if len(features) != 1:
            raise DataError(f"features = {list(features)} is no row of tokens\nwrite features = [positions]")
        labels = [f"token {number}" for number in range(classes)]
        rows = torch.randint(classes, (samples, features[0] + 1), generator=generator)
        by_rule = torch.rand(rows.shape, generator=generator) >= noise
        for place in range(1, features[0] + 1):
            rows[:, place] = torch.where(by_rule[:, place], (rows[:, place - 1] + 1) % classes, rows[:, place])
        inputs, targets = rows[:, :-1], rows[:, 1:]
    else:
        count = 2 if task == "binary" else classes
        labels = [f"class {number}" for number in range(count)]
        targets = torch.arange(samples) % count
        inputs = normal(count, *features)[targets] + noise * normal(samples, *features)
    parts = split_randomly(targets, val, test, data_seed)
    return tabular(inputs, targets, task=task, parts=parts, classes=labels, scale_inputs=False, scale_targets=False)
