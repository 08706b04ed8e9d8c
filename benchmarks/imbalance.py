"""Classes of unequal size: what weights, sampling, focal loss and a chosen threshold come to, beside scikit-learn.

    python benchmarks/imbalance.py [--quick] [--splits 10]

Is a handwritten digit an 8? One of ten is. All models are linear and see the same pixels of the same split;
scikit-learn's are LogisticRegression with its defaults, plain and with class_weight="balanced". Figures are
means over splits of the test part, in percent.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score

from trainkit import Split
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_data.shipped import digits
from trainkit_data.wrapped import one_against_rest

FIGURES = ("balanced_accuracy", "f1", "average_precision")
HEADS = ["model", "balanced accuracy", "macro F1", "average precision", "loss"]
OURS = {
    "cross-entropy": ("imbalance", ["loss.balance=false"]),
    "class weights (balance = true)": ("imbalance", []),
    'sampling = "balanced"': ("imbalance_sampling", []),
    "focal loss": ("imbalance_focal", ["loss.balance=false"]),
    "cross-entropy, threshold for F1": ("imbalance_threshold", []),
    "cross-entropy, threshold for balanced accuracy": (
        "imbalance_threshold",
        ["callback.0.maximise=balanced_accuracy"],
    ),
}
THEIRS = {"scikit-learn": None, 'scikit-learn, class_weight="balanced"': "balanced"}


def ours(recipe: str, changes: list[str], seed: int, epochs: int, plugins: Plugins) -> tuple[float, ...]:
    """Test figures of a recipe on one split."""
    words = [*changes, f"data.of.split_seed={seed}", f"run.duration={epochs}ep", "logger=[]", f"seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        report = launch(load_recipe(f"trainkit:{recipe}", words, plugins), plugins, folder=Path(folder) / "run")
    return tuple(report.metrics[f"test.{name}"] for name in (*FIGURES, "loss"))


def theirs(weights: str | None, seed: int) -> tuple[float, ...]:
    """Test figures of scikit-learn on the same split."""
    data = one_against_rest(of=digits(split_seed=seed), positive=["8"])

    def arrays(split: Split) -> Iterator[numpy.ndarray]:
        index = torch.arange(len(split))
        inputs = split.inputs[index]
        yield (inputs if data.prepare is None else data.prepare(inputs)).flatten(1).double().numpy()
        yield split.targets.long().numpy()

    (inputs, targets), (seen, truth) = arrays(data.splits["train"]), arrays(data.splits["test"])
    model = LogisticRegression(class_weight=weights, max_iter=1000).fit(inputs, targets)
    share = model.predict_proba(seen)[:, 1]
    taken = model.predict(seen)
    loss = -numpy.log(numpy.where(truth, share, 1 - share).clip(1e-12)).mean()
    scores = balanced_accuracy_score(truth, taken), f1_score(truth, taken, average="macro")
    return *scores, average_precision_score(truth, share), float(loss)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one split, few epochs")
    parser.add_argument("--splits", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plugins, epochs = Plugins(without=["reports"]), 2 if arguments.quick else 100
    seeds = range(1 if arguments.quick else arguments.splits)
    rows = []
    for name, (recipe, changes) in OURS.items():
        rows.append((name, [ours(recipe, changes, seed, epochs, plugins) for seed in seeds]))
    for name, weights in THEIRS.items():
        rows.append((name, [theirs(weights, seed) for seed in seeds]))
    shown = []
    for name, found in rows:
        means = [statistics.mean(column) for column in zip(*found, strict=True)]
        shown.append([name, *(f"{100 * mean:.1f}" for mean in means[:3]), f"{means[3]:.3f}"])
    for row in (HEADS, ["---"] * len(HEADS), *shown):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
