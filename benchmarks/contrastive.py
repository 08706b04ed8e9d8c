"""What comparing views teaches a network of digits, measured by what it then learns from few labels.

    python benchmarks/contrastive.py            # three seeds; five minutes on one core
    python benchmarks/contrastive.py --quick    # that it works

``simclr_digits_base.toml`` learns from 1,258 digits without their labels. Its representation, a network that begins
anew, and scikit-learn's LogisticRegression on pixels are then given 10 labels of each digit; another 10 for each seed.
Figures are the accuracy on the same 359 test digits, in percent, means over seeds with their standard deviation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression

from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit_data.shipped import digits
from trainkit_data.wrapped import subset

RECIPES = Path(__file__).parents[1] / "recipes"


def pixels(seed: int) -> float:
    """Test accuracy of scikit-learn from the same labels."""
    data = subset(of=digits(), per_class=10, draw_seed=seed)
    assert data.prepare is not None
    arrays = []
    for name in ("train", "test"):
        split = data.splits[name]
        index = torch.arange(len(split))
        arrays.append((data.prepare(split.inputs[index]).flatten(1).double().numpy(), split.targets.numpy()))
    model = LogisticRegression(max_iter=1000).fit(*arrays[0])
    return float(model.score(*arrays[1]))


def ours(seed: int, folder: Path, quick: bool, plugins: Plugins) -> dict[str, float]:
    """Test accuracies of the recipes with a seed."""
    few = ["run.duration=2ep"] if quick else []

    def train(name: str, *words: str) -> dict[str, float]:
        recipe = load_recipe(RECIPES / f"{name}.toml", [f"seed={seed}", "logger=[]", *few, *words], plugins)
        return dict(launch(recipe, plugins, folder=folder / f"{name}-{seed}", say=lambda text: None).metrics)

    labels = f"data.draw_seed={seed}"
    all_labels = train("simclr_digits_base", *(["schedule.warmup=1ep"] if quick else []))["test.probe"]
    base = f"model.weights={folder}/simclr_digits_base-{seed}"
    return {
        "simclr, linear probe on all 1,258 labels": all_labels,
        "simclr, linear probe on 100 labels": train("simclr_digits", labels, base)["test.accuracy"],
        "the same network from 100 labels alone": train("simclr_digits_scratch", labels)["test.accuracy"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plugins, found = Plugins(without=["reports"]), dict[str, list[float]]()
    for seed in range(1 if arguments.quick else arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            figures = ours(seed, Path(folder), arguments.quick, plugins)
        for name, value in {**figures, "LogisticRegression on pixels, 100 labels": pixels(seed)}.items():
            found.setdefault(name, []).append(100 * value)
    print("| | test accuracy |\n| --- | --- |")
    for name, values in found.items():
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"| {name} | {statistics.mean(values):.1f}{spread} |")


if __name__ == "__main__":
    main()
