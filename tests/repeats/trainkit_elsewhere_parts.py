"""An executor that says it trains elsewhere, and trains here: what ``--on`` does needs no cluster to be seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainkit import Component, Job, Outcome, Site, Stopper, hookimpl, open_plugins, run_job


class Far:
    """Notes where it was asked to train, and trains here."""

    slots = 1

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.stopper = Stopper()

    def open(self, site: Site) -> None:
        """Note the place."""
        self.site = site
        with open("places.txt", "a", encoding="utf-8") as file:
            file.write(f"{site.where} {os.fspath(site.folder)}\n")
        self.plugins = open_plugins(site.modules, site.without)

    def submit(self, job: Job) -> None:
        """Take a job."""
        self.jobs.append(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Train it; the first time where a file says so, it dies instead."""
        job = self.jobs.pop(0)
        dies = Path("dies")
        if dies.exists():
            dies.unlink()
            return [(job, Outcome("killed", message="its worker died"))]
        if Path("stops").exists():
            self.stopper.ask("stopped")
        return [(job, run_job(job, self.plugins, self.site.measured, self.stopper, say=self.site.say))]

    def stop(self) -> None:
        """Nothing: it is asked between two jobs."""
        self.stopper.ask("stopped")

    def close(self) -> None:
        """Nothing."""


def far() -> Far:
    """Trains elsewhere, as it says."""
    return Far()


@hookimpl
def trainkit_components() -> list[Component]:
    """The executor."""
    return [Component("executor", far, capabilities={"elsewhere": True})]
