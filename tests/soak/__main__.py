"""Every promise of reliability, tried as often as it is worth: ``python -m tests.soak [--quick] [topic ...]``.

Prints a table and keeps it in ``docs/soak.md``; topics that are not run keep their rows.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "soak.md"
HEADS = "| topic | promise | cases | failures | seconds |"


class Topic(NamedTuple):
    """What is tried.

    Args:
        promise: guarantee, in words.
        function: module and function, which takes a count and a seed and gives a line for each failure.
        count: how often, in full.
        quick: how often with ``--quick``; a tenth if 0.
    """

    promise: str
    function: str
    count: int
    quick: int = 0


TOPICS = {
    "kills": Topic("G1: killed at random instants, five times a run: the same end", "kills:check", 500),
    "group": Topic("G1: any process of several killed: all end in 30 s, the same end", "group_kills:check", 100, 5),
    "torchrun": Topic("G1: the same under torchrun, which starts them again", "torchrun:check", 5, 1),
    "deaths": Topic("G2: dying before and after each I/O call of a save: the same end", "deaths:check", 10_000, 40),
    "power": Topic("G3: power lost at any call: every acknowledged checkpoint is there", "power_loss:check", 2000),
    "power-unsynced": Topic("G3: the same without fsync notices what is lost", "__main__:unsynced", 200, 20),
    "disk": Topic("G4: full or failing disk at each I/O call: an older checkpoint loads", "disk:check", 10_000, 80),
    "small-disk": Topic("G4: a run on a disk that is too small, then grown", "__main__:small_disk", 1, 1),
    "damage": Topic("G5: flipped bits, cut, missing and planted files are noticed", "damage:check", 3000),
    "signals": Topic("G7: signals at random instants: saved, and the same end", "signals:check", 100),
    "nonfinite": Topic("G8: NaN at random places never reaches a checkpoint", "nonfinite:check", 50),
    "memory": Topic("G9: out of memory at each hook: a whole checkpoint", "exceptions:check_memory", 100),
    "workers": Topic("G10: killed data workers: no hang, the same end or a message", "workers:check", 50),
    "exceptions": Topic("G11: an exception at each hook is named, and the run resumes", "exceptions:check", 100),
    "imports": Topic("G11: a plugin that fails while it is imported", "exceptions:check_import", 5, 1),
    "clocks": Topic("G12: clocks that stand, run backwards or are years off", "clocks:check", 40),
    "races": Topic("G13: 2 to 8 processes begin in one folder: one runs", "races:check", 50),
    "audited": Topic("G18, G20, G21: recipes and checkpoints of strangers run no code", "audited:check", 400),
    "recipes": Topic("G19: fuzzed recipes: one message, never a traceback", "recipes:check", 1000),
    "strangers": Topic("G20: checkpoints that lie, with right checksums", "strangers:check", 1000),
}


def unsynced(count: int, seed: int) -> list[str]:
    """Without fsync checkpoints must be found lost: the test of the test."""
    from tests.soak import power_loss

    lost = power_loss.check(count, seed, fsync=False)
    return [] if len(lost) > count // 10 else [f"of {count} states only {len(lost)} have lost something"]


def small_disk(count: int, seed: int) -> list[str] | None:
    """A run on a small file system of its own; None where none can be mounted."""
    from tests.soak import disk

    return disk.small_disk(seed)


def main() -> int:
    """Run topics, print and keep the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=", ".join(TOPICS))
    parser.add_argument("--quick", action="store_true", help="a tenth of each; the page is left as it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="so many cases instead; the page is left as it is")
    given = parser.parse_args()
    if wrong := [name for name in given.topics if name not in TOPICS]:
        parser.error(f"no topic {', '.join(wrong)}; there are {', '.join(TOPICS)}")
    rows = known_rows()
    failed = False
    for name in given.topics or TOPICS:
        topic = TOPICS[name]
        module, _, function = topic.function.partition(":")
        check: Callable[[int, int], list[str] | None] = getattr(
            importlib.import_module(f"tests.soak.{module}"), function
        )
        count = given.count or ((topic.quick or topic.count // 10) if given.quick else topic.count)
        begun = time.perf_counter()
        failures = check(count, given.seed)
        seconds = time.perf_counter() - begun
        cases = getattr(check, "cases", count)
        note = getattr(check, "note", "")
        shown = "skipped: nothing can be mounted here" if failures is None else str(len(failures))
        row = f"| {name} | {topic.promise} | {cases:,}{f' ({note})' if note else ''} | {shown} | {seconds:.0f} |"
        print(row, flush=True)
        for failure in (failures or [])[:10]:
            print(f"    {failure}", file=sys.stderr, flush=True)
        failed |= bool(failures)
        rows[name] = row
        if not given.quick and given.count is None:
            keep(rows)
    return int(failed)


def known_rows() -> dict[str, str]:
    """The rows that the page has."""
    if not PAGE.exists():
        return {}
    found = re.findall(r"^\| ([a-z-]+) \|.*\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return {name: next(line for line in lines if line.startswith(f"| {name} |")) for name in found if name in TOPICS}


def keep(rows: dict[str, str]) -> None:
    """Write the page."""
    import torch

    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    lines = [
        "# The soak",
        "",
        "What is promised of runs, checkpoints and recipes, tried as often as the table says; a small part of it is in",
        "the test suite. `python -m tests.soak` makes the table anew in about a quarter of an hour on two cores;",
        "`python -m tests.soak kills races` two of its rows, `--quick` a tenth. *The same end* means equal",
        "`weights_sha256`, figures and lines of `metrics.jsonl` but for their times, and nothing left in the folder.",
        "",
        HEADS,
        "|---|---|---|---|---|",
        *(rows[name] for name in TOPICS if name in rows),
        "",
        f"{machine}; {versions}; on a machine that others use too.",
        "",
    ]
    PAGE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
