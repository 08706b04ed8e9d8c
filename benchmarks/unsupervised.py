"""What is given back of test images through so many numbers, beside scikit-learn's principal components.

    python benchmarks/unsupervised.py            # five seeds; five minutes on one core
    python benchmarks/unsupervised.py --quick    # that it works

All learn from the same 1,258 digits and are measured on the same 359. ``explained`` is the share of the test images'
variance, ``nats`` minus the logarithm of the probability density of an image: exact for probabilistic PCA (Tipping &
Bishop 1999), a bound by 64 draws for variational autoencoders; lower is better. Figures are means over seeds, with
their standard deviation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainkit import Dataset
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
NUMBERS = 8
LINEAR = ["model.widths=[]", "optimizer.lr=0.01", "run.duration=150ep"]
DRAWS = ["callback.0.draws=64"]
CONTENDERS: dict[str, tuple[str, Sequence[str]]] = {
    "linear autoencoder": ("autoencoder", LINEAR),
    "autoencoder": ("autoencoder", ()),
    "autoencoder, cyclic": ("autoencoder_cyclic", ()),
    "variational": ("vae", DRAWS),
    "variational, cyclic": ("vae_cyclic", DRAWS),
}


def digits() -> Dataset:
    """The data of the recipes."""
    plugins = Plugins()
    plugins.load()
    dataset: Dataset = plugins.components("data")["digits"][0].factory(val=0.1, test=0.2, split_seed=0)
    return dataset


def principal_components(numbers: int) -> tuple[float, float]:
    """Explained share of the test images, and nats, of scikit-learn's PCA."""
    from sklearn.decomposition import PCA

    data = digits()
    assert data.prepare is not None
    rows = {name: data.prepare(split.inputs[:]).flatten(1).double().numpy() for name, split in data.splits.items()}  # type: ignore[index]
    fitted, test = PCA(numbers).fit(rows["train"]), rows["test"]
    back = fitted.inverse_transform(fitted.transform(test))
    return 1 - ((test - back) ** 2).sum() / ((test - test.mean(0)) ** 2).sum(), -fitted.score(test)


def trained(recipe: str, words: Sequence[str], seed: int, quick: bool, plugins: Plugins) -> tuple[float, float | None]:
    """Explained share of the test images, and the bound where there is one, of a recipe with a seed."""
    shorter = ["run.duration=2ep", "schedule.also=[]"] if quick else []
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_recipe(RECIPES / f"{recipe}.toml", [f"seed={seed}", "run.threads=1", *words, *shorter], plugins)
        report = launch(loaded, plugins, folder=Path(folder) / "run", say=lambda text: None)
    return report.metrics["test.explained"], report.metrics.get("test.bound")


def row(name: str, explained: Sequence[float], nats: Sequence[float]) -> str:
    """A row of the table."""
    cells = [_mean(explained, 4), _mean(nats, 2)]
    return f"| {name:<22} | {cells[0]:>15} | {cells[1]:>15} |"


def _mean(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed and a few epochs: that it works")
    quick = parser.parse_args().quick
    plugins = Plugins()
    print(f"| {f'{NUMBERS} numbers an image':<22} | {'explained':>15} | {'nats':>15} |\n| --- | --- | --- |")
    explained, nats = principal_components(NUMBERS)
    print(row("PCA (scikit-learn)", [explained], [nats]), flush=True)
    for name, (recipe, words) in CONTENDERS.items():
        found = [trained(recipe, words, seed, quick, plugins) for seed in range(1 if quick else 5)]
        print(row(name, [share for share, _ in found], [bound for _, bound in found if bound is not None]), flush=True)


if __name__ == "__main__":
    main()
