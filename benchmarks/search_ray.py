"""What a trial on a cluster costs beside its training: the executor `ray`, and Ray Tune with reused actors.

    python benchmarks/search_ray.py [--quick]

Jobs that do nothing, two at a time, on a local cluster. Ray Tune joins where `ray[tune]` is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import trainkit_ray.driver
from trainkit import Job, Outcome, Site
from trainkit_ray.share import Share
from trainkit_ray.worker import ENDED, Worker


class Idle(Worker):  # type: ignore[misc]
    """A worker whose jobs are done before they begin."""

    def _carried_out(self, job: Any, plugins: Any, datasets: Any) -> Any:
        return ENDED, Outcome("done", {"val.loss": 1.0})


def executor(jobs: int) -> tuple[float, float]:
    """Wall milliseconds, and CPU milliseconds of the driver, of a job; workers are warm."""
    trainkit_ray.driver.Worker = Idle  # type: ignore[misc,attr-defined]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ray = trainkit_ray.driver.RayExecutor("local", 2, Share())
        ray.open(Site(folder))
        try:
            _carry_out(ray, folder, 4)
            begun, used = time.perf_counter(), time.process_time()
            _carry_out(ray, folder, jobs)
            return (time.perf_counter() - begun) / jobs * 1e3, (time.process_time() - used) / jobs * 1e3
        finally:
            ray.close()


def _carry_out(ray: Any, folder: Path, jobs: int) -> None:
    sent = done = 0
    while done < jobs:
        while sent < jobs and sent - done < ray.slots:
            ray.submit(Job(sent, 0, "x" * 1500, folder / f"{sent}"))
            sent += 1
        done += len(ray.wait(5))


def tuned(jobs: int) -> float:
    """Wall milliseconds of a trial that does nothing, its start and end included."""
    import ray
    from ray import tune

    def nothing(config: Any) -> None:
        tune.report({"loss": 0.0})

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = tune.TuneConfig(num_samples=jobs, reuse_actors=True)
            where = tune.RunConfig(verbose=0, storage_path=folder)
            begun = time.perf_counter()
            tune.Tuner(nothing, tune_config=config, run_config=where).fit()
            return (time.perf_counter() - begun) / jobs * 1e3
    finally:
        ray.shutdown()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten jobs, without Ray Tune, to see that it works")
    options = parser.parse_args()
    wall, cpu = executor(10 if options.quick else 1000)
    theirs = math.nan
    if not options.quick:
        with contextlib.suppress(ImportError):
            theirs = tuned(100)
    print("| contender | jobs | wall ms a job |\n|---|---|---|")
    print(f'| executor = "ray" ({cpu:.2f} CPU ms in the driver) | {10 if options.quick else 1000} | {wall:.2f} |')
    if not math.isnan(theirs):
        print(f"| Ray Tune, reused actors | 100 | {theirs:.1f} |\n\n{theirs / wall:.0f} times cheaper.")


if __name__ == "__main__":
    main()
