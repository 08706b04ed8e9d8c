"""What every benchmark shares: interleaved rounds, CPU time, ratios round by round."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


class Terminal(io.StringIO):
    """Something that takes a progress bar and is not looked at."""

    def isatty(self) -> bool:
        """Say what makes a bar show itself."""
        return True


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds (user and system, all threads) that the work takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def used() -> float:
    """CPU seconds of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def keep_imports() -> None:
    """As the command line does: imported modules are not looked through for garbage from here on."""
    gc.collect()
    gc.freeze()


def by_command(recipe: str, *words: str) -> float:
    """CPU seconds of ``trainkit run`` with this recipe, without pictures; without those of importing torch."""
    import torch

    from trainkit.cli import main

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        file.write_text(recipe)
        keep_imports()
        begun = used()
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["run", str(file), "--run-dir", f"{folder}/made", "-q", "--without", "reports", *words])
        if code:
            raise RuntimeError(said.getvalue())
        return used() - begun


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contender once a round, A B C A B C …, and gather the seconds each returns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def quick() -> bool:
    """Whether it is only to be seen that the benchmark works."""
    return "--quick" in sys.argv


@functools.cache
def shared() -> ProcessPoolExecutor:
    """One process for all contenders, until this one ends."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def warm_up(contenders: Mapping[str, Callable[[], float]]) -> None:
    """A round that does not count: imports, caches, programs; none with ``--quick``."""
    if not quick():
        interleave(contenders, 1)


def in_own_process(stack: contextlib.ExitStack, work: Callable[..., float], *arguments: object) -> Callable[[], float]:
    """A contender that runs in a process of its own, the same in every round, which ends with the stack.

    With ``--quick``, which times nothing worth keeping, all contenders share one: starting it costs most.
    """
    if quick():
        return lambda: shared().submit(work, *arguments).result()
    process = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return lambda: process.submit(work, *arguments).result()


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median of the rounds, and their range."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{low} to {high}]"


def ratios(seconds: Sequence[float], others: Sequence[float]) -> list[float]:
    """Round by round, the first over the second."""
    return [one / other for one, other in zip(seconds, others, strict=True)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of the mean at 95 %."""
    from scipy.stats import ttest_1samp

    found = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def mean_cell(values: Sequence[float], form: str) -> str:
    """The mean, and its interval where there are several values."""
    if len(values) < 2:
        return form.format(values[0])
    low, high = interval(values)
    return f"{form.format(statistics.mean(values))} [{form.format(low)}, {form.format(high)}]"


def keep(file: Path, figures: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Put figures into a file of such, a line for each name; the others stay there."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name, rows in figures.items():
        kept[name] = [[float(f"{value:.8g}") for value in row] for row in rows]
    lines = (f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in kept.items())
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def table(
    title: str,
    seconds: Mapping[str, list[float]],
    base: str,
    units: int,
    unit: str,
    clock: str = "CPU time of one thread",
) -> str:
    """A Markdown table of speed relative to ``base``: the median of the ratios of each round, and their range.

    Args:
        title: what stands above it.
        seconds: seconds of each round by contender.
        base: the contender that counts as 1.
        units: how many units of work a round does.
        unit: what a unit is called.
        clock: what the seconds are.
    """
    heads = f"| contender | µs a {unit} (median) | x {base}: median [min to max] |"
    lines = [f"### {title}", "", heads, "|---|---|---|"]
    for name, values in seconds.items():
        median = statistics.median(values) / units * 1e6
        lines.append(f"| {name} | {median:.0f} | {spread(ratios(seconds[base], values))} |")
    rounds = len(seconds[base])
    lines += ["", f"{rounds} interleaved rounds of {units} {unit}s each; {clock}."]
    return "\n".join(lines)
