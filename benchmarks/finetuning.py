"""Fine-tuning against training from scratch: a ResNet-8 that knows some digits learns the others from few images.

    python benchmarks/finetuning.py [--quick] [--seeds N] [--first N]

The network learns the digits below ``--first`` (8, or 5) with all their images, once for each seed: 15 epochs, as
recipes/finetune_digits_base.toml says. Then it learns the others, from 10 to 100 images of each, in 200 updates of 16:
from scratch, with a frozen body whose BatchNorm is fixed (a linear probe), with all layers at one rate, with
discriminative rates (2.6 a layer), with gradual unfreezing (a layer every 20 updates), and with both. Each way has the
rate of {0.003, 0.01, 0.03, 0.1} with the lowest mean validation loss over the seeds; scratch may take 0.3 too.
The schedule is a cosine after a warm-up of 20 updates. The seed decides on images, first weights and order. Figures are
test accuracies: the mean over the seeds with Student's interval at 95 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from common import mean_cell

from trainkit import Datasets
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
UNFROZEN = '{ use = "gradual_unfreeze", every = "0.1dur" }'
WAYS = {
    "from scratch": ['drop = ["model.weights", "model.head", "optimizer.discriminative", "callback"]'],
    "linear probe": [
        'drop = ["optimizer.discriminative"]',
        'callback = [{ use = "freeze", match = ["s*"], batch_norm = "fix" }]',
    ],
    "all layers, one rate": ['drop = ["optimizer.discriminative", "callback"]'],
    "discriminative rates": ['drop = ["callback"]'],
    "gradual unfreezing": ['drop = ["optimizer.discriminative"]', f"callback = [{UNFROZEN}]"],
    "both": [f"callback = [{UNFROZEN}]"],
}
RATES = (0.003, 0.01, 0.03, 0.1)
IMAGES = (10, 30, 100)


def classes(numbers: range) -> str:
    """Names of digits, as a recipe lists them."""
    return "data.classes=[" + ", ".join(f'"{number}"' for number in numbers) + "]"


def trained(recipe: str, plugins: Plugins, datasets: Datasets, folder: Path, *words: str) -> dict[str, float]:
    """The figures of a run."""
    loaded = load_recipe(RECIPES / recipe, ["logger=[]", "run.threads=1", *words], plugins)
    report = launch(loaded, plugins, folder=folder, say=lambda text: None, datasets=datasets)
    return report.metrics


def main(words: Sequence[str] | None = None) -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, ten images, one rate, fewer updates")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=8, help="digits below it are learned first")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    seeds = range(1 if given.quick else given.seeds)
    images, rates = ((10,), (0.01,)) if given.quick else (IMAGES, RATES)
    updates = 20 if given.quick else 200
    plugins, datasets = Plugins(), Datasets()
    cells: dict[str, list[str]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        for seed in seeds:
            length = "run.duration=" + ("2ep" if given.quick else "15ep")
            first = classes(range(given.first))
            words = [first, f"seed={seed}", length]
            trained("finetune_digits_base.toml", plugins, datasets, Path(place) / f"base-{seed}", *words)
        for count in images:
            for way, changes in WAYS.items():
                best: tuple[float, list[float], float] | None = None
                for rate in (*rates, *([0.3] if way == "from scratch" and not given.quick else [])):
                    found = []
                    for seed in seeds:
                        base = [] if way == "from scratch" else [f'model.weights="{place}/base-{seed}"']
                        found.append(
                            trained(
                                "finetune_digits.toml",
                                plugins,
                                datasets,
                                Path(place) / f"{count}-{way}-{rate}-{seed}",
                                *changes,
                                *base,
                                classes(range(given.first, 10)),
                                f"data.per_class={count}",
                                f"data.draw_seed={seed}",
                                f"seed={seed}",
                                f"run.duration={updates}ba",
                                "schedule.warmup=20ba",
                                f"run.evaluate_every={updates}ba",
                                f"optimizer.lr={rate}",
                            )
                        )
                    loss = statistics.mean(one["val.loss"] for one in found)
                    if best is None or loss < best[0]:
                        best = loss, [100 * one["test.accuracy"] for one in found], rate
                assert best is not None
                cells[way].append(f"{mean_cell(best[1], '{:.1f}')} ({best[2]:g})")
                print(f"{count} images a digit, {way}: {cells[way][-1]}", flush=True)
    heads = " | ".join(f"{count} a digit" for count in images)
    print(f"\n### Digits {given.first} to 9, after those below: test accuracy in %, its interval (rate)\n")
    print(f"| way | {heads} |\n|---|{'---|' * len(images)}")
    for way, row in cells.items():
        print(f"| {way} | {' | '.join(row)} |")
    print(f"\n{len(seeds)} seeds, {updates} updates.")


if __name__ == "__main__":
    main()
