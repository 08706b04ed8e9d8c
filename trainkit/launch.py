"""One recipe to one finished run folder, signals and failures included."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from trainkit import checkpoint, resuming, rundir
from trainkit.allocator import keep_pages
from trainkit.build import Built, build
from trainkit.console import say as console_say
from trainkit.environment import environment
from trainkit.errors import Exit, TrainkitError
from trainkit.history import remember
from trainkit.loop import train
from trainkit.manager import Plugins
from trainkit.outcome import named, report_of
from trainkit.protocols import Progress, silent
from trainkit.recipe import Recipe, fill_toml
from trainkit.recorder import Recorder
from trainkit.restore import Continued
from trainkit.run import Report, Run
from trainkit.smoke import smoke as run_smoke
from trainkit.stateful import mute
from trainkit.verified import fitting


class StoppedEarly(TrainkitError):
    """A signal came before the run had started; nothing was written."""

    exit_code = Exit.STOPPED


class Signals:
    """Turns the first SIGINT or SIGTERM into a wish to stop, and the second into the end of the process."""

    def __init__(self) -> None:
        self.name = ""
        self.run: Run | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may set handlers; elsewhere the embedding program owns the signals.
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name:
            os._exit(128 + number)
        self.name = signal.Signals(number).name
        self.wish()

    def wish(self) -> None:
        """Tell the run, if there is one yet, to stop at the next step boundary."""
        if self.name and self.run is not None:
            self.run.stop_reason, self.run.interrupted = f"signal {self.name}", True


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

    Returns:
        How the run ended: finished, stopped by the recipe, or interrupted by a signal.

    Raises:
        TrainkitError: whatever kept the run from starting or made it fail; its exit code says which.
    """
    if smoke:
        return run_smoke(recipe, plugins, listeners, progress)
    path = folder or rundir.runs_root() / rundir.new_folder_name(recipe.path)
    with Signals() as signals, rundir.RunFolder(path, resume, fresh) as place:
        started = False
        try:
            found = resuming.find(place, recipe) if place.continues else None
            hold = () if found is None else (found.schedule_updates, found.settle)
            built = build(recipe, plugins, path, progress, listeners, _said_to(place), *hold)
            run = built.run
            if found is not None:
                resuming.refuse_finished(place, found, run)
                found.restore(run)
            if signals.name:
                raise StoppedEarly(f"stopped by {signals.name} before the first update; nothing was written")
            signals.run = run
            signals.wish()
            now = _environment(recipe, run, command)
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
            with keep_pages(run.recipe["run"]["keep_pages"]):
                return _run(built, place, plugins, profile, found)
        finally:
            if not started:
                place.discard()


def _said_to(place: rundir.RunFolder) -> Callable[[str], None]:
    def say(text: str) -> None:
        place.log(text)
        console_say(f"note: {text}")

    return say


def _environment(recipe: Recipe, run: Run, command: str) -> dict[str, Any]:
    versions = dict(plugin.recorded_version for plugin in recipe.plugins_in_use())
    return environment(run.seed, str(run.device), command, versions, run.precision.name)


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
        remember(place.path, "start", 0, command, environment=now)
        return
    more = {
        "checkpoint": found.folder.name,
        "changed": {change.key: {"was": change.was, "is": change.now, "rule": change.rule} for change in found.changes},
        "accepted": {key: {"was": was, "is": value} for key, (was, value) in differs.items()},
    }
    remember(place.path, "resume", run.step, command, **more)


def _run(
    built: Built, place: rundir.RunFolder, plugins: Plugins, profile: bool, found: Continued | None = None
) -> Report:
    run = built.run
    recorder = Recorder(run, place)
    wake = None
    if found is not None:
        with fitting(found.folder):
            recorder.restore(found.recorded)
        wake = partial(found.wake, run)
    if profile:
        from trainkit.profile import measured

        built = measured(built, recorder)
    place.log(f"start: {run.total_updates} updates on {run.device}, {run.precision.name}")
    try:
        try:
            train(run, built.program, recorder, wake)
            # A signal that comes while the test is measured finds nothing left to interrupt.
            stopped, interrupted = run.stop_reason, run.interrupted
            if not interrupted and "test" in run.feed.spec.sizes:
                recorder.evaluate("test")
        except Exception as error:
            raise named(error, plugins, run) from error
    except TrainkitError as error:
        report = report_of(recorder, "failed", str(error))
        with contextlib.suppress(OSError):  # a full disk has no room for these either
            place.log(f"failed: {error}")
            place.report(report.as_dict())
        _close(run, report, place, plugins)
        raise
    status = "interrupted" if interrupted else "stopped" if stopped else "finished"
    report = report_of(recorder, status, stopped or "all planned updates made")
    place.report(report.as_dict())
    place.log(f"{report.status}: {report.reason}")
    checkpoint.tidy(place.path / "checkpoints")
    _close(run, report, place, plugins)
    return report


def _close(run: Run, report: Report, place: rundir.RunFolder, plugins: Plugins) -> None:
    """Let listeners close; what fails here is said and does not change the result."""
    try:
        run.hook.trainkit_run_end(run=run, report=report)
    except Exception as error:
        blamed = plugins.blame(error) or error
        with contextlib.suppress(OSError):
            place.log(f"after the run: {blamed}")
        console_say(f"warning: the run is over and its report stands, but {blamed}")
