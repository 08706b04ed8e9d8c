"""One recipe to one finished run folder, signals and failures included."""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainkit import resuming, rundir
from trainkit.allocator import keep_pages, return_pages
from trainkit.build import build
from trainkit.console import say as console_say
from trainkit.datasets import Datasets
from trainkit.device import TunedConvolutions, tunes
from trainkit.distributed import ONE, Group
from trainkit.distributed.attempts import BEGUN, CLEARED, FOLDER, Attempts, scratch
from trainkit.distributed.sharding import divides
from trainkit.environment import environment
from trainkit.errors import OutOfMemory, TrainkitError
from trainkit.execution import execute
from trainkit.followers import leading
from trainkit.history import remember
from trainkit.loop import Underway
from trainkit.manager import Plugins
from trainkit.microbatch import out_of_memory
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe, fill_toml
from trainkit.restore import Continued
from trainkit.rollback import GoBack, Rollbacks
from trainkit.run import Report, Run
from trainkit.signals import NOTHING_WRITTEN, Signals, StopNow
from trainkit.smoke import smoke as run_smoke
from trainkit.stateful import mute


def launch(
    recipe: Recipe,
    plugins: Plugins,
    *,
    folder: Path | None = None,
    listeners: Sequence[object] = (),
    progress: Progress = silent,
    command: str = "",
    smoke: bool = False,
    profile: bool = False,
    resume: bool = False,
    fresh: bool = False,
    accept_drift: bool = False,
    signals: Signals | None = None,
    test: bool = True,
    say: Callable[[str], None] = console_say,
    datasets: Datasets | None = None,
    group: Group = ONE,
) -> Report:
    """Run a recipe from an empty folder, or from the newest checkpoint of a run that has not ended, to its report.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        folder: the run folder; a new one under `rundir.runs_root` if not given.
        listeners: objects whose hooks join the run, such as a display.
        progress: told about long work before the first update.
        command: what the user typed, kept in ``environment.json``.
        smoke: two updates, one evaluation, one save and load in a temporary folder.
        profile: measure where the time goes, into ``run.profile``.
        resume: continue the run that ``folder`` holds, bit for bit as if it had not been interrupted; where it holds
            none, or one that ended before its first checkpoint, start from the beginning.
        fresh: put a run that ``folder`` holds aside, and start from the beginning.
        accept_drift: continue the run also where what it runs on has changed, or an object's state would be lost.
        signals: what catches signals already; by default they are caught from here to the end of the run.
        test: whether the test split is measured at the end, where the data has one.
        say: told what the log has too; by default it goes to the console.
        datasets: keeps data sets from one run of this process to the next.
        group: the processes that make the run together; each calls this alike, and the first one writes.

    Returns:
        How the run ended: finished, stopped by the recipe, or interrupted by a signal.

    Raises:
        TrainkitError: whatever kept the run from starting or made it fail; its exit code says which.
    """
    signals = signals or Signals()
    if smoke:
        try:
            with signals, signals.at_once():
                return run_smoke(recipe, plugins, listeners, progress)
        except StopNow as stop:
            raise stop.told from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals)
        group = stack.enter_context(leading(recipe, plugins, group, test))
        attempts = Attempts(group.restarts)
        if group.first:
            path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
            path, resume, fresh = attempts.place(path, resume, fresh)
        else:  # what is written here is the process's own, and goes with it
            path = stack.enter_context(scratch()) / "run"
            say, fresh, resume = _nothing, False, False
        if group.restarts and (over := group.from_first(resuming.over(path) if attempts.noted(BEGUN) else None)):
            say(f"{path}: the run was over when one of its processes ended")
            return Report(**over)
        lone = Launch(
            *(recipe, plugins, path, signals, listeners, progress, command, profile),
            test=test,
            say=say,
            datasets=datasets,
            group=group,
            attempts=attempts if group.first and group.size > 1 else None,
        )
        try:
            next(lone.parts(resume, fresh, accept_drift))
        except StopIteration as end:
            report: Report = end.value
            return report
    raise AssertionError("a run of its own makes its updates without a pause")


@dataclass
class Launch:
    """What a run is launched with.

    Args:
        recipe: the checked recipe.
        plugins: the plugins of this process.
        path: the run folder.
        signals: what catches signals.
        listeners: objects whose hooks join the run.
        progress: told about long work before the first update.
        command: what the user typed.
        profile: measure where the time goes.
        together: whether somebody else makes the updates, those of many runs at once: the run pauses for them.
        test: whether the test split is measured at the end.
        say: told what the log has too.
        datasets: keeps data sets from one run of this process to the next.
        light: whether the run waits for the disk at its checkpoints only: somebody has written down what it is, and
            trains it again where a power cut takes it.
        group: the processes that make the run together.
        attempts: what the group that is started again, should one of them end, has to know.
    """

    recipe: Recipe
    plugins: Plugins
    path: Path
    signals: Signals
    listeners: Sequence[object] = ()
    progress: Progress = silent
    command: str = ""
    profile: bool = False
    together: bool = False
    test: bool = True
    say: Callable[[str], None] = console_say
    datasets: Datasets | None = None
    light: bool = False
    group: Group = ONE
    attempts: Attempts | None = None

    def note(self, name: str, text: str = "yes") -> None:
        """Write down how far this is, for a group that is started again."""
        if self.attempts is not None:
            self.attempts.note(name, text)

    def parts(self, resume: bool, fresh: bool, accept_drift: bool) -> Generator[Underway, None, Report]:
        """Run to the report; where updates are made by somebody else it pauses for them.

        Whatever goes wrong with these updates is to be thrown into it. The flags are those of `launch`.
        """
        back = Rollbacks()
        while True:
            try:
                with rundir.RunFolder(self.path, resume, fresh, self.light) as place:
                    self.note(FOLDER, str(self.path.absolute()))
                    return (yield from _attempt(self, place, back, accept_drift))
            except GoBack:
                resume, fresh, accept_drift = self.group.first, False, True
                if not self.group.first:
                    shutil.rmtree(self.path)
            # Built anew, as one that is continued, no part of the run can have kept what is not finite. The parts of
            # the old one refer to each other, and its memory must be free before the new one takes as much.
            self.signals.run = None
            gc.collect()


def _attempt(
    launch: Launch, place: rundir.RunFolder, back: Rollbacks, accept_drift: bool
) -> Generator[Underway, None, Report]:
    """Build the run, from the checkpoint that its folder holds or from nothing, and run it to its report.

    Raises:
        GoBack: if it is to be built again.
        TrainkitError: as `launch`.
    """
    recipe, plugins, signals = launch.recipe, launch.plugins, launch.signals
    started = False
    try:
        with signals.at_once("while the run went back to a checkpoint" if back.factors else NOTHING_WRITTEN):
            newest = resuming.newest_for_all(place, recipe, launch.group)
            found = resuming.find(place, recipe, launch.group, newest) if place.continues else None
            if launch.group.size > 1:
                found = resuming.found_by_first(launch.group, found, recipe, newest)
            planned, settle = (None, None) if found is None else (found.schedule_updates, found.settle)
            say = _said_to(place, launch.say)
            built = build(
                recipe,
                plugins,
                place.path,
                launch.progress,
                launch.listeners,
                say,
                planned,
                settle,
                launch.datasets,
                launch.group,
            )
            run = built.run
            if found is not None:
                if launch.group.first:
                    resuming.refuse_finished(place, found, run)
                found.restore(run)
        signals.run = run
        signals.wish()
        now = _environment(recipe, run, launch.command)
        differs: dict[str, tuple[Any, Any]] = {}
        if found is not None and launch.group.first:
            differs = resuming.check_environment(place, found, now, accept_drift)
            resuming.check_state(run, found, plugins, accept_drift)
        if place.continues:
            resuming.begin(place, found, run.say)
        elif (aside := place.clear()) is not None:
            run.say(f"the run that was here is kept in {aside}; this one starts from the beginning")
        launch.note(CLEARED)
        if found is None and (lost := mute(run)):
            run.say(resuming.lost_state(run, plugins, lost))
        launch.group.wait()  # nothing is written before all are ready
        _remember(place, run, found, now, differs)
        place.describe(fill_toml(recipe), now, run.pretrained)
        started = True
        back.apply(run)
        # Of runs that are trained together none ends the keeping of pages for the others.
        keeps = run.recipe["run"]["keep_pages"] and not launch.together
        pages = keep_pages(keeps) if run.sharded is None else return_pages()
        tuned = TunedConvolutions(tunes(run.recipe["run"], run.device) and not launch.together)
        with pages, tuned, contextlib.closing(run.feed):
            return (yield from execute(built, place, launch, back, found))
    except StopNow as stop:
        raise stop.told from None
    except Exception as error:
        if isinstance(error, TrainkitError) or not out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory while the run was built: {(str(error) or 'no message').splitlines()[0]}\n"
            "  lower data.batch_size or data.eval_batch_size, or set data.loading=streamed"
        ) from error
    finally:
        if not started:
            place.discard()


def _nothing(text: str) -> None:
    """What processes say that do not write."""


def _said_to(place: rundir.RunFolder, tell: Callable[[str], None]) -> Callable[[str], None]:
    def say(text: str) -> None:
        place.log(text)
        tell(f"note: {text}")

    return say


def _environment(recipe: Recipe, run: Run, command: str) -> dict[str, Any]:
    versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
    now = environment(run.seed, str(run.device), command, versions, run.precision.name, recipe.tables.bases)
    return now | _processes(recipe, run)


def _processes(recipe: Recipe, run: Run) -> dict[str, Any]:
    divided = divides(recipe.tables["run"]["strategy"], run.group)
    return {"processes": run.group.size, "strategy": "fsdp" if divided else "ddp" if run.group.size > 1 else None}


def _remember(
    place: rundir.RunFolder,
    run: Run,
    found: Continued | None,
    now: dict[str, Any],
    differs: dict[str, tuple[Any, Any]],
) -> None:
    """Add this process to the run's history."""
    command = now["command"]
    if found is None:
        remember(place.path, "start", 0, command, durable=not place.light, environment=now)
        return
    more: dict[str, Any] = {
        "checkpoint": found.folder.name,
        "processes": now["processes"],
        "strategy": now["strategy"],
        "changed": {change.key: {"was": change.was, "is": change.now, "rule": change.rule} for change in found.changes},
        "accepted": {key: {"was": was, "is": value} for key, (was, value) in differs.items()},
    }
    remember(place.path, "resume", run.step, command, **more)
