"""What it costs to start: CPU seconds and peak memory of whole processes, from nothing to a run of two updates.

    python benchmarks/startup.py [--quick]

The processes run one after the other, A B C A B C …; medians over the rounds, smallest and largest in brackets. CPU
time is that of all threads and of the process's children. Bytecode is compiled, and what plugins supply remembered, by
rounds before that do not count; both are kept in a folder of the benchmark's own. The raw scripts make two updates of
the same model on random numbers; trainkit reads its data, evaluates, and saves and reads a checkpoint besides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINKIT = ("-m", "trainkit")
MODEL = """
import torch
from torch import nn
x, y = torch.rand(1258, 64), torch.randint(0, 10, (1258,))
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
"""
RAW = f"""{MODEL}
from torch.utils.data import DataLoader, TensorDataset
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
batches = iter(DataLoader(TensorDataset(x, y), 64, shuffle=True))
for _ in range(2):
    inputs, targets = next(batches)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
"""
BY_HAND = f"""{MODEL}
for n in range(2):
    loss = nn.functional.cross_entropy(model(x[64 * n : 64 * n + 64]), y[64 * n : 64 * n + 64])
    with torch.no_grad():
        for p, gradient in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters()))):
            p -= 0.1 * gradient
"""
COMMANDS: dict[str, tuple[str, ...]] = {
    'python -c "pass"': ("-c", "pass"),
    "trainkit --help": (*TRAINKIT, "--help"),
    "trainkit list": (*TRAINKIT, "list"),
    "trainkit list, nothing remembered": (*TRAINKIT, "list"),
    "trainkit describe optimizer adamw": (*TRAINKIT, "describe", "optimizer", "adamw"),
    "trainkit validate recipes/mlp_digits.toml": (*TRAINKIT, "validate", "recipes/mlp_digits.toml"),
    "trainkit validate recipes/resnet_cosine.toml": (*TRAINKIT, "validate", "recipes/resnet_cosine.toml"),
    "trainkit validate recipes/resnet_cosine.toml, nothing remembered": (
        *TRAINKIT,
        "validate",
        "recipes/resnet_cosine.toml",
    ),
    'python -c "import torch"': ("-c", "import torch"),
    "raw script, DataLoader and torch.optim, two updates": ("-c", RAW),
    "raw script, update by hand, two updates": ("-c", BY_HAND),
    "trainkit run recipes/mlp_digits.toml --smoke": (*TRAINKIT, "run", "recipes/mlp_digits.toml", "--smoke"),
}
REFERENCE = "raw script, DataLoader and torch.optim, two updates"
# With --quick: what is measured otherwise is one of these again, or a part of it.
TWICE = {
    "trainkit list",
    "trainkit validate recipes/resnet_cosine.toml",
    "trainkit validate recipes/resnet_cosine.toml, nothing remembered",
    'python -c "import torch"',
}


def measure(name: str, command: tuple[str, ...], folder: Path, own: bool = True) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one process, which keeps its bytecode in the folder if it is to be its own.

    Raises:
        RuntimeError: if the process fails.
    """
    log = folder / "output.txt"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["TRAINKIT_CACHE"] = str(folder / "cache")
    if own:
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    environment["TRAINKIT_PLUGIN_CACHE"] = "off" if name.endswith("nothing remembered") else "on"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def spread(values: list[float], digits: int) -> str:
    """Median, smallest and largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f} to {high:.{digits}f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 11)
    figures: dict[str, list[tuple[float, float]]] = {
        name: [] for name in COMMANDS if not (options.quick and name in TWICE)
    }
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 if options.quick else -1, rounds + 1):
            for name in figures:
                found = measure(name, COMMANDS[name], Path(folder), own=not options.quick)
                if number > 0:
                    figures[name].append(found)
            time.sleep(3 if number < 0 else 0)  # what was written a moment ago is not remembered
    print("### Start\n")
    print("| process | CPU seconds | of the raw script | peak MB |\n|---|---|---|---|")
    for name, values in figures.items():
        seconds, peaks = [first for first, _ in values], [second for _, second in values]
        ratios = [mine / its for mine, (its, _) in zip(seconds, figures[REFERENCE], strict=True)]
        print(f"| `{name}` | {spread(seconds, 3)} | {statistics.median(ratios):.2f} | {statistics.median(peaks):.0f} |")
    print(f"\n{rounds} interleaved rounds.")


if __name__ == "__main__":
    main()
