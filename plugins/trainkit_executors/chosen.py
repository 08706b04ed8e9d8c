"""The executor that suits a recipe, found by measuring a few of its updates."""

from __future__ import annotations

from collections.abc import Sequence

from trainkit import Executor, Job, LaneSpeed, Outcome, Site, TrainkitError, lane_speed, open_plugins
from trainkit_executors.here import Serial
from trainkit_executors.pool import Pool, cores, cuda_devices, processes_of
from trainkit_executors.together import Lanes

# What a worker takes to start, mostly torch's import, and to read the data; a trial must take several times that.
START_S = 4.0
WORTH = 3.0
# Lanes must win by so much: two measurements of one thing differ by a tenth now and then.
MARGIN = 1.1


class Auto:
    """Chooses among lanes, processes and one trial after the other when it opens.

    Args:
        lanes: trials at once at the most, where lanes are chosen.
    """

    slots = 1

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._chosen: Executor = Serial()

    def open(self, site: Site) -> None:
        """Measure, choose, and say which and why; where there is one job there is nothing to choose."""
        if site.jobs == 1:
            self._chosen.open(site)
            return
        lanes = min(self._lanes, site.jobs) if site.jobs else self._lanes
        try:
            plugins = open_plugins(list(site.modules), list(site.without))
            speed = lane_speed(site.recipe, plugins, lanes, site.progress)
        except TrainkitError as error:  # the first trial will say it whole
            speed = LaneSpeed(0, obstacle=str(error).splitlines()[0])
        available = len(cuda_devices()) if speed.device == "cuda" else cores()
        name, why = choose(speed, max(1, available // processes_of(site.recipe)))
        if name == "lanes":
            self._chosen = Lanes(speed.lanes)
        elif name == "processes":
            self._chosen = Pool(None, 1, ())
        self._chosen.open(site)
        self.slots = self._chosen.slots
        site.say(f'executor = "auto" takes {name}: {why}')

    def submit(self, job: Job) -> None:
        """Hand a job on."""
        self._chosen.submit(job)

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Let the chosen one work."""
        return self._chosen.wait(seconds)

    def stop(self) -> None:
        """Stop the chosen one."""
        self._chosen.stop()

    def close(self) -> None:
        """Close the chosen one."""
        self._chosen.close()


def choose(speed: LaneSpeed, available: int) -> tuple[str, str]:
    """Which executor, and why.

    Args:
        speed: what was measured of the recipe as written.
        available: cores, or CUDA devices, that this process may use: for how many runs at once.
    """
    if speed.compiled and speed.together:
        return "lanes", "a step is compiled, or loaded, once for all of them"
    seconds = speed.updates * speed.alone
    pays = available > 1 and seconds >= WORTH * START_S
    alone = f"an update takes {1e3 * speed.alone:.3g} ms alone"
    gain = speed.alone / speed.together if speed.together else 0.0
    if gain > MARGIN and gain >= (available if pays else 1.0):
        return "lanes", f"{alone}, and {1e3 * speed.together:.3g} ms as one of {speed.lanes}"
    no_lanes = f"lanes cannot be: {speed.obstacle}" if speed.obstacle else f"{alone}, and lanes save too little"
    if speed.lanes < 2 and not speed.obstacle:  # one at a time was asked for, or memory has room for no more
        no_lanes = alone
    if speed.together:
        no_lanes = f"{alone}, and {1e3 * speed.together:.3g} ms as one of {speed.lanes}"
    if pays:
        return "processes", f"{no_lanes}; {available} processes train trials of about {seconds:.0f} s side by side"
    if available > 1:
        return "serial", f"{no_lanes}; trials of about {seconds:.1f} s are over before workers have started"
    return "serial", f"{no_lanes}; there is one core or device"
