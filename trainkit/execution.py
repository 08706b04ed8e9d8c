"""A run that is built, to its report: what is due while it trains, and what becomes of whatever goes wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

from trainkit import checkpoint, rundir
from trainkit.build import Built
from trainkit.distributed import ONE
from trainkit.distributed.attempts import BEGUN
from trainkit.distributed.batchnorm import exchange_of
from trainkit.doubts import held_against_state
from trainkit.errors import NotFinite, RunError, TrainkitError
from trainkit.loop import Underway, course, make_updates
from trainkit.memory import watch_memory
from trainkit.microbatch import out_of_memory
from trainkit.outcome import failure_report, named, report_of
from trainkit.recorder import Recorder
from trainkit.restore import Continued
from trainkit.rollback import GoBack, Rollbacks
from trainkit.run import Report, Run, Status
from trainkit.signals import CutShort
from trainkit.verified import fitting

if TYPE_CHECKING:
    from trainkit.launch import Launch


def execute(
    built: Built,
    place: rundir.RunFolder,
    launch: Launch,
    back: Rollbacks,
    found: Continued | None = None,
) -> Generator[Underway, None, Report]:
    """Train a run that is built, measure its test, and write its report.

    Args:
        built: the run.
        place: its folder.
        launch: what it was launched with.
        back: how often it has gone back to a checkpoint.
        found: the checkpoint that it goes on from.

    Raises:
        GoBack: if it is to be built again, from its newest checkpoint.
        TrainkitError: if it failed; its report says so.
    """
    run, plugins = built.run, launch.plugins
    if not launch.together:  # else the peaks are those of all runs that are trained at once
        watch_memory(run.device)
    recorder = Recorder(run, place)
    if found is not None:
        with fitting(found.folder):
            recorder.restore(found.recorded)
    launch.note(BEGUN)
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
    if run.sharded is not None:
        run.sharded.gather()
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
    if run.sharded is not None:
        run.sharded.close()
    run.group = ONE  # what is measured from here on is measured by this process alone, and statistics are too
    if (exchange := exchange_of(run.model)) is not None:
        exchange.group = ONE
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
