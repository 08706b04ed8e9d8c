"""What it costs to start: CPU seconds and peak memory of whole processes, from nothing to a run of two updates.

    python benchmarks/startup.py [--quick]

The processes run one after the other, A B C A B C …; medians over the rounds, smallest and largest in brackets. CPU
time is that of all threads and of the process's children. Bytecode is compiled before, by a round that does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINKIT = ("-m", "trainkit")
COMMANDS: dict[str, tuple[str, ...]] = {
    'python -c "pass"': ("-c", "pass"),
    "trainkit --help": (*TRAINKIT, "--help"),
    "trainkit list": (*TRAINKIT, "list"),
    "trainkit validate recipes/resnet_cosine.toml": (*TRAINKIT, "validate", "recipes/resnet_cosine.toml"),
    'python -c "import torch"': ("-c", "import torch"),
    "trainkit run recipes/mlp_digits.toml --smoke": (*TRAINKIT, "run", "recipes/mlp_digits.toml", "--smoke"),
}
REFERENCE = 'python -c "import torch"'


def measure(command: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one process.

    Raises:
        RuntimeError: if the process fails.
    """
    log = folder / "output.txt"
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=output, stderr=output)
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
    parser.add_argument("--quick", action="store_true", help="two rounds, to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 11)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, command in COMMANDS.items():
                found = measure(command, Path(folder))
                if number:  # the first round warms up
                    figures[name].append(found)
    print("### Start\n")
    print("| process | CPU seconds | of import torch | peak MB |\n|---|---|---|---|")
    for name, values in figures.items():
        seconds, peaks = [first for first, _ in values], [second for _, second in values]
        ratios = [mine / its for mine, (its, _) in zip(seconds, figures[REFERENCE], strict=True)]
        print(f"| `{name}` | {spread(seconds, 3)} | {statistics.median(ratios):.2f} | {statistics.median(peaks):.0f} |")
    print(f"\n{rounds} interleaved rounds.")


if __name__ == "__main__":
    main()
