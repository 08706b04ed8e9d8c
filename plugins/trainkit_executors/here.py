"""Trials one after the other, in the driver's own process."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit import Datasets, Job, Outcome, Site, Stopper, open_plugins, run_job


class Serial:
    """Trains each job where it is waited for."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._stopper = Stopper()

    def open(self, site: Site) -> None:
        """Get ready: the plugins are opened once for all jobs."""
        self._site = site
        self._plugins = open_plugins(site.modules, site.without)
        self._datasets = Datasets()

    def submit(self, job: Job) -> None:
        """Take a job; it is trained in `wait`."""
        self._jobs.append(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Train the job that was taken, however long it takes."""
        rested = []
        while self._jobs:
            job = self._jobs.pop(0)
            stopper = self._stopper
            outcome = run_job(
                job, self._plugins, self._site.measured, stopper, self._datasets, progress=self._site.progress
            )
            self._stopper = Stopper()
            rested.append((job, outcome))
        return rested

    def stop(self) -> None:
        """Let the job stop at its next step boundary; a signal's handler may call it in the middle of `wait`."""
        self._stopper.ask("the search stops")

    def close(self) -> None:
        """Nothing is left to end."""
