"""Optimizers x schedules on digits, each pair at its own tuned learning rate.

    python benchmarks/optimizers_schedules.py [--quick]     the tables of docs/optimizers.md
    python benchmarks/optimizers_schedules.py --own         the rates of recipes/optimizers, with their own schedules

A pair is a recipe of `recipes/optimizers` with the schedule replaced. For each pair and each learning rate of its grid
the recipe is trained with the tuning seeds, and the mean validation accuracy at the end of the runs decides: the lowest
rate is taken whose mean is at most one sample below the highest. At this rate it is trained again with other seeds, and
those runs are what is reported: nothing is chosen by what is shown. A run that fails counts as accuracy 0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trainkit import RunError
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = Path(__file__).resolve().parent.parent / "recipes" / "optimizers"
OPTIMIZERS = (
    *("sgd", "sam", "adagrad", "rmsprop", "adam", "lookahead", "adamw", "nadamw", "lion", "lamb", "muon"),
    "schedulefree",
)
# All but onecycle, which has its own, warm up over the first epoch.
SCHEDULES = {
    "constant": 'schedule={use="constant", warmup="1ep"}',
    "multistep": 'schedule={use="multistep", milestones=["0.5dur", "0.75dur"], warmup="1ep"}',
    "linear": 'schedule={use="linear", warmup="1ep"}',
    "cosine": 'schedule={use="cosine", warmup="1ep"}',
    "wsd": 'schedule={use="wsd", decay="0.2dur", warmup="1ep"}',
    "onecycle": 'schedule={use="onecycle"}',
}
OWN = "its own"
GOAL = 0.97
TIE = 1 / 359  # one of the validation samples: rates that are closer count as equal
# Seeds of the two kinds must not meet.
TUNING, REPORTED = 1000, 0
UNCHANGING = ["logger=[]", "run.threads=1", 'run.save_every="1dur"']


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    val: float
    test: float
    epochs_to_goal: float | None
    seconds: float


FAILED = Outcome(0.0, 0.0, None, 0.0)


@dataclass(frozen=True)
class Pair:
    """An optimizer with a schedule, at its tuned rate."""

    lr: float
    at_border: bool
    runs: list[Outcome]

    @property
    def test(self) -> list[float]:
        """Test accuracy of each run in percent."""
        return [100 * run.test for run in self.runs]

    @property
    def diverged(self) -> int:
        """How many runs ended near guessing, which the tuning seeds at this rate did not."""
        return sum(accuracy < 50 for accuracy in self.test)


def train(plugins: Plugins, name: str, overrides: Sequence[str], seed: int, folder: Path) -> Outcome:
    """One run of a recipe from beginning to end."""
    recipe = load_recipe(RECIPES / f"{name}.toml", [*UNCHANGING, *overrides, f"seed={seed}"], plugins)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = Path(made) / "run"
        begun = time.process_time()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # notes on parameter groups
                report = launch(recipe, plugins, folder=place)
        except RunError:
            return FAILED
        seconds = time.process_time() - begun
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    reached = [line["epoch"] for line in lines if line["split"] == "val" and line["accuracy"] >= GOAL]
    figures = report.metrics
    return Outcome(
        val=figures["val.accuracy"],
        test=figures["test.accuracy"],
        epochs_to_goal=min(reached, default=None),
        seconds=seconds,
    )


def ladder(centre: float, rungs: int) -> list[float]:
    """Rates 1, 3, 10, 30, ... on both sides of the rung that is nearest to ``centre``."""
    middle = round(2 * math.log10(centre))
    around = range(middle - rungs // 2, middle + rungs // 2 + 1)
    return [float(f"{3 if rung % 2 else 1}e{rung // 2}") for rung in around]


def tune(
    plugins: Plugins, name: str, overrides: Sequence[str], rungs: int, seeds: int, folder: Path
) -> dict[float, float]:
    """Mean validation accuracy at each rate of the grid, from the lowest rate up."""
    recipe = load_recipe(RECIPES / f"{name}.toml", list(overrides), plugins)
    found = {}
    for lr in ladder(recipe.tables["optimizer"]["lr"], rungs):
        runs = [train(plugins, name, [*overrides, f"optimizer.lr={lr}"], TUNING + n, folder) for n in range(seeds)]
        found[lr] = statistics.fmean(run.val for run in runs)
    return found


def measure(plugins: Plugins, name: str, schedule: str, options: argparse.Namespace, folder: Path) -> Pair | None:
    """Tune a pair and train it at its rate; None where the optimizer takes no schedule."""
    own = load_recipe(RECIPES / f"{name}.toml", [], plugins).tables["schedule"]["use"]
    if own == "constant" and schedule not in (OWN, "constant"):
        return None
    overrides = [SCHEDULES[schedule]] if schedule != OWN and own != "constant" else []
    found = tune(plugins, name, overrides, options.rungs, options.tuning_seeds, folder)
    lr = next(rate for rate, accuracy in found.items() if accuracy >= max(found.values()) - TIE)
    chosen = [*overrides, f"optimizer.lr={lr}"]
    runs = [train(plugins, name, chosen, REPORTED + n, folder) for n in range(options.seeds)]
    pair = Pair(lr, lr in (min(found), max(found)), runs)
    grid_said = ", ".join(f"{rate:g}: {100 * accuracy:.1f}" for rate, accuracy in found.items())
    print(
        f"{name}, {schedule}: {statistics.fmean(pair.test):.2f} at {lr:g} of {grid_said}", file=sys.stderr, flush=True
    )
    return pair


def top(pairs: Sequence[Pair]) -> list[Pair]:
    """The pair of the highest mean test accuracy, and those within two standard errors of the difference to it.

    Pairs with runs that diverged are left out: their standard error would reach everywhere.
    """
    pairs = [pair for pair in pairs if not pair.diverged]
    if not pairs:
        return []
    spread = {id(pair): statistics.variance(pair.test) / len(pair.test) for pair in pairs}
    best = max(pairs, key=lambda pair: statistics.fmean(pair.test))
    mean = statistics.fmean(best.test)
    return [
        pair
        for pair in pairs
        if mean - statistics.fmean(pair.test) <= 2 * math.sqrt(spread[id(best)] + spread[id(pair)])
    ]


def grid(title: str, cells: dict[str, dict[str, str]]) -> str:
    """A Markdown table: optimizers down, schedules across."""
    heads = list(next(iter(cells.values())))
    lines = [f"### {title}", "", f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(row.values())} |" for name, row in cells.items()]
    return "\n".join(lines)


def tables(pairs: dict[str, dict[str, Pair | None]]) -> str:
    """What was measured, as Markdown."""
    leading = [id(pair) for pair in top([pair for row in pairs.values() for pair in row.values() if pair])]

    def accuracy(pair: Pair) -> str:
        text = f"{statistics.fmean(pair.test):.1f} ± {statistics.stdev(pair.test):.1f}"
        text += f", {pair.diverged} diverged" if pair.diverged else ""
        return f"**{text}**" if id(pair) in leading else text

    def epochs(pair: Pair) -> str:
        middle = statistics.median(math.inf if run.epochs_to_goal is None else run.epochs_to_goal for run in pair.runs)
        return f"{middle:g}" if math.isfinite(middle) else "never"

    def seconds(pair: Pair) -> str:
        return f"{statistics.median(run.seconds for run in pair.runs):.2f}"

    def rate(pair: Pair) -> str:
        return f"{pair.lr:g}{'*' if pair.at_border else ''}"

    def validation(pair: Pair) -> str:
        return f"{statistics.fmean(100 * run.val for run in pair.runs):.1f}"

    shown: list[tuple[str, Any]] = [
        ("Test accuracy in percent: mean and standard deviation over the seeds", accuracy),
        ("Validation accuracy in percent: mean over the seeds", validation),
        (f"Epochs to a validation accuracy of {GOAL:.0%}: median over the seeds", epochs),
        ("CPU seconds of a run, evaluations and start included: median", seconds),
        ("Tuned learning rate", rate),
    ]
    return "\n\n".join(
        grid(title, {name: {s: text(pair) if pair else "" for s, pair in row.items()} for name, row in pairs.items()})
        for title, text in shown
    )


def protocol(options: argparse.Namespace, spent: float) -> str:
    """What the tables rest on."""
    return (
        f"Every pair: {options.rungs} learning rates in half decades around the rate of its recipe, "
        f"{options.tuning_seeds} tuning seeds each; then {options.seeds} other seeds at the lowest rate whose mean "
        "validation accuracy was at most one sample below the highest. All other settings are those of the recipe and "
        "were not tuned. In bold: the highest mean test accuracy, and all that lie within two standard errors of the "
        "difference to it, but for pairs of which a run diverged (ended below 50 %). * marks a rate at the border of "
        "its grid. Empty: the recipe has no schedule to replace. "
        f"{spent:.0f} CPU seconds in all."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short runs of two optimizers, to see that it works")
    parser.add_argument("--own", action="store_true", help="the recipes with the schedules they have")
    parser.add_argument("--optimizers", help="names in recipes/optimizers, with commas between them")
    parser.add_argument("--schedules", help=f"some of {', '.join(SCHEDULES)}")
    parser.add_argument("--rungs", type=int, default=7, help="learning rates of a grid")
    parser.add_argument("--tuning-seeds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="a file for the figures of every reported run")
    options = parser.parse_args()
    schedules = [OWN] if options.own else list(SCHEDULES)
    names = sorted(file.stem for file in RECIPES.glob("*.toml")) if options.own else list(OPTIMIZERS)
    if options.quick:
        options.rungs, options.tuning_seeds, options.seeds = 2, 1, 2
        names = ["sgd", "schedulefree"]
        UNCHANGING.append('run.duration="5ep"')
    names = options.optimizers.split(",") if options.optimizers else names
    schedules = options.schedules.split(",") if options.schedules else schedules
    torch.set_num_threads(1)
    plugins = Plugins()
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        pairs = {name: {s: measure(plugins, name, s, options, Path(folder)) for s in schedules} for name in names}
    if options.json:
        figures = {name: {s: pair and asdict(pair) for s, pair in row.items()} for name, row in pairs.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(tables(pairs))
    print(f"\n{protocol(options, time.process_time() - begun)}")


if __name__ == "__main__":
    main()
