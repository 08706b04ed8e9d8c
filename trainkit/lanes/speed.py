"""How fast the runs of a recipe train as lanes, and how fast one by one, measured on runs that leave no trace."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from trainkit.build import make_ready, prepare
from trainkit.dataset import Batch
from trainkit.device import TunedConvolutions, tunes
from trainkit.feed.streamed import StreamedFeed
from trainkit.lanes.fit import obstacle
from trainkit.lanes.lane import Lane
from trainkit.lanes.memory import lanes_that_fit
from trainkit.lanes.probe import one_line
from trainkit.lanes.stack import Stack
from trainkit.manager import Plugins
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe
from trainkit.run import Run
from trainkit.seeding import put_back_generators, random_generators
from trainkit.steps import eager_step

WARM, MEASURED = 5, 20  # updates before and in the measurement
MOST_S = 2.0  # a measurement ends here, with what it has


@dataclass(frozen=True)
class LaneSpeed:
    """Seconds of one run's update, alone and as one of several lanes.

    Args:
        updates: updates that the recipe's run makes.
        alone: seconds of one update, made by itself; 0 where it could not be measured.
        together: seconds of one update of one lane, where ``lanes`` are trained at once; 0 where that cannot be.
        lanes: how many lanes were measured: fewer than were asked for where memory is short.
        obstacle: why the recipe's run cannot be a lane; empty if it can.
        device: the kind of device that the run is on.
        compiled: whether the recipe asks for a compiled step; updates are measured without.
    """

    updates: int
    alone: float = 0.0
    together: float = 0.0
    lanes: int = 1
    obstacle: str = ""
    device: str = "cpu"
    compiled: bool = False


def speed_of(recipe: Recipe, plugins: Plugins, lanes: int, progress: Progress = silent) -> LaneSpeed:
    """Measure a few updates of a recipe's run both ways; global random numbers stay as they were.

    Args:
        recipe: the recipe as written.
        plugins: the plugins of this process.
        lanes: how many are to be trained at once.
        progress: told about long work before the first update.

    Raises:
        TrainkitError: if the run cannot be built.
    """
    before, threads = random_generators(torch.device("cpu")), torch.get_num_threads()
    try:
        run = prepare(recipe, plugins, Path("speed"), progress, say=lambda text: None, begins=False)
        make_ready(run)
        try:
            compiled = run.recipe["run"]["compile"] == "step"
            return dataclasses.replace(_measured(recipe, run, lanes), compiled=compiled)
        finally:
            run.feed.close()
    finally:
        torch.set_num_threads(threads)
        put_back_generators(before, torch.device("cpu"))


def _measured(recipe: Recipe, run: Run, lanes: int) -> LaneSpeed:
    kind = run.device.type
    try:
        # One at a time needs no lane; to find out whether it could be one takes longer than to measure it.
        why = "" if lanes < 2 else of_feed(run) or obstacle(recipe, run)
        count = 1 if why else min(lanes, lanes_that_fit(run))
        copies = [_copy(run) for _ in range(count)] if count > 1 else []
    except (Exception, SystemExit) as error:  # such a run is trained one by one, and may well fail by itself
        why, count, copies = one_line(error), 1, []
    # Eagerly both ways: compiling would take longer than many a trial, and speeds both up.
    eager = {**run.recipe, "run": {**run.recipe["run"], "compile": False}}
    for one in (run, *copies):
        one.recipe = eager
    try:
        step, batches = eager_step(run, bool(run.metrics)), _full(run)
        with TunedConvolutions(tunes(run.recipe["run"], run.device)):  # those together tune by themselves
            alone = _seconds(run, lambda: step([[next(batches)]]))
    except (Exception, SystemExit) as error:  # the runs themselves will say what is wrong with them
        return LaneSpeed(run.total_updates, obstacle=why or one_line(error), device=kind)
    if not copies:
        return LaneSpeed(run.total_updates, alone, lanes=count, obstacle=why, device=kind)
    try:
        stack = Stack([Lane(copied, recipe) for copied in copies])
        taken = _full(run)
        together = _seconds(run, lambda: stack.update([next(taken)] * count)) / count
    except (Exception, SystemExit) as error:
        return LaneSpeed(run.total_updates, alone, obstacle=one_line(error), device=kind)
    return LaneSpeed(run.total_updates, alone, together, count, device=kind)


def of_feed(run: Run) -> str:
    """Why the feed of a run keeps it from being a lane; empty if it does not."""
    if isinstance(run.feed, StreamedFeed) and run.feed.workers:
        return 'worker processes make its batches; loading = "resident" or workers = 0 lets many runs share them'
    return ""


def _copy(run: Run) -> Run:
    """A run with a model and an optimizer of its own; all else is shared."""
    shared = (run.feed, run.hook, run.recipe, run.clock, run.reactions, run.metrics, run.loss, run.precision)
    memo = {id(part): part for part in shared}
    return copy.deepcopy(run, memo)


def _full(run: Run) -> Iterator[Batch]:
    """Batches of full size, without end."""
    while True:
        for batch in run.feed.train(0):
            if len(batch) == run.feed.batch_size or run.feed.batches_per_epoch == 1:
                yield batch


def _seconds(run: Run, update: Callable[[], object]) -> float:
    """Seconds of one call: the median of a few, after some that warm up."""
    found: list[float] = []
    began = time.perf_counter()
    for number in range(WARM + MEASURED):
        start = time.perf_counter()
        update()
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        now = time.perf_counter()
        if number >= WARM or now - began > MOST_S:
            found.append(now - start)
        if now - began > MOST_S:
            break
    return statistics.median(found)
