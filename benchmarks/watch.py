"""What `trainkit report --watch` costs the run that it follows: updates a second with it and without, by turns.

    python benchmarks/watch.py [--quick]

One run goes on while a process follows it and makes its page anew; every other turn that process is held still
(SIGSTOP). Each turn with it is compared with the turns without it on both sides. The last rows let it make pages as
fast as it can, without the pause that keeps it out of the way: what the pause is for.

Both ratios are medians over the turns, with the standard error of the mean: of updates a second, which is what counts
and needs a machine on which nothing else goes on, and of updates a second of the run's own processor time, which others
hardly change: it has what the process costs in caches and memory. What it takes of the processors is its own share.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from trainkit import Run, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe

RECIPES = {
    "resnet_cosine": ("run.log_every=5ba",),
    "mlp_digits": ("run.log_every=20ba",),
}
ALWAYS = ("logger=[]", "run.duration=100000ep", "run.evaluate_every=10ep", "run.save_every=100000ep")
HASTY = "import trainkit.report.watch as w; w.SHARE, w.LEAST_SECONDS = 1.0, 0.0; "
MAIN = "import sys; {change}from trainkit.cli import main; sys.exit(main())"


class Turns:
    """Counts the updates of each turn, and lets the watching process work in every other one.

    Args:
        seconds: of a turn.
        turns: with the process; without it there is one more.
        change: done by the process before it begins.
    """

    def __init__(self, seconds: float, turns: int, change: str) -> None:
        self.seconds, self.left, self.change = seconds, 2 * turns + 1, change
        self.rates: list[tuple[float, float]] = []  # updates a second, by the clock and by the run's processor time
        self.cpu = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    @hookimpl
    def trainkit_step_end(self, run: Run) -> None:
        """End the turn when it is time."""
        now = time.perf_counter()
        if self.process is None:
            main = MAIN.format(change=self.change)
            command = [sys.executable, "-c", main, "report", str(run.folder), "--watch", "-q"]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self._wait_for(run.folder / "report.html")
            self._begin(run)
        elif now - self.begun >= self.seconds:
            updates = run.step - self.step
            self.rates.append((updates / (now - self.begun), updates / (time.process_time() - self.spent)))
            if len(self.rates) == self.left:
                run.stop_reason = "all turns are over"
                self.cpu = _cpu_seconds(self.process.pid)
                self.process.kill()
                self.process.wait()
                return
            self.process.send_signal(signal.SIGSTOP if len(self.rates) % 2 == 0 else signal.SIGCONT)
            self._begin(run)

    def _begin(self, run: Run) -> None:
        self.begun, self.spent, self.step = time.perf_counter(), time.process_time(), run.step

    def _wait_for(self, page: Path) -> None:
        """What the process takes to start is no part of what is measured."""
        assert self.process is not None
        while not page.exists() and self.process.poll() is None:
            time.sleep(0.1)
        self.process.send_signal(signal.SIGSTOP)
        self.cpu_before = _cpu_seconds(self.process.pid)

    def ratios(self, clock: int) -> tuple[float, float]:
        """Updates a second of turns with the process over those of the turns around them: median and standard error."""
        rates = [rate[clock] for rate in self.rates]
        found = [2 * rates[i] / (rates[i - 1] + rates[i + 1]) for i in range(1, len(rates), 2)]
        return statistics.median(found), statistics.stdev(found) / len(found) ** 0.5


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(name: str, threads: int, seconds: float, turns: int, change: str) -> str:
    """One row of the table."""
    plugins = Plugins()
    recipe = load_recipe(f"trainkit:{name}", [*ALWAYS, *RECIPES[name], f"run.threads={threads}"], plugins)
    watched = Turns(seconds, turns, change)
    with tempfile.TemporaryDirectory() as folder:
        launch(recipe, plugins, folder=Path(folder) / "run", listeners=[watched], say=lambda text: None)
    share = (watched.cpu - watched.cpu_before) / (turns * seconds)
    rate = statistics.median(rate for rate, _ in watched.rates[::2])
    cells = [f"{middle:>8.4f} +-{error:.4f}" for middle, error in (watched.ratios(0), watched.ratios(1))]
    watch = "no pause" if change else "as shipped"
    return f"{name:<14} {threads:>7} {watch:<10} {rate:>10.1f} {cells[0]} {cells[1]} {share:>9.2%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="show that it works, in seconds")
    quick = parser.parse_args().quick
    heads = ("recipe", "threads", "watch", "updates/s", "by the clock", "by its CPU time", "its share")
    print("{:<14} {:>7} {:<10} {:>10} {:>17} {:>17} {:>9}".format(*heads))
    for change, seconds, turns in (("", 10.0, 6), (HASTY, 2.0, 6)):
        for name in ("mlp_digits",) if quick else RECIPES:
            turn = (0.3, 2) if quick else (seconds, turns)
            print(measured(name, torch.get_num_threads(), *turn, change), flush=True)
