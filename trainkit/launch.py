"""One recipe to one finished run folder, signals and failures included."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainkit import checkpoint, resuming, rundir
from trainkit.allocator import keep_pages
from trainkit.build import Built, build
from trainkit.console import say as console_say
from trainkit.datasets import Datasets
from trainkit.doubts import held_against_state
from trainkit.environment import environment
from trainkit.errors import NotFinite, OutOfMemory, RunError, TrainkitError
from trainkit.history import remember
from trainkit.loop import Underway, course, make_updates
from trainkit.manager import Plugins
from trainkit.microbatch import out_of_memory
from trainkit.outcome import failure_report, named, report_of
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe, fill_toml
from trainkit.recorder import Recorder
from trainkit.restore import Continued
from trainkit.rollback import GoBack, Rollbacks
from trainkit.run import Report, Run, Status
from trainkit.signals import NOTHING_WRITTEN, CutShort, Signals, StopNow
from trainkit.smoke import smoke as run_smoke
from trainkit.stateful import mute
from trainkit.verified import fitting


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
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    lone = Launch(
        recipe, plugins, path, signals, listeners, progress, command, profile, test=test, say=say, datasets=datasets
    )
    with signals:
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

    def parts(self, resume: bool, fresh: bool, accept_drift: bool) -> Generator[Underway, None, Report]:
        """Run to the report; where updates are made by somebody else it pauses for them.

        Whatever goes wrong with these updates is to be thrown into it. The flags are those of `launch`.
        """
        back = Rollbacks()
        while True:
            try:
                with rundir.RunFolder(self.path, resume, fresh, self.light) as place:
                    return (yield from _attempt(self, place, back, accept_drift))
            except GoBack:
                resume, fresh, accept_drift = True, False, True
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
            found = resuming.find(place, recipe) if place.continues else None
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
            )
            run = built.run
            if found is not None:
                resuming.refuse_finished(place, found, run)
                found.restore(run)
        signals.run = run
        signals.wish()
        now = _environment(recipe, run, launch.command)
        differs: dict[str, tuple[Any, Any]] = {}
        if found is not None:
            differs = resuming.check_environment(place, found, now, accept_drift)
            resuming.check_state(run, found, plugins, accept_drift)
        if place.continues:
            resuming.begin(place, found, run.say)
        elif (aside := place.clear()) is not None:
            run.say(f"the run that was here is kept in {aside}; this one starts from the beginning")
        if found is None and (lost := mute(run)):
            run.say(resuming.lost_state(run, plugins, lost))
        _remember(place, run, found, now, differs)
        place.describe(fill_toml(recipe), now)
        started = True
        back.apply(run)
        # Of runs that are trained together none ends the keeping of pages for the others.
        with keep_pages(run.recipe["run"]["keep_pages"] and not launch.together), contextlib.closing(run.feed):
            return (yield from _run(built, place, launch, back, found))
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


def _said_to(place: rundir.RunFolder, tell: Callable[[str], None]) -> Callable[[str], None]:
    def say(text: str) -> None:
        place.log(text)
        tell(f"note: {text}")

    return say


def _environment(recipe: Recipe, run: Run, command: str) -> dict[str, Any]:
    versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
    return environment(run.seed, str(run.device), command, versions, run.precision.name, recipe.tables.bases)


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
        "changed": {change.key: {"was": change.was, "is": change.now, "rule": change.rule} for change in found.changes},
        "accepted": {key: {"was": was, "is": value} for key, (was, value) in differs.items()},
    }
    remember(place.path, "resume", run.step, command, **more)


def _run(
    built: Built,
    place: rundir.RunFolder,
    launch: Launch,
    back: Rollbacks,
    found: Continued | None = None,
) -> Generator[Underway, None, Report]:
    run, plugins = built.run, launch.plugins
    recorder = Recorder(run, place)
    if found is not None:
        with fitting(found.folder):
            recorder.restore(found.recorded)
    if launch.profile:
        from trainkit.profile import measured

        built = measured(built, recorder)
    try:
        place.log(f"start: {run.total_updates} updates on {run.device}, {run.precision.name}")
        status, reason = yield from _trained(built, recorder, found, launch)
        report = report_of(recorder, status, reason)
        place.report(report.as_dict())
        with contextlib.suppress(OSError):  # the report says the same
            place.log(f"{report.status}: {report.reason}")
    except (TrainkitError, OSError) as error:
        error = named(error, plugins, run)
        if isinstance(error, NotFinite):
            try:
                back.add(error, run)
            except RunError as used_up:
                error = used_up
            else:
                back.forget(place.path / "checkpoints")
                raise GoBack from error
        report = failure_report(recorder, str(error))
        with contextlib.suppress(OSError):  # a full disk has no room for these either
            place.log(f"failed: {error}")
            place.report(report.as_dict())
        _close(run, report, place, launch)
        raise error
    checkpoint.tidy(place.path / "checkpoints")
    _close(run, report, place, launch)
    return report


def _trained(
    built: Built, recorder: Recorder, found: Continued | None, launch: Launch
) -> Generator[Underway, None, tuple[Status, str]]:
    """Train, and measure the test where that is wanted; how the run ended and why.

    Raises:
        TrainkitError: if it failed.
    """
    run = built.run
    try:
        for stretch in course(run, built.program, recorder, None if found is None else partial(found.wake, run)):
            if launch.together:
                stretch.recipe = launch.recipe
                yield stretch
            else:
                make_updates(stretch)
        stopped, interrupted = run.stop_reason, run.interrupted
        if launch.test and not interrupted and "test" in run.feed.spec.sizes:
            recorder.evaluate("test")
    except CutShort:
        if stopped:  # by the recipe, before the signal
            return "stopped", f"{stopped}; a signal came while the test was measured: 'trainkit evaluate' measures it"
        return "interrupted", "a signal came while the test was measured; all planned updates are made"
    except (Exception, SystemExit) as error:
        said = named(error, launch.plugins, run)
        # Ctrl-C reaches compilers and other helpers too, whose end the run may notice before its next step boundary.
        if run.interrupted and not isinstance(error, TrainkitError | OSError | MemoryError):
            return "interrupted", f"{run.stop_reason}; the update that it met was not made: {said}"
        if found is not None and recorder.saved_at <= found.position and not out_of_memory(error):
            said = held_against_state(error, said, found.folder, run, found.state) or said
        raise said from error
    finally:
        recorder.close()
    return ("interrupted" if interrupted else "stopped" if stopped else "finished"), (
        stopped or "all planned updates made"
    )


def _close(run: Run, report: Report, place: rundir.RunFolder, launch: Launch) -> None:
    """Let listeners close, each of them; what fails here is said and does not change the result."""
    hook, given = run.hook.trainkit_run_end, {"run": run, "report": report}
    impls = hook.get_hookimpls()
    closing: list[Callable[[], object]] = [
        partial(impl.function, *(given[name] for name in impl.argnames)) for impl in reversed(impls)
    ]
    if any(impl.wrapper or impl.hookwrapper for impl in impls):  # they stand around all others
        closing = [partial(hook, **given)]
    for close in closing:
        try:
            close()
        except Exception as error:
            blamed = launch.plugins.blame(error) or error
            with contextlib.suppress(OSError):
                place.log(f"after the run: {blamed}")
            launch.say(f"warning: the run is over and its report stands, but {blamed}")
