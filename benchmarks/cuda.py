"""All that is promised of CUDA, measured on one device in one call, as one table.

    python benchmarks/cuda.py [--out FILE] [--minutes 9.5] [--only PART ...] [--data FOLDER] [--dry]

Each part of cuda_parts.py runs in a process of its own: one that fails, hangs or breaks the device takes nothing with
it but its own rows, and the table is written anew after each. What does not fit into the minutes is named as left out.
``--data`` is a folder that holds CIFAR-10, as TRAINKIT_DATA is, for the recipe to 94 %. ``--dry`` does a little of
everything on the CPU, to see that the script works before a device is lent.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Parts in the order in which they are tried, and the seconds that each may take.
PARTS = {
    "machine": 40,
    "waits": 60,
    "tests": 120,
    "loop_mlp": 110,
    "loop_resnet": 120,
    "lanes_mlp": 60,
    "lanes_resnet": 75,
    "layout": 60,
    "loading": 60,
    "memory": 45,
    "speed": 90,
}
QUICK = "machine waits loop_mlp lanes_mlp"  # one process for all of them: to start it costs most
LEAST_S = 15.0  # with less time left no part is begun
HEAD = ("| part | what | figure | target | reached |", "|---|---|---|---|---|")


def tried(part: str, seconds: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a part, as far as it came."""
    command = [sys.executable, str(HERE / "cuda_parts.py"), *part.split(), *(["--dry"] if options.dry else [])]
    if options.data:
        command += ["--data", str(options.data)]
    folders = [*options.found, str(HERE.parent), str(HERE.parent / "plugins"), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, folders))
    begun, why = time.monotonic(), ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        environment = os.environ | {"PYTHONPATH": path}
        process = subprocess.Popen(command, stdout=out, stderr=said, text=True, env=environment, start_new_session=True)
        try:
            if code := process.wait(seconds):
                why = f"ended with {code}"
        except subprocess.TimeoutExpired:
            why = f"took more than {seconds:.0f} s"
        finally:
            if process.returncode is None:  # with what it has started, which would be on the device still
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        said.seek(0)
        lines = [line for line in out.read().splitlines() if line.startswith('{"what"')]
        last = [line.strip() for line in said.read().splitlines() if line.strip()][-1:]
    rows = [{"part": part, **json.loads(line)} for line in lines]
    if options.dry:  # what a target is for is not there
        rows = [{**row, "reached": ""} for row in rows]
    if why:
        rows.append({"part": part, "what": "**failed**", "figure": f"{why}: {' '.join(last)[:200]}"})
    print(f"{part}: {len(rows)} rows in {time.monotonic() - begun:.0f} s {why}", file=sys.stderr, flush=True)
    return rows


def as_installed(folder: Path) -> list[str]:
    """What lets a plain copy of the sources find its plugins: what an installation writes down; empty where it did."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.distribution("trainkit")
        return []
    text = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    (begin, end), points = ("[project.entry-points.trainkit]\n", "\n["), folder / "trainkit-0.1.0.dist-info"
    points.mkdir()
    (points / "METADATA").write_text("Metadata-Version: 2.1\nName: trainkit\nVersion: 0.1.0\n")
    listed = text.partition(begin)[2].partition(end)[0].replace('"', "")
    (points / "entry_points.txt").write_text(f"[trainkit]\n{listed}\n")
    return [str(folder)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    cells = [
        [str(row.get(key, "")).replace("|", "/") for key in ("part", "what", "figure", "target", "reached")]
        for row in rows
    ]
    return "\n".join([*HEAD, *(f"| {' | '.join(row)} |" for row in cells)]) + "\n"


def main() -> None:
    """Try all parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="a little of everything, on the CPU")
    parser.add_argument("--quick", action="store_true", help="the same of a few parts, in one process")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=None)
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together")
    parser.add_argument("--data", type=Path, help="a folder that holds CIFAR-10")
    parser.add_argument("--out", type=Path, help="a file for the table")
    options = parser.parse_args()
    options.dry = options.dry or options.quick
    options.only = options.only or ([QUICK] if options.quick else list(PARTS))
    with tempfile.TemporaryDirectory() as folder:
        options.found = as_installed(Path(folder))
        rows = tried_all(options)
    print(table(rows))
    if options.dry and any(row["what"] == "**failed**" for row in rows):
        raise SystemExit(1)


def tried_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all parts."""
    deadline, rows = time.monotonic() + 60 * options.minutes, list[dict[str, Any]]()
    for part in options.only:
        left = deadline - time.monotonic()
        if left < LEAST_S:
            rows.append({"part": part, "what": "left out", "figure": "no time was left"})
        else:
            rows += tried(part, min(sum(PARTS[one] for one in part.split()), left), options)
        if options.out:
            options.out.write_text(table(rows), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
