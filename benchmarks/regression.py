"""Regressions of tables beside scikit-learn on the same splits: points, distributions, quantiles, and words looked up.

    python benchmarks/regression.py [--quick] [--splits 10]

The first table is of diabetes (442 patients); the second of a made-up table of 2,000 rows with a number and two columns
of words, 12 and 40 of them, whose effects depend on each other. Figures are means over splits of the test part, in the
data's units. Both sides see the training part alone, ours the validation part too, to end training by.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor
from sklearn.linear_model import BayesianRidge, QuantileRegressor, Ridge
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, r2_score, root_mean_squared_error

from trainkit import Dataset
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_data.files import csv
from trainkit_data.shipped import diabetes

Array = NDArray[Any]
Figures = dict[str, float]
HEADS = ["model", "RMSE", "MAE", "R2", "NLL (nats)", "pinball", "coverage of 80 %"]
COLUMNS = ("rmse", "mae", "r2", "density_nll", "pinball", "coverage")
LEVELS = (0.1, 0.5, 0.9)
POINTS = ["metric=[{use='rmse'}, {use='mae'}, {use='r2'}]"]
SURE = ["metric=[{use='rmse'}, {use='mae'}, {use='r2'}, {use='density_nll'}, {use='pinball'}, {use='coverage'}]"]
OF_QUANTILES = ["metric=[{use='rmse'}, {use='mae'}, {use='r2'}, {use='pinball'}, {use='coverage'}]"]
OURS = {
    "`diabetes_regression` (huber)": ("diabetes_regression", POINTS),
    "`diabetes_gaussian`": ("diabetes_gaussian", SURE),
    "`diabetes_quantile`": ("diabetes_quantile", OF_QUANTILES),
}
TABLE = ["data.target=y", "data.missing=error"]
WORDS = {
    "`table_regression`: words looked up": ("table_regression", [*TABLE, *POINTS]),
    "the same, a column for each word (`mlp`)": (
        "table_regression",
        [*TABLE, "data.embed=false", 'model={use="mlp", widths=[64, 32], dropout=0.1}', *POINTS],
    ),
}


def ours(recipe: str, changes: Sequence[str], seed: int, epochs: int | None, plugins: Plugins) -> Figures:
    """Test figures of a recipe on one split."""
    words = [*changes, f"data.split_seed={seed}", f"seed={seed}", "logger=[]", "run.threads=1"]
    words += [f"run.duration={epochs}ep"] if epochs else []
    with tempfile.TemporaryDirectory() as folder:
        report = launch(load_recipe(f"trainkit:{recipe}", words, plugins), plugins, folder=Path(folder) / "run")
    return {name: report.metrics.get(f"test.{name}", float("nan")) for name in COLUMNS}


def arrays(data: Dataset, split: str) -> tuple[Array, Array]:
    """Inputs and targets of a split."""
    part = data.splits[split]
    return part.inputs[torch.arange(len(part))].numpy(), part.targets.double().numpy()


def points(truth: Array, taken: Array) -> Figures:
    """Figures of single numbers."""
    return {
        "rmse": root_mean_squared_error(truth, taken),
        "mae": mean_absolute_error(truth, taken),
        "r2": r2_score(truth, taken),
    }


def intervals(truth: Array, quantiles: Sequence[Array]) -> Figures:
    """Figures of the quantiles of `LEVELS`."""
    each = [mean_pinball_loss(truth, taken, alpha=level) for taken, level in zip(quantiles, LEVELS, strict=True)]
    inside = (quantiles[0] <= truth) & (truth <= quantiles[-1])
    return {"pinball": statistics.mean(each), "coverage": float(inside.mean())}


def of_points(make: Callable[[], Any], data: Dataset) -> Figures:
    """Test figures of a model of scikit-learn."""
    (inputs, targets), (seen, truth) = arrays(data, "train"), arrays(data, "test")
    return points(truth, make().fit(inputs, targets).predict(seen))


def of_bayes(data: Dataset) -> Figures:
    """Test figures of Bayesian ridge regression, which predicts a normal distribution."""
    (inputs, targets), (seen, truth) = arrays(data, "train"), arrays(data, "test")
    mean, std = BayesianRidge().fit(inputs, targets).predict(seen, return_std=True)
    nll = -float(norm.logpdf(truth, mean, std).mean())
    return points(truth, mean) | {"density_nll": nll} | intervals(truth, [norm.ppf(a, mean, std) for a in LEVELS])


def of_quantiles(make: Callable[[float], Any], data: Dataset) -> Figures:
    """Test figures of one model of scikit-learn for each quantile."""
    (inputs, targets), (seen, truth) = arrays(data, "train"), arrays(data, "test")
    taken = [make(level).fit(inputs, targets).predict(seen) for level in LEVELS]
    return points(truth, taken[1]) | intervals(truth, taken)


THEIRS: dict[str, Callable[[Dataset], Figures]] = {
    "scikit-learn: Ridge": lambda data: of_points(Ridge, data),
    "scikit-learn: BayesianRidge": of_bayes,
    "scikit-learn: QuantileRegressor": lambda data: of_quantiles(
        lambda level: QuantileRegressor(quantile=level, alpha=0.0), data
    ),
    "scikit-learn: GradientBoostingRegressor, quantiles": lambda data: of_quantiles(
        lambda level: GradientBoostingRegressor(loss="quantile", alpha=level, random_state=0), data
    ),
}


def made_up(path: Path) -> None:
    """Write the table with words."""
    draw = numpy.random.default_rng(0)
    first, second = draw.normal(size=(12, 2)), draw.normal(size=(40, 2))
    lines = ["x,a,b,y"]
    for _ in range(2000):
        a, b, x = draw.integers(12), draw.integers(40), draw.normal()
        y = 100 + 20 * (first[a] @ second[b]) + 10 * x * first[a, 0] + 5 * draw.normal()
        lines.append(f"{x:.4f},a{a},b{b},{y:.3f}")
    path.write_text("\n".join(lines) + "\n")


def of_words(categorical: bool, path: Path, seed: int) -> Figures:
    """Test figures of scikit-learn on the table with words."""
    data = csv(path.parent, path=path, target="y", split_seed=seed, embed=categorical, standardise_targets=False)
    columns = [place for place, count in enumerate(data.spec.categories) if count]
    return of_points(lambda: HistGradientBoostingRegressor(categorical_features=columns) if columns else Ridge(), data)


def show(rows: Sequence[tuple[str, Sequence[Figures]]]) -> None:
    """Print a table of means."""
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
    for name, found in rows:
        means = [statistics.mean(one.get(column, float("nan")) for one in found) for column in COLUMNS]
        digits = (2, 2, 3, 3, 2, 3)
        cells = ["" if mean != mean else f"{mean:.{digit}f}" for mean, digit in zip(means, digits, strict=True)]
        print(f"| {' | '.join([name, *cells])} |")
    print()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one split, few epochs")
    parser.add_argument("--splits", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plugins, epochs = Plugins(without=["reports"]), 2 if arguments.quick else None
    seeds = range(1 if arguments.quick else arguments.splits)
    whole = {seed: diabetes(split_seed=seed, standardise_targets=False) for seed in seeds}
    rows = [(name, [ours(*what, seed, epochs, plugins) for seed in seeds]) for name, what in OURS.items()]
    rows += [(name, [make(whole[seed]) for seed in seeds]) for name, make in THEIRS.items()]
    show(rows)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        path = Path(folder) / "table.csv"
        made_up(path)
        os.environ["TRAINKIT_DATA"] = folder
        rows = [(name, [ours(*what, seed, epochs, plugins) for seed in seeds]) for name, what in WORDS.items()]
        for name, categorical in (
            ("scikit-learn: HistGradientBoostingRegressor, categorical", True),
            ("scikit-learn: Ridge, a column for each word", False),
        ):
            rows.append((name, [of_words(categorical, path, seed) for seed in seeds]))
    show(rows)


if __name__ == "__main__":
    main()
