"""What the recipes of sequences and series come to, beside scikit-learn and naive forecasts on the very same samples.

    python benchmarks/sequences.py [--quick] [--seeds 5]

Forecasts: airline passengers, twelve months from the twenty-four before, on the thirteen windows of the last two years.
MASE and the mean absolute error in thousands of passengers. The seasonal naive forecast is the value of a year before;
ridge regression has one linear model for each month ahead, of the same windows, its strength chosen on the validation
windows. Classes: control charts of 30 to 60 steps; scikit-learn is given them filled with zeros, and the mask.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainkit import Dataset
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_sequences.data import airline, control_charts

RECIPES = Path(__file__).parents[1] / "recipes"


def held(data: Dataset, split: str) -> tuple[Any, Any]:
    """Inputs and targets of a split, a row each."""
    found: Any = data.splits[split].inputs
    return found.flatten(1).numpy(), data.splits[split].targets.numpy()


def trained(plugins: Plugins, name: str, seeds: int, *changes: str) -> list[dict[str, float]]:
    """The test figures of a recipe, for several seeds."""
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            recipe = load_recipe(RECIPES / f"{name}.toml", [f"seed={seed}", *changes], plugins)
            report = launch(recipe, plugins, folder=Path(folder) / "run", say=lambda text: None)
        found.append({key.removeprefix("test."): value for key, value in report.metrics.items()})
    return found


def forecasts(plugins: Plugins, seeds: int, quick: bool) -> None:
    """Print the table of forecasts."""
    from sklearn.linear_model import Ridge

    data = airline()
    unit, naive = data.spec.target_std[0], data.spec.naive_error[0]
    inputs, targets = held(data, "test")

    def shown(name: str, errors: list[float]) -> None:
        spread = f" +- {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
        print(f"{name:44} {statistics.mean(errors) / naive:6.3f}  {statistics.mean(errors):6.1f}{spread}")

    print(f"{'test windows: ' + str(len(inputs)):44} {'MASE':>6}  {'MAE':>6}")
    shown("last value", [float(np.abs(inputs[:, -1:] - targets).mean()) * unit])
    shown("seasonal naive: a year before", [float(np.abs(inputs[:, -12:] - targets).mean()) * unit])
    past, after = held(data, "train")
    validation = held(data, "val")
    fitted = [Ridge(alpha=10.0**power).fit(past, after) for power in range(-3, 3)]
    best = min(fitted, key=lambda one: float(np.abs(one.predict(validation[0]) - validation[1]).mean()))
    shown("scikit-learn: ridge regression", [float(np.abs(best.predict(inputs) - targets).mean()) * unit])
    short = ("run.duration=5ep",) if quick else ()
    lstm = ("model.use=lstm", "model.width=16", "model.dropout=0.3", "model.continues=1")
    for name, changes in (
        ("forecast_airline (tcn)", ()),
        ("forecast_airline, lstm", lstm),
        ("forecast_airline, continues = 0", ("model.continues=0",)),
    ):
        runs = trained(plugins, "forecast_airline", seeds, *changes, *short)
        shown(f"{name}, {seeds} seeds", [run["mae"] for run in runs])


def classes(plugins: Plugins, seeds: int, quick: bool) -> None:
    """Print the table of classes."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    data = control_charts(shortest=30)
    past, labels = held(data, "train")
    inputs, targets = held(data, "test")
    print(f"\n{'test charts: ' + str(len(inputs)):44} accuracy")
    for model in (
        KNeighborsClassifier(1),
        LogisticRegression(max_iter=2000),
        RandomForestClassifier(10 if quick else 300, random_state=0),
    ):
        print(f"{'scikit-learn: ' + type(model).__name__:44} {model.fit(past, labels).score(inputs, targets):8.3f}")
    short = ("run.duration=2ep",) if quick else ()
    for name in ("sequences_tcn", "sequences_lstm"):
        found = [run["accuracy"] for run in trained(plugins, name, seeds, *short)]
        spread = f" +- {statistics.stdev(found):.3f}" if len(found) > 1 else ""
        print(f"{f'{name}, {seeds} seeds':44} {statistics.mean(found):8.3f}{spread}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few epochs of one seed: that it works, no figures")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    plugins, seeds = Plugins(), 1 if asked.quick else asked.seeds
    forecasts(plugins, seeds, asked.quick)
    classes(plugins, seeds, asked.quick)


if __name__ == "__main__":
    main()
