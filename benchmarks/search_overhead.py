"""What a search costs beside its trials: trials that do nothing, a log of ten thousand opened again, memory.

    python benchmarks/search_overhead.py [--quick]

1,000 trials over five settings, each with a value by formula, by random search, interleaved: a whole study of trainkit
(searcher, checked recipe of each trial, driver, every event durable in its log, importances; no pictures), Optuna with
its journal file, and Optuna in memory, which keeps nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import math
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import cpu_seconds, in_own_process, interleave, spread, warm_up

from trainkit import Component, Executor, Job, Outcome, Site, hookimpl

RECIPE = """
recipe = 1
[run]
duration = "10ep"
[data]
use = "synthetic"
[model]
use = "mlp"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.5
weight_decay = 1e-4
[schedule]
use = "cosine"
[search]
use = "random"
trials = {trials}
objective = "val.loss"
test = false
executor = "formula"
[search.space]
"optimizer.lr" = {{ low = 1e-4, high = 1.0, scale = "log" }}
"optimizer.momentum" = {{ low = 0.0, high = 0.99 }}
"optimizer.weight_decay" = {{ low = 1e-6, high = 1e-1, scale = "log" }}
"data.batch_size" = {{ low = 16, high = 256, scale = "log" }}
"schedule.use" = {{ choices = ["cosine", "linear", "constant"] }}
"""


class Formula:
    """An executor whose trials do nothing."""

    slots = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def open(self, site: Site) -> None:
        """Nothing to get ready."""

    def submit(self, job: Job) -> None:
        """Keep it."""
        self.jobs.append(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """All are done, with a value that follows from the trial's number."""
        jobs, self.jobs = self.jobs, []
        return [(job, Outcome("done", {"val.loss": math.sin(job.trial)}, 1.0, 10, 10.0)) for job in jobs]

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing to end."""


def formula() -> Executor:
    """Trials that do nothing, for measuring what is done beside them.

    Source: none.
    """
    return Formula()


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    return [Component("executor", formula)]


def study_in(folder: str, trials: int) -> list[str]:
    """Write the recipe of a study; the words of the command that makes it, without pictures."""
    (Path(folder) / "recipe.toml").write_text(RECIPE.format(trials=trials))
    words = ["run", f"{folder}/recipe.toml", "--run-dir", f"{folder}/study", "-q"]
    return [*words, "-p", __file__, "--without", "reports"]


def by_trainkit(trials: int) -> float:
    """CPU seconds of one study."""
    from trainkit.cli import main

    with tempfile.TemporaryDirectory() as folder:
        words = study_in(folder, trials)
        said = io.StringIO()

        def work() -> None:
            with contextlib.redirect_stderr(said):
                if main(words):
                    raise RuntimeError(said.getvalue())

        return cpu_seconds(work)


def by_optuna(trials: int, journal: bool) -> float:
    """CPU seconds of one study."""
    import optuna
    from optuna.storages import InMemoryStorage, JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Any) -> float:
        trial.suggest_float("lr", 1e-4, 1.0, log=True)
        trial.suggest_float("momentum", 0.0, 0.99)
        trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True)
        trial.suggest_int("batch_size", 16, 256, log=True)
        trial.suggest_categorical("schedule", ["cosine", "linear", "constant"])
        return math.sin(trial.number)

    with tempfile.TemporaryDirectory() as folder:
        storage = JournalStorage(JournalFileBackend(f"{folder}/journal")) if journal else InMemoryStorage()

        def work() -> None:
            study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
            study.optimize(objective, n_trials=trials)

        return cpu_seconds(work)


def opened(trials: int) -> tuple[float, float]:
    """Seconds that a study of so many trials takes to be opened, and megabytes that it then has."""
    from trainkit.cli import main
    from trainkit.search.ledger import read_study

    with tempfile.TemporaryDirectory() as folder:
        words = study_in(folder, trials)
        with contextlib.redirect_stderr(io.StringIO()):
            main(words)
        begun = time.perf_counter()
        study = read_study(Path(folder) / "study")
        seconds = time.perf_counter() - begun
        assert len(study.records) == trials
        del study
        gc.collect()
        tracemalloc.start()
        again = read_study(Path(folder) / "study")
        held = tracemalloc.get_traced_memory()[0] / 2**20
        tracemalloc.stop()
        del again
        return seconds, held


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="twenty trials once, to see that it works")
    options = parser.parse_args()
    trials, rounds = (20, 1) if options.quick else (1000, 7)
    with contextlib.ExitStack() as stack:
        contenders = {
            "trainkit, a whole study": in_own_process(stack, by_trainkit, trials),
            "Optuna, journal file": in_own_process(stack, by_optuna, trials, True),
            "Optuna, in memory": in_own_process(stack, by_optuna, trials, False),
        }
        warm_up(contenders)
        seconds = interleave(contenders, rounds)
    print(f"### {trials} trials that do nothing, random search over five settings\n")
    print("| contender | CPU ms a trial: median [min to max] |\n|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {spread([value / trials * 1e3 for value in values])} |")
    print(f"\n{rounds} interleaved rounds.\n\n| trials in the log | seconds to open | MB held |\n|---|---|---|")
    for count in (20,) if options.quick else (1000, 10_000):
        took, held = opened(count)
        print(f"| {count:,} | {took:.3f} | {held:.1f} |")


if __name__ == "__main__":
    main()
