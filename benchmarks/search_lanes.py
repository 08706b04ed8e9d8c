"""Many small trials: as lanes of one model, against Optuna around a training loop by hand; trials per CPU second.

    python benchmarks/search_lanes.py [--quick] [--case NAME] [--trials N]

Every contender makes the same random search on handwritten digits (learning rate, weight decay and seed of its own for
each trial) in a process of its own, on one thread, round by round in turn. The loop by hand keeps the data as tensors,
shuffles by a permutation, measures the validation samples once an epoch and writes nothing; Optuna keeps its study in
memory. trainkit writes the study's log and a run folder for each trial: recipe, figures, a checkpoint, a report; the
pictures of a study are left out.

The row "first" is a process that has compiled nothing before, with an empty cache: what its compilers take is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

from common import by_command, in_own_process, interleave, keep_imports, ratios, spread, used, warm_up

CASES: dict[str, dict[str, Any]] = {
    "mlp": {"model": "mlp", "widths": [128], "batch": 64, "epochs": 20},
    "small mlp": {"model": "mlp", "widths": [32], "batch": 16, "epochs": 10},
    "convnet": {"model": "convnet", "widths": [8, 16], "batch": 64, "epochs": 4},
}
RECIPE = """
recipe = 1
seed = 1
[run]
duration = "{epochs}ep"
threads = 1
{compile}
[data]
use = "digits"
batch_size = {batch}
[model]
use = "{model}"
widths = {widths}
{norm}
[loss]
use = "cross_entropy"
[[metric]]
use = "accuracy"
[optimizer]
use = "sgd"
lr = 0.05
momentum = 0.9
no_decay = "none"
[search]
use = "random"
trials = {trials}
test = false
executor = {executor}
[search.space]
"optimizer.lr" = {{ low = 1e-3, high = 0.3, scale = "log" }}
"optimizer.weight_decay" = {{ low = 1e-6, high = 1e-2, scale = "log" }}
"seed" = {{ low = 0, high = 1000000 }}
"""


def by_hand(case: dict[str, Any], trials: int) -> float:
    """Optuna's random sampler around a loop in plain PyTorch; CPU seconds."""
    import optuna
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    keep_imports()
    begun = used()
    digits = load_digits()
    inputs = torch.tensor(digits.data / 16, dtype=torch.float32)
    if case["model"] == "convnet":
        inputs = inputs.view(-1, 1, 8, 8)
    targets = torch.tensor(digits.target)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    test, val, train = order[:359], order[359:539], order[539:]
    del test

    def model() -> nn.Module:
        widths = case["widths"]
        if case["model"] == "mlp":
            return nn.Sequential(nn.Linear(64, widths[0]), nn.ReLU(), nn.Linear(widths[0], 10))
        first, second = widths
        return nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(second, 10),
        )

    def objective(trial: Any) -> float:
        torch.manual_seed(trial.suggest_int("seed", 0, 1000000))
        network = model()
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=trial.suggest_float("lr", 1e-3, 0.3, log=True),
            weight_decay=trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
            momentum=0.9,
        )
        criterion = nn.CrossEntropyLoss()
        loss = torch.zeros(())
        for _ in range(case["epochs"]):
            shuffled = train[torch.randperm(len(train))]
            for batch in shuffled.split(case["batch"]):
                optimizer.zero_grad()
                criterion(network(inputs[batch]), targets[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                outputs = network(inputs[val])
                loss = criterion(outputs, targets[val])
                (outputs.argmax(1) == targets[val]).float().mean()
        return float(loss)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=trials)
    return used() - begun


def by_trainkit(case: dict[str, Any], trials: int, executor: str, compiled: bool) -> float:
    """One study, started as the command line does; CPU seconds, without those of importing torch."""
    recipe = RECIPE.format(
        **{key: value for key, value in case.items() if key != "name"},
        compile='compile = "step"' if compiled else "",
        norm='norm = "none"' if case["model"] == "convnet" else "",
        trials=trials,
        executor=executor,
    )
    return by_command(recipe)


def first_compiled(case: dict[str, Any], trials: int) -> float:
    """As `by_trainkit`, compiled, where nothing was compiled before."""
    cache = tempfile.mkdtemp()
    os.environ["TRAINKIT_CACHE"] = cache
    try:
        return by_trainkit(case, trials, '{ use = "lanes" }', True)
    finally:
        shutil.rmtree(cache)


def compare(name: str, trials: int, rounds: int, compiles: bool) -> str:
    """The table of one case; with or without the rows of lanes that are compiled."""
    case = CASES[name]
    lanes = '{ use = "lanes" }'
    with contextlib.ExitStack() as stack:
        contenders: dict[str, Callable[[], float]] = {
            "Optuna, loop by hand": in_own_process(stack, by_hand, case, trials),
            'executor = "serial"': in_own_process(stack, by_trainkit, case, trials, '{ use = "serial" }', False),
            'executor = "lanes"': in_own_process(stack, by_trainkit, case, trials, lanes, False),
            'executor = "auto"': in_own_process(stack, by_trainkit, case, trials, '{ use = "auto" }', False),
        }
        if compiles:
            contenders['executor = "lanes", compiled'] = in_own_process(stack, by_trainkit, case, trials, lanes, True)
        warm_up(contenders)
        seconds = interleave(contenders, rounds)
    firsts = []
    for _ in range(min(rounds, 3) if compiles else 0):
        with contextlib.ExitStack() as stack:
            firsts.append(in_own_process(stack, first_compiled, case, trials)())
    lines = [
        f"### {name}: {case['widths']}, batch {case['batch']}, {case['epochs']} epochs, {trials} trials",
        "",
        "| contender | CPU ms a trial (median) | x the loop by hand: median [min to max] |",
        "|---|---|---|",
    ]
    base = seconds["Optuna, loop by hand"]
    for label, values in seconds.items():
        lines.append(f"| {label} | {statistics.median(values) / trials * 1e3:.1f} | {spread(ratios(base, values))} |")
    if firsts:
        ratio = statistics.median(base) / statistics.median(firsts)
        lines.append(f"| lanes, compiled, first | {statistics.median(firsts) / trials * 1e3:.1f} | {ratio:.2f} |")
    return "\n".join([*lines, "", f"{rounds} interleaved rounds; CPU time, one thread."])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few trials once, nothing compiled, to see that it works")
    parser.add_argument("--case", choices=list(CASES), action="append", help="only this one")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for name in options.case or (["small mlp"] if options.quick else CASES):
        if options.quick:
            CASES[name]["epochs"] = 1
            print(compare(name, 2, 1, False), flush=True)
        else:
            print(compare(name, options.trials, options.rounds, True), flush=True)
        print()


if __name__ == "__main__":
    main()
