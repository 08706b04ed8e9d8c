"""Jobs trained together as lanes: sorted by structure, refilled as places become free, one by one where need be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Sequence

import torch

from trainkit.allocator import keep_pages
from trainkit.errors import MachineError
from trainkit.lanes.fit import seen, structure
from trainkit.lanes.group import Group
from trainkit.lanes.lane import Lane
from trainkit.lanes.member import Ahead, Member
from trainkit.lanes.memory import lanes_that_fit
from trainkit.lanes.probe import differing, one_line
from trainkit.lanes.speed import LaneSpeed as LaneSpeed
from trainkit.lanes.speed import of_feed, speed_of
from trainkit.lanes.stack import Stack
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import recipe_from_text
from trainkit.seeding import put_back_generators, random_generators
from trainkit.signals import Stopper
from trainkit.trial_run import Datasets, job_parts
from trainkit.work import Job, Measured, Outcome


class LaneGroup:
    """Trains jobs together. Each writes the run folder that it would have written alone, times apart.

    Args:
        plugins: the plugins of this process.
        measured: told each evaluation of a job; gives a reason to prune it there, or ``""``.
        say: tells the user something, once.
        lanes: jobs that are trained at once at the most; fewer where memory is short.
        make: makes the stack of some lanes.
        progress: told about long work before a job's first update.
    """

    def __init__(
        self,
        plugins: Plugins,
        measured: Callable[[Job, Measured], str] = lambda job, measured: "",
        say: Callable[[str], None] = print,
        lanes: int = 32,
        make: Callable[[Sequence[Lane]], Stack] = Stack,
        progress: Progress = silent,
    ) -> None:
        self.lanes = lanes
        self._plugins = plugins
        self._measured = measured
        self._say = say
        self._make = make
        self._progress = progress
        self._datasets = Datasets()
        self._queue: list[Member] = []
        self._groups: dict[Hashable, Group] = {}
        self._differing: dict[Hashable, str] = {}  # what computing a small batch both ways has shown, by structure
        self._said: set[str] = set()
        self._within = contextlib.ExitStack()
        self._kept = False
        self._fatal: MachineError | None = None
        self._stopping = ""

    def __len__(self) -> int:
        return len(self._queue) + sum(len(group.everyone) for group in self._groups.values())

    def add(self, job: Job) -> None:
        """Take a job; it is begun at the next `work`."""
        stopper, ahead = Stopper(), Ahead()
        given = self._plugins, self._measured, stopper, self._datasets
        parts = job_parts(job, *given, listeners=[ahead], progress=self._progress)
        self._queue.append(Member(job, parts, stopper, ahead))

    def work(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Train, for about so long, until jobs have come to rest; give them.

        Raises:
            MachineError: if no other run will fare better: the disk is full, a device is missing. The others have then
                stopped, with a checkpoint where that could be.
        """
        end, cpu = time.monotonic() + seconds, torch.device("cpu")
        drawn = random_generators(cpu)
        try:
            return self._work(end)
        finally:
            put_back_generators(drawn, cpu)

    def _work(self, end: float) -> list[tuple[Job, Outcome]]:
        while True:
            if self._fatal is not None and not len(self):
                raise self._fatal
            rested = self._begin()
            if self._stopping:  # also those that were on their way from one place to another
                self._ask()
            for group in list(self._groups.values()):
                if group.everyone and not rested:
                    rested += group.work()
            for member in rested:
                if member.fatal is not None and self._fatal is None:
                    self._fatal = member.fatal
                    self.stop()
            ended = [(member.job, member.outcome) for member in rested if member.outcome is not None]
            if ended or (not len(self) and self._fatal is None) or time.monotonic() >= end:
                return ended

    def stop(self, why: str = "the search stops") -> None:
        """Let every job stop at its next step boundary with a checkpoint; signal handlers may call it at any time."""
        self._stopping = self._stopping or why
        self._ask()

    def _ask(self) -> None:
        for member in (*self._queue, *(member for group in self._groups.values() for member in group.everyone)):
            member.stopper.ask(self._stopping)

    def close(self) -> None:
        """Leave every run as if its process were killed here, and give memory back."""
        for member in (*self._queue, *(member for group in self._groups.values() for member in group.everyone)):
            self._within.callback(member.close)  # each of them, whatever another one raises
        self._queue, self._groups = [], {}
        self._within.close()

    def _begin(self) -> list[Member]:
        """Build the runs of new jobs, and sort them; give those that have nothing to train."""
        rested = []
        if self._queue and not self._kept:
            # As a run of its own would do; not all lanes do it, since the first to end would end it for all.
            self._within.enter_context(keep_pages())
            self._kept = True
        while self._queue:
            member = self._queue[0]
            member.proceed()
            self._queue.pop(0)
            if member.rests:
                rested.append(member)
            else:
                self._sort(member)
        return rested

    def _sort(self, member: Member) -> None:
        try:
            group = self._group_of(member)
        except (Exception, SystemExit) as error:
            # Not kept in mind for its structure. By itself the run fails where it has to, and the others go on.
            group = self._one_by_one(f"whether they can be cannot be found out ({one_line(error)})")
        group.waiting.append(member)

    def _group_of(self, member: Member) -> Group:
        assert member.lane is not None
        run, recipe = member.run, member.lane.recipe
        if why := seen(recipe, run) or of_feed(run):
            return self._one_by_one(why)
        # Batches of a stack have one size, the last of an epoch too, and folds differ by a sample or so.
        key: Hashable = structure(recipe, run), run.feed.spec.sizes["train"]
        if key not in self._differing:
            self._differing[key] = differing(run)
        if why := self._differing[key]:
            return self._one_by_one(why)
        if key not in self._groups:
            most = self.lanes
            if most > 1 and (room := lanes_that_fit(run)) < most:
                most = room
                self._say_once(
                    f"{room} trials at once are trained as lanes, not {self.lanes}: memory has no room for more"
                )
            self._groups[key] = Group(most, self._say_once, self._make)
        return self._groups[key]

    def _one_by_one(self, why: str) -> Group:
        """The group of those that cannot be lanes."""
        self._say_once(f"trials are trained one by one, not as lanes: {why}")
        return self._groups.setdefault("one by one", Group(1, self._say_once, self._make))

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def lane_speed(recipe: str, plugins: Plugins, lanes: int, progress: Progress = silent) -> LaneSpeed:
    """Measure how fast the runs of a recipe train as lanes, and how fast one by one.

    Args:
        recipe: the recipe as written, as TOML without ``[search]``.
        plugins: the plugins of this process.
        lanes: how many are to be trained at once.
        progress: told about long work before the first update.

    Raises:
        TrainkitError: if its run cannot be built.
    """
    return speed_of(recipe_from_text(recipe, "the recipe", [], plugins), plugins, lanes, progress)
