"""What every benchmark shares: interleaved rounds, CPU time, ratios round by round."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor


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


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contender once a round, A B C A B C …, and gather the seconds each returns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender())
    return seconds


def in_own_process(stack: contextlib.ExitStack, work: Callable[..., float], *arguments: object) -> Callable[[], float]:
    """A contender that runs in a process of its own, the same in every round, which ends with the stack."""
    process = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return lambda: process.submit(work, *arguments).result()


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
        ratios = sorted(b / v for b, v in zip(seconds[base], values, strict=True))
        median = statistics.median(values) / units * 1e6
        spread = f"{statistics.median(ratios):.2f} [{ratios[0]:.2f} to {ratios[-1]:.2f}]"
        lines.append(f"| {name} | {median:.0f} | {spread} |")
    rounds = len(seconds[base])
    lines += ["", f"{rounds} interleaved rounds of {units} {unit}s each; {clock}."]
    return "\n".join(lines)
