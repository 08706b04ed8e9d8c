"""How long ``trainkit runs`` takes over thousands of runs, beside a script that reads all of them.

    python benchmarks/runs.py [--quick] [--runs N]

Run folders are made of one real recipe with other numbers in it, as many as asked for (3,000). Each command is a
process of its own, as a user starts it: the first one, which reads everything; the next one, which finds in the index
what has not changed; one after ten runs have changed; and a script that reads every recipe.toml and report.json. The
table has the median of several processes and the ratio to the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.recipe.write import fill_toml

OLD = time.time() - 3600  # files of this minute are read anew: a clock's grain may hide a change
SCRIPT = """
import json, sys, tomllib
from pathlib import Path
rows = []
for file in Path(sys.argv[1]).glob("*/recipe.toml"):
    recipe, report = tomllib.loads(file.read_text()), json.loads((file.parent / "report.json").read_text())
    if recipe["optimizer"]["use"] == "adamw":
        rows.append((report["metrics"]["val.accuracy"], file.parent.name))
for row in sorted(rows, reverse=True)[:30]:
    print(*row)
"""


def make(root: Path, count: int) -> None:
    """Make run folders."""
    recipe = fill_toml(load_recipe("trainkit:mlp_digits", [], Plugins()))
    for number in range(count):
        folder = root / f"run-{number:05}"
        (folder / "checkpoints").mkdir(parents=True)
        text = recipe.replace("seed = 17", f"seed = {number}", 1).replace(
            "lr = 0.003", f"lr = {1e-5 * (number + 1)}", 1
        )
        write(folder / "recipe.toml", text)
        value = {"val.loss": 1 / (number + 1), "val.accuracy": number / count, "test.accuracy": 0.5}
        best = {"step": 400, "metric": "val.loss", "value": value["val.loss"]}
        report = {"status": "finished", "reason": "", "steps": 400, "epochs": 20.0, "seconds": 1.5}
        write(
            folder / "report.json", json.dumps({**report, "metrics": value, "best": best, "weights_sha256": "0" * 64})
        )
        write(folder / "metrics.jsonl", "{}\n" * 40)


def write(file: Path, text: str) -> None:
    """Write a file that looks an hour old."""
    file.write_text(text)
    os.utime(file, (OLD, OLD))


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """How long a process takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundred runs, once: to see that it works")
    parser.add_argument("--runs", type=int, default=3000, metavar="N", help="how many; default: 3000")
    options = parser.parse_args()
    count, rounds = (100, 1) if options.quick else (options.runs, 7)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "runs"
        make(root, count)
        environment = {**os.environ, "TRAINKIT_CACHE": f"{place}/cache"}
        asked = ["runs", str(root), "--filter", "optimizer.use=adamw", "--sort", "val.accuracy"]
        verb = [sys.executable, "-m", "trainkit", *asked]
        found: dict[str, list[float]] = {
            "a script that reads all": [],
            "first": [],
            "again": [],
            "ten have changed": [],
        }
        for turn in range(rounds):
            found["a script that reads all"].append(seconds([sys.executable, "-c", SCRIPT, str(root)], environment))
            for index in Path(place, "cache").glob("runs/*"):
                index.unlink()
            found["first"].append(seconds(verb, environment))
            found["again"].append(seconds(verb, environment))
            for number in range(10):
                file = root / f"run-{(10 * turn + number) % count:05}" / "report.json"
                write(file, file.read_text() + "\n")
            found["ten have changed"].append(seconds(verb, environment))
    peer = statistics.median(found["a script that reads all"])
    print(f"{count:,} runs, median of {rounds} processes\n\n| | seconds | ratio |\n|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.3f} | {statistics.median(times) / peer:.2f} |")


if __name__ == "__main__":
    main()
