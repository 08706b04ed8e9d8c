"""Trials trained together as lanes of one vectorised model, in the driver's own process."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit import Job, LaneGroup, Outcome, Site, open_plugins


class Lanes:
    """Trains many jobs at once; what cannot be a lane is trained by itself, and why is said once.

    Args:
        lanes: how many at the most.
    """

    def __init__(self, lanes: int) -> None:
        self.slots = lanes

    def open(self, site: Site) -> None:
        """Get ready: the plugins are opened once for all jobs."""
        plugins = open_plugins(list(site.modules), list(site.without))
        self._group = LaneGroup(plugins, site.measured, site.say, self.slots, progress=site.progress)

    def submit(self, job: Job) -> None:
        """Take a job; it is begun in `wait`."""
        self._group.add(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Train until jobs have come to rest, or for about so long."""
        return self._group.work(seconds)

    def stop(self) -> None:
        """Let every job stop at its next step boundary; a signal's handler may call it in the middle of `wait`."""
        self._group.stop()

    def close(self) -> None:
        """Leave what is still being trained as if the process were killed."""
        self._group.close()
