"""PPO and REINFORCE on CartPole: returns after training, and how many steps of the environment 475 has taken.

    python benchmarks/cartpole.py [--quick] [--seeds N]

Each trains recipes/rl_cartpole_METHOD.toml once for each seed. The return is that of 100 episodes with the likeliest
actions, by the last weights; their seeds are the same for all runs, and no training has played them. 475 on average is
what CartPole-v1 asks for (its ``reward_threshold``). Steps are those made before the first evaluation whose 20 episodes
come to 475 or more. Figures are means over the seeds with Student's interval at 95 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common import mean_cell

from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
METHODS = ("ppo", "reinforce")
ASKED = 475.0
QUICK = ["data.val=4", "data.test=10"]


def returns_of(
    method: str, seed: int, plugins: Plugins, folder: Path, quick: bool
) -> tuple[float, float | None, float]:
    """The return on test episodes, the steps that 475 on validation has taken, and CPU seconds."""
    shorter = [*QUICK, "run.duration=" + ("40ep" if method == "ppo" else "5ep")] if quick else []
    words = ["logger=[]", "run.threads=1", f"seed={seed}", *shorter]
    recipe = load_recipe(RECIPES / f"rl_cartpole_{method}.toml", words, plugins)
    started = time.process_time()
    report = launch(recipe, plugins, folder=folder, say=lambda text: None)
    seconds = time.process_time() - started
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = reached = None
    for line in lines:
        if line["split"] == "train":
            steps = line["environment_steps"]
        elif line["split"] == "val" and line["return"] >= ASKED and reached is None:
            reached = steps
    return report.metrics["test.return"], reached, seconds


def main(words: Sequence[str] | None = None) -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, a few rollouts")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    seeds = range(1, 2 if given.quick else 1 + given.seeds)
    plugins = Plugins()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for method in METHODS:
            found = []
            for seed in seeds:
                found.append(returns_of(method, seed, plugins, Path(place) / f"{method}-{seed}", given.quick))
                print(f"{method}, seed {seed}: return {found[-1][0]:.1f}, 475 after {found[-1][1]} steps", flush=True)
            returns, reached, seconds = zip(*found, strict=True)
            solved = [steps for steps in reached if steps is not None]
            whole = mean_cell(returns, "{:.1f}") if len(set(returns)) > 1 else f"{returns[0]:.1f}, all of them"
            rows.append(
                f"| {method} | {whole} | {min(returns):.1f} | "
                f"{sum(one >= ASKED for one in returns)} of {len(returns)} | "
                f"{mean_cell(solved, '{:,.0f}') if solved else '-'} | {mean_cell(seconds, '{:.0f}')} |"
            )
    print("\n### CartPole-v1: return of 100 episodes after training\n")
    print("| method | return | the lowest | at least 475 | steps to 475 | CPU seconds |\n|---|---|---|---|---|---|")
    print("\n".join(rows))
    print(f"\n{len(seeds)} seeds.")


if __name__ == "__main__":
    main()
